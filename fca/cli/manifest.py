"""Corpora on the command line: lists of recordings, and shares of them for job arrays."""

from __future__ import annotations

import re
from pathlib import Path

from fca.cli.inputs import Recording
from fca.errors import InputError
from fca.files import leads_out, read_text


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
        If the file cannot be read, or lists nothing or what cannot name a folder.
    """
    from fca.adapters.kaldi import read_scp

    lines = _lines(path)
    if path.suffix == ".scp":
        table = read_scp(path)
        found = [Recording(name, (Path(file),), firm=True) for name, file in table.items()]
    else:
        lines = [(number, line) for number, line in lines if not line.startswith("#")]
        found = [_recording(line) for _, line in lines]
    for (number, _), recording in zip(lines, found, strict=True):
        if leads_out(recording.name):
            raise InputError(f"{path}, line {number}: {recording.name!r} cannot name a folder")
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


def _lines(path: Path) -> list[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    lines = enumerate((line.strip() for line in read_text(path).splitlines()), start=1)
    return [(number, line) for number, line in lines if line]


def _recording(line: str) -> Recording:
    if Path(line).exists() or "," not in line:
        return Recording(Path(line).stem, (Path(line),))
    files = tuple(Path(part) for part in line.split(","))
    return Recording(files[0].stem, files)
