"""What the stages want of a corpus, and mixtures of a corpus in the form of `fca simulate`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fca import audio
from fca.errors import InputError
from fca.files import write_text
from fca.simulate.stored import MANIFEST, ROW

Array = NDArray[np.float32]
Row = dict[str, Any]
Channels = int | Sequence[int]
T = TypeVar("T")

CONDITIONS = {2: "two_talkers", 3: "three_talkers"}
"""What sets call mixtures of so many talkers."""


class Layout(Protocol):
    """One corpus: the only place that knows how its files lie."""

    def check(self) -> None:
        """Raise :class:`InputError` if the user's folder is not the corpus."""

    def clean_speech(self, folder: Path) -> tuple[Path, Path] | None:
        """Clean speech for training and for validation, folders or manifests.

        None where the corpus has none and the user named none; manifests go to `folder`.
        """

    def index(self, folder: Path, seed: int, jobs: int) -> None:
        """Write the set of what is separated, or continue it.

        Rows of its manifest that name `files` are recordings that stay where they are, whose
        references are the `rttm` they name.
        """


@dataclass(frozen=True)
class Source:
    """A mixture of a corpus and what it is made of.

    Attributes
    ----------
    id, condition : name that is unique within the set, and kind of mixture
    speakers : names of the talkers
    mixture : file of all channels
    images, early, dry : for each talker the files whose sum is the part; empty if unknown
    """

    id: str
    condition: str
    speakers: Sequence[str]
    mixture: Path
    images: Sequence[Sequence[Path]]
    early: Sequence[Sequence[Path]] = ()
    dry: Sequence[Sequence[Path]] = ()


def thin(found: Sequence[T], items: int | None) -> list[tuple[int, T]]:
    """At most so many, equally spaced, with their places; all of them if None."""
    count = len(found) if items is None else min(items, len(found))
    return [(place, found[place]) for k in range(count) for place in [k * len(found) // count]]


def write_set(
    folder: Path, sources: Sequence[tuple[int, Source]], channels: Channels, asked: Row
) -> None:
    """Write some channels of every mixture that is not there yet, then the manifest.

    Parameters
    ----------
    sources : mixtures with their places in the corpus
    channels : how many, from the first, or which, from 0
    asked : what was asked of the corpus, kept with each mixture

    Raises
    ------
    InputError
        If a file is missing or of another length, or the folder holds a set of other settings.
    """
    picked = list(range(channels)) if isinstance(channels, int) else list(channels)
    rows = [_write_one(folder, source, place, picked, asked) for place, source in sources]
    write_text(folder / MANIFEST, "".join(json.dumps(row) + "\n" for row in rows))


def _write_one(folder: Path, source: Source, place: int, picked: list[int], asked: Row) -> Row:
    item = folder / source.id
    recipe = {"seed": 0, "index": place, "asked": asked | {"channels": picked}}
    if (item / ROW).is_file():
        done: Row = json.loads((item / ROW).read_text("utf-8"))
        if done["recipe"] != recipe:
            raise InputError(f"{item}: made with other settings; choose another output folder")
        return done
    item.mkdir(parents=True, exist_ok=True)
    mixture, rate = _read([source.mixture], picked)
    audio.write(item / "mixture.wav", mixture, rate)
    dry = _of_dry(source, picked)
    for part, wanted in (("images", picked), ("early", picked), ("dry", dry)):
        if talkers := getattr(source, part):
            read = [_read(files, wanted, mixture.shape[-1])[0] for files in talkers]
            audio.write(item / f"{part}.wav", np.concatenate(read), rate)
    row = {
        "id": source.id,
        "condition": source.condition,
        "sample_rate": rate,
        "samples": mixture.shape[-1],
        "channels": len(picked),
        "talkers": [{"speaker": name} for name in source.speakers],
        "recipe": recipe,
    }
    write_text(item / ROW, json.dumps(row))
    return row


def _of_dry(source: Source, picked: list[int]) -> list[int]:
    """The channel of dry speech: that of the first microphone, if there is one for each."""
    if not source.dry:
        return []
    with audio.open_sound(source.dry[0][0]) as file:
        return picked[:1] if file.channels > 1 else [0]


def _read(
    files: Sequence[Path], picked: list[int], samples: int | None = None
) -> tuple[Array, int]:
    """Sum of files (channels, samples), of some of their channels."""
    waves, rates = zip(*map(audio.read, files), strict=True)
    for file, wave in zip(files, waves, strict=True):
        if not picked or not 0 <= min(picked) <= max(picked) < len(wave):
            raise InputError(f"{file}: has {len(wave)} channels, not {picked} (from 0)")
        if wave.shape[-1] != (samples or waves[0].shape[-1]):
            raise InputError(f"{file}: not as long as its mixture")
    total: Array = np.sum([wave[picked] for wave in waves], axis=0, dtype=np.float32)
    return total, int(rates[0])


def folder_of(path: str, what: str, key: str = "corpus") -> Path:
    """The folder that the user named as `data.KEY`.

    Raises
    ------
    InputError
        If there is none.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{path}: no such folder; data.{key} names {what}")
    return folder


def named_speech(speech: str | None, valid_speech: str | None) -> tuple[Path, Path] | None:
    """Clean speech that the user named; both or neither."""
    if (speech is None) != (valid_speech is None):
        raise InputError("give data.speech and data.valid_speech, or neither")
    return None if speech is None or valid_speech is None else (Path(speech), Path(valid_speech))
