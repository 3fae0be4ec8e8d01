"""Memory that is freed and wanted again at once."""

from __future__ import annotations

import ctypes
import sys

import torch

_LARGEST = 2**25 - 2**16
"""Bytes: just below the largest block that the C library's threshold follows (32 MiB)."""


def keep_freed_memory() -> None:
    """Let the C library keep freed arrays of up to 32 MiB for the next iteration.

    glibc maps larger blocks anew each time, and faults in every page, until a block of such a size
    has been freed once: its threshold follows (``M_MMAP_THRESHOLD``, mallopt(3)). The block is
    never written to, so that it costs nothing; other allocators take no notice.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")


def release_freed_memory() -> None:
    """Give back to the system what is freed, also between arrays in use.

    Long recordings would otherwise leave more and more holes from block to block. Nothing happens
    where there is no glibc.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
