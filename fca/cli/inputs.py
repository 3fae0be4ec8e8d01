"""Recordings named on the command line: which files form each, and what it is called."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path

from fca.audio import SUFFIXES
from fca.errors import InputError, counted, printable
from fca.files import leads_out

# A name that ends in a channel number, with what may stand before it: X.CH1, X_mic2, X-ch03, X.5
_CHANNEL = re.compile(r"(?P<name>.*?)[._\- ]*(?:channel|mic|ch|c)?[._\- ]*(?P<number>\d+)", re.I)
# How names begin of the files in which macOS keeps what other file systems have no place for.
_BESIDE = "._"

Problem = tuple[str, str]
"""An input and what is wrong with it."""


@dataclass(frozen=True)
class Recording:
    """A recording to process.

    Attributes
    ----------
    name : str
        Path of its results in the output folder; unique within a run, and printable.
    files : tuple of Path
        One file with all channels, or one file per microphone in order.
    id : str
        Its name in RTTM files, unique within a run; the last part of ``name`` unless given.
    firm : bool
        Whether its name is a path inside a folder or an id of a manifest: files that are called
        alike yield to it.
    """

    name: str
    files: tuple[Path, ...]
    id: str = ""
    firm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", printable(self.name))
        if not self.id:
            object.__setattr__(self, "id", Path(self.name).name)

    @property
    def label(self) -> str:
        """Its name in messages."""
        more = f" (+ {counted(len(self.files) - 1, 'file')})" if len(self.files) > 1 else ""
        return printable(f"{self.files[0]}{more}")


def collect(
    inputs: Iterable[str],
    out: Path,
    file_per_channel: bool = False,
    listed: Iterable[Recording] = (),
) -> tuple[list[Recording], list[Problem]]:
    """Recordings that the inputs name, and what is wrong with inputs that name none.

    A recording in a folder is named by its path there, and a file by its stem, whatever the other
    inputs are, so that further runs find its results; longer names are for those that clash.

    Parameters
    ----------
    inputs : iterable of str
        Files, folders (searched with their subfolders, but not with linked ones), patterns, and
        comma-separated lists of one file per microphone. Names that begin with ``._``, which macOS
        gives to what it keeps beside files, are passed over in folders.
    out : Path
        Output folder, which is not searched.
    file_per_channel : bool
        Join files whose names differ only in the number at their end.
    listed : iterable of Recording
        Further recordings, from a manifest.

    Raises
    ------
    InputError
        If the output folder is one of those to search, results would leave it by an id of the
        manifest or replace each other, or a list has an empty entry or names a file twice.
    """
    ids = list(listed)
    found: list[Recording] = []
    problems: list[Problem] = []
    for text in inputs:
        recordings = _expand(text, out)
        if not recordings:
            problems.append((text, _nothing(text)))
        found += recordings
    unnamed = [r for r in found if not _names_a_folder(r.name)]
    problems += [(r.label, f"{r.name!r} cannot name a folder") for r in unnamed]
    found = _without_repeats(ids, [r for r in found if r not in unnamed])
    if file_per_channel:
        found, unnumbered = _join_channels(found)
        problems += unnumbered
    named = _unique_names(found)
    _check_names(named)
    return _with_ids(named), [(printable(what), printable(why)) for what, why in problems]


def _nothing(text: str) -> str:
    return "no audio files there" if Path(text).is_dir() else "no file matches"


def _expand(text: str, out: Path) -> list[Recording]:
    path = Path(text)
    if path.is_dir():
        return _search(path, out)
    if path.exists():
        return [_single(path)]
    if "," in text:
        return [_joined(text)]
    if has_magic(text):
        paths = (Path(match) for match in sorted(glob(text, recursive=True)))  # noqa: PTH207
        return [_single(path) for path in paths if path.is_file()]
    return [_single(path)]  # reading it will report that it is missing


def _joined(text: str) -> Recording:
    """A recording given by one file per microphone, with commas between."""
    names = text.split(",")
    if not all(names):
        raise InputError(f"{text}: a name is missing beside a comma")
    if len(set(names)) < len(names):
        raise InputError(f"{text}: a file is named twice")
    files = tuple(map(Path, names))
    return Recording(files[0].stem, files)


def _single(path: Path) -> Recording:
    return Recording(path.stem, (path,))


def _search(folder: Path, out: Path) -> list[Recording]:
    if out.resolve() == folder.resolve():
        raise InputError(f"{folder} is searched for recordings, so the results must go elsewhere")
    results = out.resolve() if folder.resolve() in out.resolve().parents else None
    return [
        Recording(path.relative_to(folder).with_suffix("").as_posix(), (path,), firm=True)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(_BESIDE)
        and path.is_file()
        and results not in path.resolve().parents
    ]


def _without_repeats(listed: list[Recording], found: list[Recording]) -> list[Recording]:
    """Drop recordings named twice, as by a folder and a pattern, but not other ids of a list."""
    first: dict[tuple[object, ...], Recording] = {}
    for recording in listed:
        first.setdefault((recording.name, *_resolved(recording)), recording)
    known = {_resolved(recording) for recording in listed}
    firm = {_resolved(recording): recording for recording in reversed(found) if recording.firm}
    for recording in found:
        files = _resolved(recording)
        if files not in known:
            first.setdefault(files, firm.get(files, recording))
    return list(first.values())


def _resolved(recording: Recording) -> tuple[Path, ...]:
    return tuple(file.resolve() for file in recording.files)


def _join_channels(recordings: list[Recording]) -> tuple[list[Recording], list[Problem]]:
    """Join files that differ only in their channel number, and say which files cannot be joined."""
    joined = [recording for recording in recordings if len(recording.files) > 1]
    channels: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    firm: set[tuple[Path, str]] = set()
    problems: list[Problem] = []
    unnumbered: list[Path] = []
    for recording in recordings:
        file = recording.files[0]
        match = _CHANNEL.fullmatch(file.stem)
        if recording in joined:
            continue
        if match is None:
            unnumbered.append(file)
            continue
        name = _joined_name(Path(recording.name).parent, file, match["name"])
        place = file.parent, name
        first = channels[place].setdefault(int(match["number"]), file)
        if first != file:
            problems.append((str(file), f"has the same channel number as {first}"))
        if recording.firm:
            firm.add(place)
    for place, files in channels.items():
        ordered = tuple(files[number] for number in sorted(files))
        joined.append(Recording(place[1], ordered, firm=place in firm))
    return joined, [(str(file), _unnumbered(unnumbered)) for file in unnumbered] + problems


def _unnumbered(files: list[Path]) -> str:
    """What is wrong with files whose names do not say which channel they are."""
    hint = f"; others are joined by commas, as {files[0]},{files[1]}" if files[1:] else ""
    return f"the name does not end in a channel number{hint}"


def _joined_name(folder: Path, file: Path, prefix: str) -> str:
    """Name of a recording in ``folder``; files called 1.wav, 2.wav are named after their folder."""
    if prefix:
        return (folder / prefix).as_posix()
    return folder.as_posix() if folder.name else file.resolve().parent.name


def _unique_names(recordings: Sequence[Recording]) -> list[Recording]:
    """Tell recordings of the same name apart by folder, then by suffix, then by all their files."""
    placed = _renamed(recordings, _places(recordings))
    placed = _renamed(placed, {r: r.name + r.files[0].suffix for r in _clashing(placed)})
    return _renamed(placed, {r: _joint_name(r) for r in _clashing(placed)})


def _with_ids(recordings: Sequence[Recording]) -> list[Recording]:
    """Set each id to the last part of the name, or to all of it where several end alike."""
    count = Counter(Path(recording.name).name for recording in recordings)
    whole = {r: count[Path(r.name).name] > 1 for r in recordings}
    return [
        replace(r, id=r.name.replace("/", "_") if whole[r] else Path(r.name).name)
        for r in recordings
    ]


def _clashing(recordings: Sequence[Recording]) -> list[Recording]:
    """Recordings that need another name: all of the same one, but for the only firm one."""
    count = Counter(recording.name for recording in recordings)
    firm = Counter(recording.name for recording in recordings if recording.firm)
    return [r for r in recordings if count[r.name] > 1 and not (r.firm and firm[r.name] == 1)]


def _renamed(recordings: Sequence[Recording], names: dict[Recording, str]) -> list[Recording]:
    return [replace(r, name=names.get(r, r.name)) for r in recordings]


def _places(recordings: Sequence[Recording]) -> dict[Recording, str]:
    """Paths of the first files of those that clash, relative to the folder common to a name."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for recording in recordings:
        folders[recording.name].append(recording.files[0].resolve().parent)
    common = {name: os.path.commonpath(places) for name, places in folders.items()}
    files = {r: r.files[0].resolve().with_suffix("") for r in _clashing(recordings)}
    return {r: file.relative_to(common[r.name]).as_posix() for r, file in files.items()}


def _joint_name(recording: Recording) -> str:
    """Name made of all files, for a recording that shares its first file with another."""
    stems = "+".join(file.stem for file in recording.files)
    return (Path(recording.name).parent / stems).as_posix()


def _names_a_folder(name: str) -> bool:
    """Whether a name has no part that stands for another folder, as that of a file ``..wav``."""
    return not {".", ".."}.intersection(name.split("/"))


def _check_names(recordings: Sequence[Recording]) -> None:
    """Refuse names that lead out of the output folder, and a name for several recordings."""
    first: dict[Path, Recording] = {}
    for recording in recordings:
        if leads_out(recording.name):
            raise InputError(f"{recording.label}: {recording.name!r} cannot name a folder")
        other = first.setdefault(Path(recording.name), recording)
        if other is not recording:
            raise InputError(
                f"{other.label} and {recording.label} are both called {recording.name}"
            )
