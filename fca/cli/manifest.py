"""Corpora on the command line: lists of recordings, and shares of them for job arrays."""

from __future__ import annotations

import re
from pathlib import Path

from fca.cli.inputs import Recording
from fca.errors import InputError
from fca.files import read_text


def read_manifest(path: Path) -> list[Recording]:
    """Recordings that a file lists.

    Parameters
    ----------
    path : Path
        A Kaldi ``wav.scp`` (lines ``ID PATH``; results are named by the ids) if its name ends in
        .scp. Otherwise each line is one path, or one per microphone with commas between. Empty
        lines and those that start with # are ignored.

    Raises
    ------
    InputError
        If the file cannot be read, or lists nothing.
    """
    from fca.adapters.kaldi import read_scp

    if path.suffix == ".scp":
        found = [Recording(name, (Path(file),), firm=True) for name, file in read_scp(path).items()]
    else:
        found = [_recording(line) for line in _lines(path)]
    if not found:
        raise InputError(f"{path}: lists no recordings")
    return found


def shard(recordings: list[Recording], text: str) -> list[Recording]:
    """Every n-th recording from the i-th on, for ``text`` i/n with i from 1.

    Raises
    ------
    InputError
        If the text is not of that form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise InputError(f"--shard {text!r}: i/n with i from 1 to n is expected, such as 3/10")
    return recordings[index - 1 :: count]


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _recording(line: str) -> Recording:
    if Path(line).exists() or "," not in line:
        return Recording(Path(line).stem, (Path(line),))
    files = tuple(Path(part) for part in line.split(","))
    return Recording(files[0].stem, files)
