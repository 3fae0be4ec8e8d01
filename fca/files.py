"""Folders for results, files that appear under their names when they are complete, and text."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from fca.errors import InputError

__all__ = [
    "make_folder",
    "read_bytes",
    "read_text",
    "replacing",
    "temporary_name",
    "write_json",
    "write_text",
]


def make_folder(folder: Path) -> None:
    """Make a folder and see that files can be written there, before there is work to lose.

    Raises
    ------
    InputError
        If they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from None


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that appears under its name only when the context is left.

    Left by an exception, it leaves nothing behind, and what was there before stays.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Hidden, in the same folder, and of this process alone; it does not keep the suffix."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def read_text(path: Path) -> str:
    """Text in UTF-8, with or without a byte-order mark.

    Raises
    ------
    InputError
        If the file cannot be read, or holds something else.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8") from None


def read_bytes(path: Path) -> bytes:
    """All that a file holds.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a file as :func:`replacing` does, in UTF-8; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write JSON as :func:`write_text` does."""
    write_text(path, json.dumps(content, indent=1) + "\n")
