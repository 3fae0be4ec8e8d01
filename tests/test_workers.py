"""Work in several threads: in order, not too far ahead, and ended when nobody listens any more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from fca.workers import in_order


def taken(n_items: int, log: list[int]) -> Iterator[int]:
    for item in range(n_items):
        log.append(item)
        yield item


@pytest.mark.parametrize("n_workers", [1, 2, 3, 8])
def test_results_come_in_order_and_items_are_taken_when_needed(n_workers: int) -> None:
    log: list[int] = []
    for item, result in in_order(lambda x: x**2, taken(6, log), n_workers):
        assert result() == item**2
        assert len(log) <= item + n_workers
    assert log == list(range(6))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_is_that_of_its_item(n_workers: int) -> None:
    work = in_order(lambda x: 1 / (x - 1), range(3), n_workers)
    _, first = next(work)
    _, second = next(work)
    _, third = next(work)
    with pytest.raises(ZeroDivisionError):
        second()
    assert (first(), third()) == (-1.0, 1.0)


def test_several_workers_work_at_the_same_time_in_one_thread_each() -> None:
    before, both = torch.get_num_threads(), threading.Barrier(2, timeout=20)

    def meet(_: int) -> int:
        both.wait()  # raises if the other one does not come
        return torch.get_num_threads()

    assert [result() for _, result in in_order(meet, range(4), 2)] == [1] * 4
    assert torch.get_num_threads() == before


LARGE_SYSTEMS = """
import torch
from fca.workers import in_order

for _, result in in_order(abs, range(4), 2):
    result()
matrix = torch.randn(4, 300, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
solution = torch.linalg.solve(matrix, matrix)
print(torch.get_num_threads(), bool((solution - torch.eye(300)).abs().max() < 1e-9))
"""


def test_large_systems_are_solved_afterwards() -> None:
    # as torch.set_num_threads would break, in a process with several threads
    several = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    done = subprocess.run(
        [sys.executable, "-c", LARGE_SYSTEMS],
        env=several,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.split(), done.returncode) == (["2", "True"], 0), done.stderr


def test_nothing_is_begun_after_the_end() -> None:
    begun: list[int] = []
    work = in_order(begun.append, range(100), 2)
    _, first = next(work)
    first()
    work.close()
    assert len(begun) <= 3
