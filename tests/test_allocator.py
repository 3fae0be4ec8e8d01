"""Freed memory: kept for the next iteration, given back between blocks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from fca.allocator import keep_freed_memory, release_freed_memory


def resident() -> int:
    """Memory of this process in use, in bytes."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_is_given_back() -> None:
    keep_freed_memory()
    held = [torch.ones(2**20) for _ in range(64)]  # 4 MiB each, on the heap
    last = torch.ones(2**20)
    before = resident()
    del held
    release_freed_memory()
    assert before - resident() > 200 * 2**20
    assert float(last.sum()) == 2**20
