"""Folders for results, and text files that appear under their names when they are complete."""

from __future__ import annotations

import json
import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from fca.errors import InputError

__all__ = ["make_folder", "write_json", "write_text"]


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


def write_text(path: Path, text: str) -> None:
    """Write under a temporary name, then rename; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON as :func:`write_text` does."""
    write_text(path, json.dumps(content, indent=1) + "\n")
