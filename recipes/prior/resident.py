"""Excerpts of clean speech as in :mod:`recipes.prior.data`, whole batches made where training is.

An accelerator takes a step in less time than a processor needs to prepare it. So speech and room
responses are kept in its memory, and a batch is drawn, resampled and filtered there at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from recipes.prior.data import (
    KNOTS,
    LEAD_SECONDS,
    SILENCE,
    Array,
    Augmentation,
    Corpus,
    check_bank,
)

T = TypeVar("T")
Drawn = TypeVar("Drawn", covariant=True)

SPEEDS = 20
"""Changes of speed that are drawn from, either side of none; a batch shares one."""


class Resident:
    """Speech and room responses in the memory of a device.

    Parameters
    ----------
    corpus : Corpus
        Speech.
    augmentation : Augmentation
        How much is changed.
    responses : list of (taps,) arrays
        Bank of room responses; may be empty if nothing is reverberant.
    device : torch.device
        Where excerpts are made.
    """

    def __init__(
        self,
        corpus: Corpus,
        augmentation: Augmentation,
        responses: list[Array],
        device: torch.device,
    ) -> None:
        check_bank(augmentation, responses)
        self.augmentation, self.device, self.sample_rate = augmentation, device, corpus.sample_rate
        self._speech = torch.from_numpy(np.concatenate(corpus.signals)).to(device)
        lengths = torch.tensor([len(signal) for signal in corpus.signals], device=device)
        self._lengths, self._begins = lengths, lengths.cumsum(0) - lengths
        longest = max((len(response) for response in responses), default=1)
        bank = [pad(torch.from_numpy(r), (0, longest - len(r))) for r in responses]
        self._responses = torch.stack(bank).to(device) if bank else None

    def draw(self, count: int, samples: int, generator: torch.Generator) -> Tensor:
        """Augmented excerpts (count, samples), from a generator of the device."""
        lead = round(LEAD_SECONDS * self.sample_rate)
        waves = self._at_random_speed(count, lead + samples, generator)
        return self._filtered(waves, generator)[:, lead:]

    def _excerpts(self, count: int, samples: int, generator: torch.Generator) -> Tensor:
        """Excerpts as they are; an utterance that is shorter is followed by silence."""
        shares = self._lengths.double()
        chosen = torch.multinomial(shares, count, replacement=True, generator=generator)
        lengths = self._lengths[chosen]
        spare = (lengths - samples + 1).clamp_min(1)
        starts = (self._uniform(count, generator) * spare).long()
        within = starts[:, None] + torch.arange(samples, device=self.device)
        places = self._begins[chosen, None] + within.minimum(lengths[:, None] - 1)
        return self._speech[places].float() / 2**15 * (within < lengths[:, None])

    def _loud(self, count: int, samples: int, generator: torch.Generator) -> Tensor:
        """Excerpts, those first that are no silence, of a few more than are wanted."""
        waves = self._excerpts(count + count // 8, samples, generator)
        silent = waves.square().mean(-1) <= SILENCE**2
        return waves[silent.int().argsort(stable=True)[:count]]

    def _at_random_speed(self, count: int, samples: int, generator: torch.Generator) -> Tensor:
        """Resampled by the Fourier transform."""
        draw = torch.randint(-SPEEDS, SPEEDS + 1, (), device=self.device, generator=generator)
        needed = round(samples * (1 + int(draw) / SPEEDS * self.augmentation.speed))
        waves = self._loud(count, needed, generator)
        if needed == samples:
            return waves
        resampled: Tensor = torch.fft.irfft(torch.fft.rfft(waves), samples)
        return resampled * (samples / needed)

    def _filtered(self, waves: Tensor, generator: torch.Generator) -> Tensor:
        """Through random equalisers and, some of them, room responses."""
        count, samples = waves.shape
        taps = 1 if self._responses is None else self._responses.shape[-1]
        n_fft = 1 << (samples + taps - 1).bit_length()
        knots = torch.randn(count, 1, KNOTS, device=self.device, generator=generator)
        gains_db = self.augmentation.eq_db * interpolate(
            knots, n_fft // 2 + 1, mode="linear", align_corners=True
        )
        spectra = torch.fft.rfft(waves, n_fft) * torch.pow(10.0, gains_db[:, 0] / 20)
        if self._responses is not None:
            spectra = spectra * torch.fft.rfft(self._rooms(count, generator), n_fft)
        filtered: Tensor = torch.fft.irfft(spectra, n_fft)
        return filtered[:, :samples]

    def _rooms(self, count: int, generator: torch.Generator) -> Tensor:
        """A response (taps,) for each; an impulse for those that stay dry."""
        assert self._responses is not None
        bank = self._responses
        chosen = torch.randint(len(bank), (count,), device=self.device, generator=generator)
        dry = self._uniform(count, generator) >= self.augmentation.reverberant
        impulse = torch.zeros_like(bank[0])
        impulse[0] = 1.0
        return torch.where(dry[:, None], impulse, bank[chosen])

    def _uniform(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.rand(count, device=self.device, generator=generator)


class Drawing(Protocol[Drawn]):
    """What batches can be drawn from."""

    device: torch.device

    def draw(self, count: int, length: int, generator: torch.Generator, /) -> Drawn:
        """A batch of ``count`` excerpts of this length."""


@dataclass(frozen=True)
class Batches(Generic[T]):
    """Batches of an epoch; those of a seed are always the same.

    Attributes
    ----------
    source : what they are drawn from
    count, batch_size, length : number of the batches, and of excerpts in each, and their length
    seed : of the experiment, and the number of the epoch and of the process
    """

    source: Drawing[T]
    count: int
    batch_size: int
    length: int
    seed: tuple[int, ...]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[T]:
        device = self.source.device
        words = np.random.SeedSequence(self.seed).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(words[0] >> np.uint64(1)))
        for _ in range(self.count):
            yield self.source.draw(self.batch_size, self.length, generator)
