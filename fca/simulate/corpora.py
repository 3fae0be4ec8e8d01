"""Material for mixtures: speech, noise and measured room responses from the user's folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fca import audio
from fca.errors import InputError, counted
from fca.simulate.images import Array

__all__ = [
    "Corpora",
    "draw_noise",
    "draw_responses",
    "draw_talkers",
    "find_speakers",
    "measured_responses",
]

EARS = ((0.0, 0.09, 0.0), (0.0, -0.09, 0.0))
"""Positions (m) of the two microphones of measured responses that do not give them: 18 cm apart."""

LEAST_ANGLE = 20
"""By how much the directions of talkers differ at least, of measured responses (degrees)."""


@dataclass(frozen=True)
class Corpora:
    """The user's folders and files.

    Attributes
    ----------
    speech : folder with one folder per speaker, at any depth below that; the files of a folder
        without such are one speaker each
    noise : folder of recordings; without one, noise is white
    measured : file of room responses, in the format that :func:`measured_responses` reads

    Raises
    ------
    InputError
        For a sample rate below :data:`~fca.audio.MIN_RATE`.
    """

    speech: Path
    noise: Path | None = None
    measured: Path | None = None
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        audio.check_rate(self.sample_rate)

    def describe(self) -> dict[str, Any]:
        """Sample rate and names, as a set keeps them; the folders may move."""
        places = {"speech": self.speech, "noise": self.noise, "measured": self.measured}
        names = {part: path and path.resolve().name for part, path in places.items()}
        return {**names, "sample_rate": self.sample_rate}

    def check_apart(self, folder: Path) -> None:
        """Raise :class:`InputError` if what is written to a folder would be among the material."""
        for root in (self.speech, self.noise):
            if root is not None and folder.resolve().is_relative_to(root.resolve()):
                raise InputError(
                    f"{folder}: lies in {root}, where its mixtures would be taken for material; "
                    "choose another output folder"
                )


def measured_responses(path: Path, sample_rate: int) -> tuple[Array, Array, Array | None]:
    """Responses (directions, channels, taps), azimuths (degrees) and positions of the microphones.

    An .npz file holds `rir`, `azimuth_deg`, `sample_rate` and maybe `mics` (channels, 3) in metres.

    Raises
    ------
    InputError
        If the file cannot be read, or its content is not of this form.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            responses = np.asarray(file["rir"], dtype=np.float32)
            azimuths = np.asarray(file["azimuth_deg"], dtype=float)
            rate = int(file["sample_rate"])
            mics = np.asarray(file["mics"], dtype=float) if "mics" in file else None
    except (OSError, EOFError, KeyError, ValueError, TypeError, BadZipFile):
        raise InputError(
            f"{path}: no measured responses, which are an .npz file of rir, azimuth_deg and "
            f"sample_rate"
        ) from None
    if responses.ndim != 3 or len(responses) != len(azimuths):
        raise InputError(f"{path}: rir must be (directions, channels, taps), not {responses.shape}")
    if mics is None and responses.shape[1] == len(EARS):
        mics = np.array(EARS)
    return audio.resample(responses, rate, sample_rate).astype(float), azimuths, mics


def draw_responses(
    corpora: Corpora, n_talkers: int, n_mics: int, rng: np.random.Generator
) -> tuple[Array, Array, dict[str, Any]]:
    """Measured responses (talkers, channels, taps), microphone positions, and what was drawn."""
    assert corpora.measured is not None
    responses, azimuths, mics = measured_responses(corpora.measured, corpora.sample_rate)
    if n_mics > responses.shape[1]:
        raise InputError(
            f"{corpora.measured}: {n_mics} microphones wanted, it has {responses.shape[1]}"
        )
    if mics is None:
        raise InputError(f"{corpora.measured}: noise needs the positions `mics` (channels, 3)")
    chosen = _draw_apart(azimuths, n_talkers, rng)
    room = {"responses": corpora.measured.name, "azimuth_deg": azimuths[chosen].tolist()}
    return responses[chosen, :n_mics], mics[:n_mics], room


def draw_talkers(
    corpora: Corpora, parts: Sequence[str], count: int, samples: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[Array]]:
    """Utterances of ``count`` different speakers, each of so many samples, and their files."""
    speakers = _speakers(corpora, parts, count)
    names = rng.choice(sorted(speakers), count, replace=False)
    rows, signals = [], []
    for name in names:
        files, signal = _draw_speech(speakers[name], corpora.sample_rate, samples, rng)
        start = int(rng.integers(0, len(signal) - samples + 1))
        shown = [str(file.relative_to(corpora.speech)) for file in files]
        rows.append({"speaker": str(name), "files": shown, "start": start})
        signals.append(signal[start : start + samples])
    return rows, signals


def draw_noise(
    corpora: Corpora, channels: int, samples: int, rng: np.random.Generator
) -> tuple[Array, str]:
    """Independent excerpts (channels, samples) of one recording; white without recordings."""
    if corpora.noise is None:
        return rng.standard_normal((channels, samples)), "white"
    files = _audio_files(corpora.noise)
    if not files:
        raise InputError(f"{corpora.noise}: no audio files")
    file = files[rng.integers(len(files))]
    signal = _read_mono(file, corpora.sample_rate)
    # Equally spaced from a random place on, so that excerpts overlap as little as possible.
    starts = rng.integers(len(signal)) + np.arange(channels) * len(signal) // channels
    excerpts = np.stack([np.take(signal, s + np.arange(samples), mode="wrap") for s in starts])
    return excerpts, file.name


def _draw_apart(azimuths: Array, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of `n` azimuths that differ by at least :data:`LEAST_ANGLE`."""
    for _ in range(1000 if n <= len(azimuths) else 0):
        chosen = rng.choice(len(azimuths), n, replace=False)
        gaps = np.abs((azimuths[chosen, None] - azimuths[chosen] + 180) % 360 - 180)
        if gaps[~np.eye(n, dtype=bool)].min(initial=360) >= LEAST_ANGLE:
            return chosen
    raise InputError(
        f"{n} talkers do not fit {LEAST_ANGLE} degrees apart into the measured directions"
    )


def _speakers(corpora: Corpora, parts: Sequence[str], wanted: int) -> dict[str, list[Path]]:
    """Speaker -> audio files, in one of the parts of the corpus."""
    found = {
        f"{part}/{name}": files
        for part in parts
        for name, files in find_speakers(corpora.speech / part).items()
    }
    if len(found) < wanted:
        raise InputError(
            f"{corpora.speech}: {counted(len(found), 'speaker')}, {wanted} needed: a folder each, "
            f"or a file each where there are no folders"
        )
    return found


def find_speakers(folder: Path) -> dict[str, list[Path]]:
    """Speaker -> audio files, as :class:`Corpora` describes a folder of speech."""
    places = sorted(p for p in folder.glob("*") if p.is_dir())
    if not places:
        return {file.stem: [file] for file in _audio_files(folder)}
    return {place.name: files for place in places if (files := _audio_files(place))}


def _draw_speech(
    files: list[Path], rate: int, samples: int, rng: np.random.Generator
) -> tuple[list[Path], Array]:
    """Utterances of one speaker in random order, joined until they are long enough."""
    used: list[Path] = []
    signal = np.zeros(0)
    while len(signal) < samples:
        if len(used) % len(files) == 0:
            order = rng.permutation(len(files))
        used.append(files[order[len(used) % len(files)]])
        signal = np.concatenate([signal, _read_mono(used[-1], rate)])
    return used, signal


def _audio_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in audio.SUFFIXES)


def _read_mono(path: Path, rate: int) -> Array:
    waveform, file_rate = audio.read(path)
    return np.asarray(audio.resample(waveform, file_rate, rate)[0], dtype=float)
