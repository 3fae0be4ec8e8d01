"""Several pieces of work at a time, each in a thread of its own, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

T = TypeVar("T")
R = TypeVar("R")


def one_thread() -> threadpool_limits:
    """Let PyTorch compute in this thread alone, from here on or within ``with one_thread():``.

    ``torch.set_num_threads`` is no substitute: it counts for the whole process, and where it has
    been called with more than one, PyTorch factorises batches of large matrices wrongly (its issues
    141358 and 142815).
    """
    torch.get_num_threads()  # sets the number of a new thread, which would otherwise happen later
    return threadpool_limits(1, user_api="openmp")


def in_order(
    work: Callable[[T], R], items: Iterable[T], n_workers: int
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """Each item, in order, with a function that returns, or raises, what ``work`` does with it.

    At most ``n_workers`` items are worked on, or wait to be asked for, at a time; further ones are
    not even taken. With one worker the work is done when it is asked for, in this thread; with
    several, PyTorch computes each item in one thread. An iterator that is closed waits for what is
    being worked on.

    Parameters
    ----------
    work : callable
        Has to be safe to run in several threads.
    items : iterable
        Taken in this thread.
    n_workers : int
        At least one.
    """
    if n_workers == 1:
        for item in items:
            yield item, partial(work, item)
        return
    pool = ThreadPoolExecutor(n_workers, initializer=one_thread)
    begun: deque[tuple[T, Callable[[], R]]] = deque()
    try:
        for item in items:
            begun.append((item, pool.submit(work, item).result))
            if len(begun) == n_workers:
                yield begun.popleft()
        while begun:
            yield begun.popleft()
    finally:
        pool.shutdown(cancel_futures=True)
