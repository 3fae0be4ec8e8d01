"""Folders for results, files that appear under their names when they are complete, and text."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from fca.errors import InputError

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]+\.tmp")

__all__ = [
    "leads_out",
    "make_folder",
    "make_temporary",
    "read_bytes",
    "read_text",
    "rename",
    "replacing",
    "temporaries",
    "write_json",
    "write_text",
]


def leads_out(name: str) -> bool:
    """Whether a name leads out of the folder for what it names, or names nothing there."""
    path = Path(name)
    return path.is_absolute() or ".." in path.parts or not path.name


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

    Left by an exception, it leaves nothing behind, and what was there before stays. A machine that
    fails leaves one or the other, too.
    """
    temporary = make_temporary(path)
    try:
        yield temporary
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_temporary(path: Path) -> Path:
    """An empty file beside ``path``, hidden and of this caller alone; it does not keep the suffix.

    Raises
    ------
    OSError
        If there can be none.
    """
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.touch(exist_ok=False)
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(f"{path}: cannot be written ({error.strerror})") from None
        return temporary


def temporaries(folder: Path) -> list[Path]:
    """Temporary files in a folder, of whatever run; none if there is no such folder."""
    try:
        return [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]
    except OSError:
        return []


def rename(temporary: Path, path: Path) -> None:
    """Give a file that is complete its name, for good: it is on the disk before its name is."""
    _keep(temporary, os.O_RDWR)
    temporary.replace(path)
    with contextlib.suppress(PermissionError):  # some folders can be written to, but not opened
        _keep(path.parent, os.O_RDONLY)


def _keep(path: Path, mode: int) -> None:
    """Have the system write a file or folder to the disk now, where it can be told to."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


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
