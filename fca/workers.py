"""Several pieces of work at a time, each in a thread of its own, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


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
    n_threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,))
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
        torch.set_num_threads(n_threads)  # which some libraries keep for the whole process
