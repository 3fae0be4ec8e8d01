"""Memory that is freed and soon needed again."""

from __future__ import annotations

import ctypes
import sys

import torch

_LARGEST = 2**25 - 2**16
"""Size in bytes just below the largest block that the threshold of glibc adapts to (32 MiB)."""


def keep_freed_memory() -> None:
    """Let the C library keep freed arrays of up to 32 MiB for the next iteration.

    glibc maps larger blocks anew each time, with a page fault for every page, until a block of that
    size has been freed once: its threshold adapts (``M_MMAP_THRESHOLD``, mallopt(3)). The block
    that is freed here is never written to, so that it costs nothing. Other allocators are not
    affected.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")


def release_freed_memory() -> None:
    """Return freed memory to the system, also from between arrays in use.

    Long recordings would otherwise fragment memory more with every block. Does nothing without
    glibc.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
