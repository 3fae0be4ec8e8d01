"""What results belong to: the content of files, wherever they lie and whenever they were copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

PIECE = 1 << 20
"""Bytes that are looked at in the beginning, the middle and the end of large files."""

Fingerprints = list[list[int | str]]
"""Size and hash of every file of a recording, as JSON has them."""


def fingerprints(files: Iterable[Path]) -> Fingerprints | None:
    """Size and hash (SHA-256) of every file; None if one cannot be read.

    A file of more than three times :data:`PIECE` bytes is judged by three pieces of it, so that a
    large corpus is gone through quickly.
    """
    try:
        return [_fingerprint(file) for file in files]
    except OSError:
        return None


def _fingerprint(path: Path) -> list[int | str]:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= 3 * PIECE:
            digest.update(file.read())
        else:
            for start in (0, (size - PIECE) // 2, size - PIECE):
                file.seek(start)
                digest.update(file.read(PIECE))
    return [size, digest.hexdigest()]
