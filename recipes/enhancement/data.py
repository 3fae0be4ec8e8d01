"""Noisy speech made from folders of speech and noise, the same for every run with a seed.

Kinds of noise are the recordings of the noise folder. Settings are tuned on the first half of each
but the held-out kind; figures are taken on the second half of these and on the held-out one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fca import audio
from fca.errors import InputError, check_choice
from fca.simulate import diffuse_noise, mix, random_scene, room_responses
from recipes.prior.data import Corpus

Array = NDArray[np.float64]
SAMPLE_RATE = 16000
SNRS_DB = (0.0, 5.0, 10.0)
HELD_OUT = "coffee-shop"


@dataclass(frozen=True)
class Noisy:
    """One recording.

    Attributes
    ----------
    noisy : (channels, samples)
    clean : (samples,), the speech in channel 0, with the room's reverberation if there is one
    kind : stem of the noise file
    snr_db : speech to noise, over the whole recording
    held_out : whether the kind of noise was kept from all tuning
    """

    noisy: Array
    clean: Array
    kind: str
    snr_db: float
    held_out: bool


@dataclass(frozen=True)
class Recipe:
    """What a set consists of.

    Attributes
    ----------
    rounds, held_out_rounds : recordings of each kind of noise at each SNR
    speech, noise : folders
    channels : microphones; one is without a room, more are in a random one with diffuse noise
    part : "tune" or "test"
    """

    speech: Path
    noise: Path
    channels: int = 1
    part: str = "test"
    seconds: float = 5.0
    rounds: int = 1
    held_out_rounds: int = 1
    seed: int = 0
    held_out: str = HELD_OUT

    def __post_init__(self) -> None:
        check_choice("part", self.part, ("tune", "test"), " of the noises")

    def __iter__(self) -> Iterator[Noisy]:
        corpus = Corpus(self.speech, SAMPLE_RATE)
        for (number, path), (level, snr_db) in product(self._kinds(), enumerate(SNRS_DB)):
            rounds = self.held_out_rounds if path.stem == self.held_out else self.rounds
            for round_ in range(rounds):
                rng = np.random.default_rng([self.seed, round_, number, level])
                yield self._draw(corpus, path, snr_db, rng)

    def _kinds(self) -> list[tuple[int, Path]]:
        """Noise files with their numbers in the folder."""
        files = sorted(p for p in self.noise.rglob("*") if p.suffix.lower() in audio.SUFFIXES)
        if self.held_out not in (p.stem for p in files):
            raise InputError(f"{self.noise}: no recording {self.held_out!r} to hold out")
        testing = self.part == "test"
        return [(n, p) for n, p in enumerate(files) if testing or p.stem != self.held_out]

    def _draw(self, corpus: Corpus, path: Path, snr_db: float, rng: np.random.Generator) -> Noisy:
        samples = round(self.seconds * SAMPLE_RATE)
        speech = corpus.excerpt(rng, samples)
        noise = self._excerpts(path, samples, rng)
        if self.channels == 1:
            mics, responses = None, np.ones((1, 1, 1))
        else:
            scene = random_scene(rng, n_talkers=1, n_mics=self.channels, rt60=(0.2, 0.6))
            mics, responses = scene.mics, room_responses(scene, SAMPLE_RATE, max_order=None)
        field = noise if mics is None else diffuse_noise(noise, mics, SAMPLE_RATE)
        made = mix([speech], responses, rng, snr_db=snr_db, noise=field, sample_rate=SAMPLE_RATE)
        held_out = path.stem == self.held_out
        return Noisy(made.mixture, made.images[0, 0], path.stem, snr_db, held_out)

    def _excerpts(self, path: Path, samples: int, rng: np.random.Generator) -> Array:
        """Excerpts (channels, samples) that overlap as little as the recording allows."""
        wave, rate = audio.read(path)
        signal = audio.resample(wave[:1], rate, SAMPLE_RATE)[0]
        if path.stem != self.held_out:
            half = len(signal) // 2
            signal = signal[:half] if self.part == "tune" else signal[half:]
        starts = rng.integers(len(signal)) + np.arange(self.channels) * (
            len(signal) // self.channels
        )
        excerpts = [np.take(signal, s + np.arange(samples), mode="wrap") for s in starts]
        return np.stack(excerpts).astype(float)
