"""What the user names on the command line: which files form which recording, and its name."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path

from fca.audio import SUFFIXES
from fca.errors import InputError

# What stands before the channel number at the end of a name: X.CH1, X_mic2, X-ch03, X_c4, X.5
_CHANNEL = re.compile(r"(?P<name>.*?)[._\- ]*(?:channel|mic|ch|c)?[._\- ]*(?P<number>\d+)", re.I)

Problem = tuple[str, str]
"""An input and what is wrong with it."""


@dataclass(frozen=True)
class Recording:
    """One thing to separate.

    Attributes
    ----------
    name : str
        Path of its results below the output folder; unique within a run.
    files : tuple of Path
        One file with all channels, or one file per microphone in order.
    """

    name: str
    files: tuple[Path, ...]

    @property
    def label(self) -> str:
        """What messages call it."""
        more = f" (+ {len(self.files) - 1} files)" if len(self.files) > 1 else ""
        return f"{self.files[0]}{more}"


def collect(
    inputs: Iterable[str],
    out: Path,
    file_per_channel: bool = False,
    listed: Iterable[Recording] = (),
) -> tuple[list[Recording], list[Problem]]:
    """Recordings that the inputs name, and what is wrong with inputs that name none.

    Parameters
    ----------
    inputs : iterable of str
        Files, folders (searched with their subfolders), patterns, and comma-separated lists of one
        file per microphone.
    out : Path
        Output folder; not searched.
    file_per_channel : bool
        Join files whose names differ in the number at their end only.
    listed : iterable of Recording
        Others, from a manifest.

    Raises
    ------
    InputError
        If the output folder is also to be searched.
    """
    found = list(listed)
    problems: list[Problem] = []
    for text in inputs:
        recordings = _expand(text, out)
        if not recordings:
            problems.append((text, "no audio files there"))
        found += recordings
    found = _without_repeats(found)
    if file_per_channel:
        found, unnumbered = _join_channels(found)
        problems += unnumbered
    return _unique_names(found), problems


def _expand(text: str, out: Path) -> list[Recording]:
    path = Path(text)
    if path.is_dir():
        return _search(path, out)
    if path.exists():
        return [_single(path)]
    if "," in text:
        files = tuple(Path(part) for part in text.split(","))
        return [Recording(files[0].stem, files)]
    if has_magic(text):
        paths = (Path(match) for match in sorted(glob(text, recursive=True)))  # noqa: PTH207
        return [_single(path) for path in paths if path.is_file()]
    return [_single(path)]  # reading it tells that it is missing


def _single(path: Path) -> Recording:
    return Recording(path.stem, (path,))


def _search(folder: Path, out: Path) -> list[Recording]:
    if out.resolve() == folder.resolve():
        raise InputError(f"{folder} is searched for recordings, so the results must go elsewhere")
    results = out.resolve()
    return [
        Recording(path.relative_to(folder).with_suffix("").as_posix(), (path,))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and results not in path.resolve().parents
    ]


def _without_repeats(recordings: list[Recording]) -> list[Recording]:
    """Drop what was named twice, by a folder and by a pattern, say."""
    first: dict[tuple[Path, ...], Recording] = {}
    for recording in recordings:
        first.setdefault(tuple(file.resolve() for file in recording.files), recording)
    return list(first.values())


def _join_channels(recordings: list[Recording]) -> tuple[list[Recording], list[Problem]]:
    """Join files that differ in their channel number only; and a line for each that cannot be."""
    joined = [recording for recording in recordings if len(recording.files) > 1]
    channels: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    problems = []
    for recording in recordings:
        file = recording.files[0]
        match = _CHANNEL.fullmatch(file.stem)
        if recording in joined:
            continue
        if match is None:
            problems.append((str(file), "the name does not end in a channel number"))
            continue
        name = _joined_name(Path(recording.name).parent, file, match["name"])
        first = channels[file.parent, name].setdefault(int(match["number"]), file)
        if first != file:
            problems.append((str(file), f"has the same channel number as {first}"))
    for (_, name), files in channels.items():
        joined.append(Recording(name, tuple(files[number] for number in sorted(files))))
    return joined, problems


def _joined_name(folder: Path, file: Path, prefix: str) -> str:
    """Name of a recording in ``folder``; files called 1.wav, 2.wav are named after theirs."""
    if prefix:
        return (folder / prefix).as_posix()
    return folder.as_posix() if folder.name else file.resolve().parent.name


def _unique_names(recordings: Sequence[Recording]) -> list[Recording]:
    """Tell recordings of the same name apart by their folders and suffixes."""
    count = Counter(recording.name for recording in recordings)
    clashing = [r for r in recordings if count[r.name] > 1]
    if not clashing:
        return list(recordings)
    common = os.path.commonpath([r.files[0].resolve().parent for r in clashing])
    return [
        replace(r, name=r.files[0].resolve().relative_to(common).as_posix())
        if count[r.name] > 1
        else r
        for r in recordings
    ]
