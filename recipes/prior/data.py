"""Clean speech for training a prior, made into what a separator meets.

An excerpt is drawn at random, its speed and equalisation changed, and a room response applied.
Every draw is seeded by its number, so that training can be stopped, resumed and spread over
processes. Room responses come from a bank on disk:

    python -m recipes.prior.data OUT.npz --rooms 200
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fca import audio
from fca.errors import InputError
from fca.files import replacing
from fca.simulate import random_scene, room_responses
from recipes import program
from recipes.banks import arrays

Array = NDArray[np.float32]

LEAD_SECONDS = 0.4
"""Speech before an excerpt that is convolved with it and cut off, so reverberation has begun."""
KNOTS = 9
"""Places over frequency at which the gain of an equaliser is drawn."""
SILENCE = 1e-3
"""Excerpts of less than this root mean square are drawn again (full scale is 1)."""
TRIES, MOST_TRIES = 20, 1000
"""After so many, less will do, but zeros never."""


@dataclass(frozen=True)
class Augmentation:
    """How much is changed.

    Attributes
    ----------
    speed : largest relative change of speed (and pitch)
    eq_db : standard deviation of the gain at the knots of a random equaliser
    reverberant : share of the excerpts to which a room response is applied
    """

    speed: float = 0.0
    eq_db: float = 0.0
    reverberant: float = 0.0


class Corpus:
    """All recordings of a folder or manifest in memory, as 16-bit samples.

    Parameters
    ----------
    source : folder that is searched for audio files, or a CSV with the columns `path` (relative to
        `root`), and maybe `speaker`
    root : folder that a manifest's paths are relative to; the manifest's own unless given
    n_channels : microphones that each must have; without, the first alone is kept
    """

    def __init__(
        self,
        source: Path,
        sample_rate: int,
        root: Path | None = None,
        n_channels: int | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.paths = find_speech(source, root)
        self.signals = [_read(path, sample_rate, n_channels) for path in self.paths]
        self._ends = np.cumsum([signal.shape[-1] for signal in self.signals])

    @property
    def seconds(self) -> float:
        """Amount of speech."""
        return float(self._ends[-1] / self.sample_rate)

    def excerpt(
        self, rng: np.random.Generator, samples: int, n_channels: int | None = None
    ) -> Array:
        """Random excerpt (samples,); an utterance that is shorter is followed by silence.

        Of recordings with all their microphones, so many of these in random order, too.

        Raises
        ------
        InputError
            If nothing but zeros is found.
        """
        for attempt in range(MOST_TRIES):
            place = int(rng.integers(self._ends[-1]))
            number = int(np.searchsorted(self._ends, place, side="right"))
            signal = self.signals[number]
            start = int(rng.integers(max(1, signal.shape[-1] - samples + 1)))
            piece = signal[..., start : start + samples]
            if n_channels is not None:
                piece = piece[rng.permutation(len(piece))[:n_channels]]
            wave = piece.astype(np.float32) / np.float32(2**15)
            level = np.sqrt(np.mean(wave**2))
            if level > SILENCE or (attempt >= TRIES - 1 and level > 0):
                return audio.fit_length(wave, samples)
        raise InputError(f"{self.paths[number]}: silent, as all of {MOST_TRIES} excerpts are")


class Excerpts(Dataset[Tensor]):
    """Augmented excerpts (samples,); item `i` of round `round_` is always the same."""

    def __init__(
        self,
        corpus: Corpus,
        count: int,
        seconds: float,
        augmentation: Augmentation,
        responses: list[Array] | None = None,
        seed: int = 0,
        round_: int = 0,
    ) -> None:
        check_bank(augmentation, responses)
        self.corpus, self.count, self.augmentation = corpus, count, augmentation
        self.samples = round(seconds * corpus.sample_rate)
        self.responses, self.seed = responses or [], (seed, round_)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([*self.seed, index])
        lead = round(LEAD_SECONDS * self.corpus.sample_rate)
        wave = self._at_random_speed(rng, lead + self.samples)
        wave = filtered(wave, self._response(rng), random_equaliser(rng, self.augmentation.eq_db))
        return torch.from_numpy(np.ascontiguousarray(wave[lead:]))

    def _at_random_speed(self, rng: np.random.Generator, samples: int) -> Array:
        rate = round(1000 * (1 + rng.uniform(-1, 1) * self.augmentation.speed))
        needed = -(-samples * rate // 1000)
        return audio.fit_length(
            audio.resample(self.corpus.excerpt(rng, needed), rate, 1000), samples
        )

    def _response(self, rng: np.random.Generator) -> Array | None:
        if rng.random() >= self.augmentation.reverberant:
            return None
        return self.responses[int(rng.integers(len(self.responses)))]


def check_bank(augmentation: Augmentation, responses: list[Array] | None) -> None:
    """Raise :class:`InputError` if speech is to be reverberant without room responses."""
    if augmentation.reverberant and not responses:
        raise InputError("reverberant speech needs a bank of room responses: give data.rooms")


def random_equaliser(rng: np.random.Generator, eq_db: float, knots: int = KNOTS) -> Array | None:
    """Gains (dB) at `knots` places from 0 to the Nyquist frequency, equally spaced."""
    return (eq_db * rng.standard_normal(knots)).astype(np.float32) if eq_db else None


def filtered(wave: Array, response: Array | None, equaliser: Array | None) -> Array:
    """`wave` (samples,) through a room response (taps,) and a zero-phase equaliser (dB)."""
    if response is None and equaliser is None:
        return wave
    taps = 0 if response is None else len(response)
    n_fft = 1 << (len(wave) + taps - 1).bit_length()
    spectrum = np.fft.rfft(wave, n_fft)
    if response is not None:
        spectrum = spectrum * np.fft.rfft(response, n_fft)
    if equaliser is not None:
        knots = np.linspace(0, 1, len(equaliser))
        gains = np.interp(np.linspace(0, 1, len(spectrum)), knots, equaliser)
        spectrum = spectrum * 10 ** (gains / 20)
    return np.fft.irfft(spectrum, n_fft)[: len(wave)].astype(np.float32)


def find_speech(source: Path, root: Path | None = None) -> list[Path]:
    """Audio files of a folder, or those that a CSV manifest lists."""
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.suffix.lower() in audio.SUFFIXES)
    elif source.is_file():
        with source.open(newline="") as file:
            rows = list(csv.DictReader(file))
        if rows and "path" not in rows[0]:
            raise InputError(f"{source}: a manifest of speech needs the column `path`")
        paths = [(root or source.parent) / row["path"] for row in rows]
    else:
        raise InputError(f"{source}: no such folder or manifest of speech")
    if not paths:
        raise InputError(f"{source}: no audio files")
    return paths


def make_responses(count: int, seed: int, sample_rate: int = 16000) -> list[Array]:
    """Responses of `count` random rooms, two talkers and two microphones each, peak at 1."""
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    for _ in range(count):
        scene = random_scene(rng, n_talkers=2, n_mics=2)
        simulated = room_responses(scene, sample_rate)
        found.extend(_from_direct_sound(r) for r in simulated.reshape(-1, simulated.shape[-1]))
    return found


def load_responses(path: Path, sample_rate: int) -> list[Array]:
    """Bank that `main` wrote, of that rate."""
    with arrays(path, "a bank of room responses") as bank:
        ends = np.cumsum(bank["lengths"])[:-1]
        responses = np.split(bank["taps"].astype(np.float32), ends)
        rate = int(bank["sample_rate"])
    if rate != sample_rate:
        raise InputError(f"{path}: room responses at {rate} Hz, not {sample_rate}")
    return responses


def _from_direct_sound(response: NDArray[np.float64]) -> Array:
    peak = int(np.argmax(np.abs(response)))
    start = max(0, peak - 32)
    return np.asarray(response[start:] / np.abs(response[peak]), dtype=np.float32)


def _read(path: Path, sample_rate: int, n_channels: int | None) -> NDArray[np.int16]:
    """The first channel (samples,); all of them, if so many are needed."""
    wave, rate = audio.read(path)
    if len(wave) < (n_channels or 1):
        raise InputError(f"{path}: {len(wave)} channels, {n_channels} are needed")
    wave = audio.resample(wave[0] if n_channels is None else wave, rate, sample_rate)
    return (np.clip(wave, -1, 1) * (2**15 - 1)).round().astype(np.int16)


def main(
    output: Annotated[Path, typer.Argument(help="bank to write (.npz)")],
    rooms: Annotated[int, typer.Option(help="number of rooms, four responses each")] = 200,
    seed: int = 0,
    sample_rate: int = 16000,
) -> None:
    """Simulate a bank of room responses."""
    responses = make_responses(rooms, seed, sample_rate)
    with replacing(output) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            taps=np.concatenate(responses).astype(np.float16),
            lengths=[len(response) for response in responses],
            sample_rate=sample_rate,
        )
    typer.echo(f"{len(responses)} responses in {output}")


if __name__ == "__main__":
    program.run(main)
