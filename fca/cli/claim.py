"""Claims on the folders of recordings: one run at a time, which sweeps up after killed ones.

A claim is a lock on a file in the folder. The system gives it up when the run ends, however it
does. Where a file system has no locks nothing is claimed, and nothing swept up.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from fca.errors import InputError
from fca.files import temporaries

__all__ = ["claimed", "tidy"]

LOCK = ".fca.lock"
DAY = 24 * 3600.0
_BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder that other runs leave alone within the context.

    Temporary files of runs that were killed are removed. If the context is left by an exception, so
    is a folder that was not there before and holds nothing.

    Raises
    ------
    InputError
        If another run works on the folder, or a file is where it would be.
    """
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{folder}: a file is where this folder would be") from None
    try:
        with _locked(folder):
            yield
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def tidy(folder: Path) -> None:
    """Sweep up in a folder that needs nothing else, unless another run works on it."""
    if temporaries(folder) or (folder / LOCK).exists():
        with contextlib.suppress(InputError, OSError), claimed(folder):
            pass


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    path = folder / LOCK
    descriptor = _lock(path)
    if descriptor is None:
        yield
        return
    try:
        _sweep(folder, owner=os.read(descriptor, 1000).decode(errors="replace"))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, platform.node().encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # before others can have the lock
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Descriptor of the file, locked; None if that is not possible here.

    Raises
    ------
    InputError
        If another run has locked it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:  # of another user, maybe
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _BUSY:
                raise InputError(f"{path.parent} is being worked on by another run") from None
            path.unlink(missing_ok=True)
            return None
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # of a run that has just ended


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sweep(folder: Path, owner: str) -> None:
    """Remove temporary files of which it is certain that nobody writes to them any more.

    The lock is ours. A run of this machine that has left its lock behind, with the machine's name
    in it, was killed. Other runs may not see our locks: theirs are old after a day.
    """
    killed, yesterday = owner == platform.node(), time.time() - DAY
    for temporary in temporaries(folder):
        with contextlib.suppress(FileNotFoundError):
            if killed or temporary.stat().st_mtime < yesterday:
                temporary.unlink()
