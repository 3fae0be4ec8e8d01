"""Mixtures to train on: simulated as they are needed, or a folder of recordings.

Talkers are drawn from a corpus of speech and put into rooms from a bank on disk, which is written
once (and continued when the command is repeated):

    python -m recipes.neural.data BANK --rooms 2000 --jobs 8

Every draw is seeded by its number, so that training can be stopped, resumed and spread over
processes.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Protocol

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fca.errors import InputError
from fca.files import replacing
from fca.frontend import SAMPLE_RATE
from fca.simulate import diffuse_noise, random_scene, room_responses
from fca.simulate.images import convolve, level_gains, scaled_noise
from recipes import program
from recipes.banks import arrays, check_made_with
from recipes.prior.data import Corpus

Array = NDArray[np.float32]
Sample = tuple[Tensor, int]
"""A mixture (channels, samples) and its number of talkers."""


@dataclass(frozen=True)
class Conditions:
    """What mixtures are drawn from; all of a batch have as many talkers and microphones.

    Attributes
    ----------
    talkers, channels : smallest and largest number
    level_db : level of each talker relative to the first, ±
    snr_db : talkers to noise, lowest and highest
    diffuse : share of the mixtures whose noise is a diffuse field; it is uncorrelated in the others
    """

    talkers: tuple[int, int] = (2, 2)
    channels: tuple[int, int] = (4, 4)
    level_db: float = 5.0
    snr_db: tuple[float, float] = (10.0, 40.0)
    diffuse: float = 0.5

    def __post_init__(self) -> None:
        for name in ("talkers", "channels", "snr_db"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (low, high))
            if low > high:
                raise InputError(f"{name} is a range, smallest first, not {low} to {high}")
        if self.talkers[0] < 1 or self.channels[0] < 2:
            raise InputError("mixtures need a talker and two microphones at least")

    def sizes(self, rng: np.random.Generator) -> tuple[int, int]:
        """Numbers of talkers and microphones of a batch."""
        low, high = zip(self.talkers, self.channels, strict=True)
        n_talkers, n_channels = rng.integers(low, high, endpoint=True)
        return int(n_talkers), int(n_channels)


@dataclass(frozen=True)
class Room:
    """Responses (talkers, microphones, taps) and microphones (microphones, 3) in metres."""

    responses: Array
    mics: Array

    def some(self, n_talkers: int, n_channels: int, rng: np.random.Generator) -> Room:
        """The same room with so many of its talkers and microphones, in random order."""
        self.check(n_talkers, n_channels)
        talkers, mics = self.responses.shape[:2]
        kept = rng.permutation(mics)[:n_channels]
        return Room(self.responses[rng.permutation(talkers)[:n_talkers]][:, kept], self.mics[kept])

    def check(self, n_talkers: int, n_channels: int) -> None:
        """Raise :class:`InputError` if there are fewer talkers or microphones."""
        talkers, mics = self.responses.shape[:2]
        if n_talkers > talkers or n_channels > mics:
            raise InputError(
                f"the bank's rooms have {talkers} talkers and {mics} microphones, "
                f"{n_talkers} and {n_channels} are asked for"
            )


class Bank:
    """Rooms in a folder, read when they are drawn."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("room-*.npz"))
        if not self.paths:
            raise InputError(f"{folder}: no bank of rooms; recipes.neural.data writes one")

    def draw(self, rng: np.random.Generator) -> Room:
        """One room."""
        return self.read(self.paths[int(rng.integers(len(self.paths)))])

    def read(self, path: Path) -> Room:
        """The room of a file."""
        with arrays(path, "a room of a bank") as room:
            return Room(room["responses"].astype(np.float32), room["mics"])


class Source(Protocol):
    """What mixtures are drawn from."""

    def draw(
        self, n_talkers: int, n_channels: int, samples: int, rng: np.random.Generator
    ) -> Array:
        """A mixture (channels, samples)."""


class Drawn(Dataset[Sample]):
    """Mixtures drawn at random; item `i` of round `round_` is always the same.

    Parameters
    ----------
    source : where they come from
    conditions : for the numbers of talkers and microphones
    count : number of items
    group : consecutive items that share these numbers
    seconds : length
    """

    def __init__(
        self,
        source: Source,
        conditions: Conditions,
        count: int,
        group: int,
        seconds: float,
        seed: int = 0,
        round_: int = 0,
    ) -> None:
        self.source, self.conditions, self.count, self.group = source, conditions, count, group
        self.samples, self.seed = round(seconds * SAMPLE_RATE), (seed, round_)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        sizes = self.conditions.sizes(np.random.default_rng([*self.seed, index // self.group, 0]))
        wave = self.source.draw(*sizes, self.samples, np.random.default_rng([*self.seed, index, 1]))
        return torch.from_numpy(np.ascontiguousarray(wave)), sizes[0]


@dataclass(frozen=True)
class Mixtures:
    """Simulated mixtures.

    Attributes
    ----------
    speech : what the talkers say
    bank : the rooms they are in
    noise : recordings of noise; white without
    conditions : levels
    """

    speech: Corpus
    bank: Bank
    noise: Corpus | None
    conditions: Conditions

    def draw(
        self, n_talkers: int, n_channels: int, samples: int, rng: np.random.Generator
    ) -> Array:
        """A mixture (channels, samples)."""
        return self.draw_pair(n_talkers, n_channels, samples, rng)[0]

    def draw_pair(
        self, n_talkers: int, n_channels: int, samples: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """A mixture (channels, samples) and what it is made of, (talkers, channels, samples)."""
        level_db = self.conditions.level_db
        room = self.bank.draw(rng).some(n_talkers, n_channels, rng)
        dry = np.stack([self.speech.excerpt(rng, samples) for _ in range(n_talkers)])
        snr_db = rng.uniform(*self.conditions.snr_db)
        noise = self._noise(room.mics, samples, rng)
        images = convolve(dry[:, None], room.responses, samples)
        images *= level_gains(images, rng, (-level_db, level_db))[:, None, None]
        mixture = images.sum(0) + scaled_noise(images, snr_db, noise, rng)
        return mixture.astype(np.float32), images.astype(np.float32)

    def _noise(self, mics: Array, samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
        white = rng.standard_normal((len(mics), samples))
        if rng.random() >= self.conditions.diffuse:
            return white
        if self.noise is None:
            return diffuse_noise(white, mics, SAMPLE_RATE)
        excerpts = [self.noise.excerpt(rng, samples) for _ in mics]
        return diffuse_noise(excerpts, mics, SAMPLE_RATE)


class Recordings:
    """Excerpts of recordings, all in memory as 16-bit samples, microphones in random order.

    The number of talkers is taken for known.

    Parameters
    ----------
    folder : searched for audio files with all their channels, or a manifest of them
    n_channels : microphones that each must have
    root : folder that a manifest's paths are relative to; the manifest's own unless given
    """

    def __init__(self, folder: Path, n_channels: int, root: Path | None = None) -> None:
        self._corpus = Corpus(folder, SAMPLE_RATE, root, n_channels)

    def draw(
        self, n_talkers: int, n_channels: int, samples: int, rng: np.random.Generator
    ) -> Array:
        """A mixture (channels, samples)."""
        return self._corpus.excerpt(rng, samples, n_channels)


def make_room(number: int, folder: Path, n_talkers: int, n_mics: int, seed: int) -> None:
    """Write room `number`, unless it is there."""
    path = folder / f"room-{number:06d}.npz"
    if path.is_file():
        return
    scene = random_scene(np.random.default_rng([seed, number]), n_talkers=n_talkers, n_mics=n_mics)
    responses = room_responses(scene, SAMPLE_RATE)
    responses = (responses / np.abs(responses).max()).astype(np.float16)
    mics = np.array(scene.mics, np.float32)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, responses=responses, mics=mics, rt60=scene.rt60)


def main(
    output: Annotated[Path, typer.Argument(help="folder to write or to continue")],
    rooms: Annotated[int, typer.Option(help="number of rooms")] = 2000,
    talkers: Annotated[int, typer.Option(help="talkers in each room")] = 4,
    mics: Annotated[int, typer.Option(help="microphones in each room")] = 8,
    seed: int = 0,
    jobs: int = 1,
) -> None:
    """Simulate a bank of rooms."""
    output.mkdir(parents=True, exist_ok=True)
    check_made_with(output / "bank.json", {"talkers": talkers, "mics": mics, "seed": seed})
    make = partial(make_room, folder=output, n_talkers=talkers, n_mics=mics, seed=seed)
    if jobs == 1:
        for number in range(rooms):
            make(number)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            list(pool.map(make, range(rooms)))
    typer.echo(f"{len(list(output.glob('room-*.npz')))} rooms in {output}")


if __name__ == "__main__":
    program.run(main)
