"""Pairing: which files of estimates belong to which references, and reading them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fca import audio
from fca.errors import InputError, counted, whole
from fca.simulate.stored import MANIFEST, ROW, Item, read_rows

__all__ = ["REFERENCES", "Pair", "Signals", "find_pairs"]

Row = dict[str, Any]
Waveform = NDArray[np.float32]

REFERENCES = {
    "image": "reverberant images at the microphone of the estimates",
    "early": "images with direct sound and reflections within 50 ms only",
    "dry": "the utterances themselves, with the delay and level of their direct sound",
}
"""What talkers can be compared with, and a description of it."""
_PARTS = {"image": "images", "early": "early", "dry": "dry"}
_NO_TALKER = ("mixture", "residual", "noise")


@dataclass(frozen=True)
class Signals:
    """Waveforms of a recording: estimates and references (talkers, samples), mixture (samples,)."""

    references: Waveform
    estimates: Waveform
    mixture: Waveform | None
    sample_rate: int


@dataclass(frozen=True)
class Pair:
    """One recording: where its estimates, references and mixture are.

    Attributes
    ----------
    name : unique within an evaluation
    estimates, references : files whose channels are the talkers, in succession; if there are as
        many files of references as estimates, each may hold one talker at all microphones
    picked : channels of the references that are used; all if None
    mixture : file; None if it is unknown
    channel : microphone of the references, in the mixture and in files that hold all of them
    condition : kind of recording, for summaries
    activities : RTTM files of the reference and of the estimate, where both exist
    """

    name: str
    estimates: tuple[Path, ...]
    references: tuple[Path, ...]
    picked: tuple[int, ...] | None = None
    mixture: Path | None = None
    channel: int = 0
    condition: str = "all"
    activities: tuple[Path, Path] | None = None

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.name

    def read(self) -> Signals:
        """Read the waveforms.

        Raises
        ------
        InputError
            If a file cannot be read, or rates, lengths or numbers of talkers differ.
        """
        files, rate = _read(self.references)
        estimates, its_rate = _read_talkers(self.estimates)
        references = self._talkers(files, len(estimates))
        if self.picked is not None:
            references = references[list(self.picked)]
        if its_rate != rate:
            raise InputError(f"estimates at {its_rate} Hz, references at {rate} Hz")
        if len(estimates) != len(references):
            raise InputError(self._miscounted(files, len(estimates), len(references)))
        if estimates.shape != references.shape:
            its_length, length = estimates.shape[1], references.shape[1]
            raise InputError(f"estimates of {its_length} samples, references of {length}")
        return Signals(references, estimates, self._read_mixture(references, rate), rate)

    def _talkers(self, files: Sequence[Waveform], wanted: int) -> Waveform:
        """All channels of the references, or one of each file if there are ``wanted`` files."""
        if not 1 < len(files) == wanted < sum(map(len, files)):
            return np.concatenate(files)
        for path, channels in zip(self.references, files, strict=True):
            if len(channels) > 1 and not 0 <= self.channel < len(channels):
                last = len(channels) - 1
                raise InputError(f"{path.name} has channels 0 to {last}, not {self.channel}")
        return np.stack([file[self.channel if len(file) > 1 else 0] for file in files])

    def _miscounted(self, files: Sequence[Waveform], found: int, wanted: int) -> str:
        """What to do about more or fewer estimates than references, for a message."""
        wide = [n for n, channels in enumerate(files) if len(channels) > 1]
        hint = ""
        if wide and self.picked is None:
            name, channels = self.references[wide[0]].name, len(files[wide[0]])
            hint = f" ({name} has {channels} channels"
            if len(files) == 1:
                hint += ", each taken for a talker)"
            else:
                wanted, hint = len(files), f"{hint}, of which --channel takes one)"
        extra = found > wanted
        other = "move superfluous ones away" if extra else "add silent files for missing ones"
        return (
            f"{counted(found, 'estimate')} for {counted(wanted, 'reference')}{hint}: one for each "
            f"is needed; separate with --sources {wanted}, or {other}"
        )

    def _read_mixture(self, references: Waveform, rate: int) -> Waveform | None:
        if self.mixture is None:
            return None
        waveform, its_rate = audio.read(self.mixture)
        if its_rate != rate or waveform.shape[1] != references.shape[1]:
            raise InputError(f"{self.mixture}: not as long as the references, or at another rate")
        if not 0 <= self.channel < len(waveform):
            raise InputError(f"{self.mixture}: has no channel {self.channel}")
        channel: Waveform = waveform[self.channel]
        return channel


def find_pairs(
    estimates: Path,
    references: Path | None = None,
    *,
    reference: str = "image",
    channel: int = 0,
    mixtures: Path | None = None,
) -> tuple[list[Pair], list[tuple[str, str]]]:
    """Recordings to evaluate, and what is wrong with those that lack something.

    Parameters
    ----------
    estimates : file with one talker a channel; folder with one file a talker (those called
        ``source*``, if any are); folder of such folders or files; or, without `references`, a
        JSON-lines file with ``id``, ``estimates``, ``references`` and, if known, ``mixture``,
        ``channel``, ``condition`` and ``rttm`` (reference, estimate), paths relative to its own
    references : as `estimates`, with the same names; or a set made by ``fca simulate``. Files of
        one folder are recordings if each has as many channels, more than one, as there are talkers
        in the estimates of its name
    reference : a key of :data:`REFERENCES`; of a set, which part is taken
    channel : microphone, from 0, of the mixtures and of references at all microphones, unless a
        list says another
    mixtures : file, or folder with the same names; a ``mixture.*`` beside references is found;
        none for a set or a list, which have their own

    Raises
    ------
    InputError
        If nothing is found at all, the mixtures are not there or not wanted, or a list holds
        something else.
    """
    if references is None:
        pairs = _listed(estimates, channel)
        _refuse(mixtures, estimates)
        return pairs, []
    manifest = references / MANIFEST if references.is_dir() else references
    if manifest.suffix == ".jsonl" and manifest.is_file():
        _refuse(mixtures, manifest)
        wanted = [_of_set(row, manifest.parent, reference, channel) for row in _rows(manifest)]
    elif (references / ROW).is_file():
        _refuse(mixtures, references)
        (row,) = _rows(references / ROW)
        wanted = [_of_set(row, references.resolve().parent, reference, channel)]
    else:
        wanted = _of_folder(references, estimates, mixtures, channel)
    pairs, problems = [], []
    for pair in wanted:
        found = _results(estimates, pair.name, alone=len(wanted) == 1)
        if found:
            pairs.append(_with_estimates(pair, found))
        else:
            problems.append((pair.name, f"no estimates of it in {estimates}"))
    return pairs, problems


def _refuse(mixtures: Path | None, manifest: Path) -> None:
    if mixtures is not None:
        raise InputError(f"{mixtures}: not needed, mixtures come from {manifest}")


def _read_talkers(files: Sequence[Path]) -> tuple[Waveform, int]:
    """Channels of all files, (talkers, samples)."""
    waveforms, rate = _read(files)
    return np.concatenate(waveforms), rate


def _read(files: Sequence[Path]) -> tuple[Sequence[Waveform], int]:
    """What files hold, (channels, samples) each, of one rate and length."""
    waveforms, rates = zip(*map(audio.read, files), strict=True)
    if len(set(rates)) > 1 or len({waveform.shape[1] for waveform in waveforms}) > 1:
        raise InputError(f"{files[0].parent}: the talkers' files differ in rate or length")
    return waveforms, int(rates[0])


def _rows(manifest: Path) -> list[Row]:
    rows = read_rows(manifest)
    if not rows:
        raise InputError(f"{manifest}: lists no recordings")
    return rows


def _of_set(row: Row, folder: Path, reference: str, channel: int) -> Pair:
    """Pair without estimates from a line of a simulated set's manifest."""
    if not {"channels", "talkers"} <= set(row):
        raise InputError(f"{folder}: not a set of `fca simulate`; give the list as ESTIMATES alone")
    item, n_channels = Item(folder / row["id"], row), row["channels"]
    if not 0 <= channel < n_channels:
        raise InputError(f"{row['id']}: has channels 0 to {n_channels - 1}, not {channel}")
    if reference == "dry" and channel != 0:
        raise InputError(f"{row['id']}: dry references have the delay and level of channel 0 only")
    stacked = [channel + talker * n_channels for talker in range(item.n_talkers)]
    return Pair(
        name=row["id"],
        estimates=(),
        references=(item.file(_PARTS[reference]),),
        picked=None if reference == "dry" else tuple(stacked),
        mixture=item.file("mixture"),
        channel=channel,
        condition=row.get("condition", "all"),
        activities=_activities(item.folder, item.folder),
    )


def _of_folder(
    references: Path, estimates: Path, mixtures: Path | None, channel: int
) -> list[Pair]:
    """Pairs without estimates from files of references."""
    if mixtures is not None and not mixtures.exists():
        raise InputError(f"{mixtures}: no such file or folder")
    if references.is_file():
        return [_of_file(references, mixtures, channel)]
    if not references.is_dir():
        raise InputError(f"{references}: no such file or folder")
    if files := _files(references):
        if all(_is_recording(file, estimates) for file in files):
            return [_of_file(file, mixtures, channel) for file in files]
        return [_of_talkers(references, references.name, mixtures, channel)]
    folders = sorted({p.parent for p in references.rglob("*") if _is_audio(p)})
    if not folders:
        raise InputError(f"{references}: no audio files there")
    return [
        _of_talkers(folder, folder.relative_to(references).as_posix(), mixtures, channel)
        for folder in folders
    ]


def _is_recording(file: Path, estimates: Path) -> bool:
    """Whether a file of references holds all talkers of the recording of its name."""
    found = _results(estimates, file.stem, alone=False)
    return 1 < _n_channels([file]) == _n_channels(found)


def _n_channels(files: Sequence[Path]) -> int:
    """Channels of all files together; 0 if one of them cannot be read."""
    count = 0
    with contextlib.suppress(InputError), contextlib.ExitStack() as stack:
        count = sum(stack.enter_context(audio.open_sound(path)).channels for path in files)
    return count


def _of_file(references: Path, mixtures: Path | None, channel: int) -> Pair:
    name = references.stem
    return Pair(name, (), (references,), None, _mixture_of(name, mixtures), channel)


def _of_talkers(folder: Path, name: str, mixtures: Path | None, channel: int) -> Pair:
    beside = next(iter(_named(folder, "mixture")), None)
    mixture = _mixture_of(name, mixtures) if mixtures else beside
    return Pair(
        name, (), _files(folder), None, mixture, channel, activities=_activities(folder, folder)
    )


def _mixture_of(name: str, mixtures: Path | None) -> Path | None:
    """The mixture itself, or the one of a recording in a folder, if there is any."""
    if mixtures is None or mixtures.is_file():
        return mixtures
    return next(iter(_named(mixtures, name) or _named(mixtures / name, "mixture")), None)


def _listed(manifest: Path, channel: int) -> list[Pair]:
    """Pairs of a list that names every file."""
    if not manifest.is_file():
        raise InputError(f"{manifest}: give references, too, or a list of both (.jsonl)")
    return [_of_row(manifest, row, channel) for row in _rows(manifest)]


def _of_row(manifest: Path, row: Row, channel: int) -> Pair:
    """Pair that a line of a list names."""
    name, mixture = row["id"], row.get("mixture")
    if not row.get("estimates") or not row.get("references"):
        raise InputError(f"{manifest}: {name} needs estimates and references")
    if not isinstance(mixture, str | None):
        raise InputError(f"{manifest}: mixture of {name} must be a path, got {mixture!r}")
    activities = _paths(manifest, row, "rttm")
    return Pair(
        name=name,
        estimates=_paths(manifest, row, "estimates"),
        references=_paths(manifest, row, "references"),
        mixture=manifest.parent / mixture if mixture else None,
        channel=whole(f"{manifest}: channel of {name}", row.get("channel", channel)),
        condition=row.get("condition", "all"),
        activities=(activities[0], activities[1]) if len(activities) == 2 else None,
    )


def _paths(manifest: Path, row: Row, key: str) -> tuple[Path, ...]:
    """Files that a line lists under a key; none if it lists none."""
    listed = row.get(key) or []
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise InputError(f"{manifest}: {key} of {row['id']} must be a list of paths")
    return tuple(manifest.parent / path for path in listed)


def _results(estimates: Path, name: str, alone: bool) -> tuple[Path, ...]:
    """Files of one recording's estimates; if it is ``alone``, they need no folder of its name."""
    if estimates.is_file():
        return (estimates,) if alone else ()
    for place in (name, f"{name}/mixture", f"{name}/mixture.wav", f"{name}/mixture.flac"):
        if found := _files(estimates / place):
            return found
    named = _named(estimates, name)
    if named or not alone:
        return named[:1]
    return _files(estimates) or _files(estimates / "mixture")


def _with_estimates(pair: Pair, found: tuple[Path, ...]) -> Pair:
    activities = pair.activities and _activities(pair.activities[0].parent, found[0].parent)
    fields = {**vars(pair), "estimates": found, "activities": activities}
    return Pair(**fields)


def _activities(reference: Path, estimate: Path) -> tuple[Path, Path] | None:
    """The RTTM files of two folders, if both have one."""
    files = [sorted(folder.glob("*.rttm"))[:1] for folder in (reference, estimate)]
    return (files[0][0], files[1][0]) if all(files) else None


def _named(folder: Path, name: str) -> tuple[Path, ...]:
    """Audio files of a name without ending, which may name folders, too."""
    place = folder / name
    if not place.parent.is_dir():
        return ()
    return tuple(p for p in sorted(place.parent.iterdir()) if p.stem == place.name and _is_audio(p))


def _files(folder: Path) -> tuple[Path, ...]:
    """Talkers' files in a folder: those called ``source*``, else all that may be talkers."""
    if not folder.is_dir():
        return ()
    files = [p for p in sorted(folder.iterdir()) if _is_audio(p)]
    sources = [p for p in files if p.stem.startswith("source")]
    return tuple(sources or [p for p in files if p.stem not in _NO_TALKER])


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in audio.SUFFIXES and path.is_file()
