"""What separation could reach if it knew the talkers' spectra: oracles, not methods.

The multichannel Wiener filter of the model with PSDs taken from the true images, and the ideal
ratio mask at one microphone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fca.errors import InputError
from fca.inference.iterate import iterate
from fca.model import Model
from fca.prior import SpeechPrior
from fca.simulate.stored import Item
from fca.source import Fixed, Stack, Stationary
from fca.spatial import FullRank, JointlyDiagonal, SpatialModel
from fca.stft import STFT

Array = NDArray[np.floating[Any]]
SpatialChoice = Callable[[Tensor, int], SpatialModel]
PsdEstimate = Callable[[Tensor], Tensor]
"""From the true image powers (N, F, T) to PSDs of that shape."""

N_ITER = 30
BACKGROUND_DB = -30.0
"""Level that the stationary background starts with, relative to the mixture."""


def jointly_diagonal(mixture: Tensor, n_sources: int) -> SpatialModel:
    """Q = I and equal gains: with true PSDs any start will do."""
    batch, n_freq, n_channels, _ = mixture.shape
    eye = torch.eye(n_channels, dtype=mixture.dtype).expand(batch, n_freq, -1, -1)
    gains = mixture.real.new_ones(batch, n_freq, n_sources, n_channels)
    return JointlyDiagonal(mixture, eye, gains)


def full_rank(mixture: Tensor, n_sources: int) -> SpatialModel:
    """H = I for every source."""
    batch, n_freq, n_channels, _ = mixture.shape
    eye = torch.eye(n_channels, dtype=mixture.dtype)
    return FullRank(mixture, eye.expand(batch, n_freq, n_sources, -1, -1))


SPATIAL: dict[str, SpatialChoice] = {
    "jointly diagonal": jointly_diagonal,
    "full rank": full_rank,
}


def true_power(power: Tensor) -> Tensor:
    """The oracle."""
    return power


@torch.no_grad()
def oracle_filter(
    item: Item, estimate: PsdEstimate, stft: STFT, spatial: SpatialChoice, n_iter: int = N_ITER
) -> Array:
    """Talkers (N, samples) at the first microphone, PSDs estimated from the true image powers.

    Spatial parameters and a stationary background are fitted to the mixture.
    """
    images = torch.from_numpy(np.ascontiguousarray(item.read("images")))
    waves = torch.from_numpy(np.ascontiguousarray(item.read("mixture")))
    scale = waves.square().mean().sqrt()
    mixture = stft.analyse(waves / scale).transpose(0, 1)[None]
    power = stft.analyse(images / scale).abs().square().mean(1)
    psd = estimate(power).transpose(0, 1)[None]
    n_talkers = len(images)
    source = Stack([(Fixed(psd), n_talkers), (Stationary(), 1)])
    level = 10 ** (BACKGROUND_DB / 10) * mixture.abs().square().mean(2, keepdim=True)
    source.initialise(torch.cat([psd, level], dim=2), torch.Generator())
    model = Model(spatial(mixture, n_talkers + 1), source)
    iterate(model, n_iter, monitor_every=n_iter)
    estimates = model.images(slice(0, 1))[0, :, :n_talkers, 0].transpose(0, 1)
    talkers: Array = (stft.synthesise(estimates, waves.shape[-1]) * scale).numpy()
    return talkers


def wiener(
    item: Item, *, spatial: str = "jointly diagonal", psd: str = "true", n_fft: int = 4096
) -> Array:
    """:func:`oracle_filter` with true PSDs, or decode(encode(true power)) of the prior `psd`.

    The window `n_fft` is a prior's own if there is one; the shift is a quarter of it.
    """
    if spatial not in SPATIAL:
        raise InputError(f"no spatial model {spatial!r} for a ceiling; there are {list(SPATIAL)}")
    if psd == "true":
        return oracle_filter(item, true_power, STFT(n_fft, n_fft // 4), SPATIAL[spatial])
    prior = _prior(psd)
    stft = STFT(prior.config.n_fft, prior.config.hop)
    return oracle_filter(item, prior.reconstruct, stft, SPATIAL[spatial])


def ideal_ratio_mask(item: Item, *, n_fft: int = 1024) -> Array:
    """Talkers (N, samples) by the masks ``|x_n| / Σ_k |x_k|`` at the first microphone.

    As in Luo & Mesgarani (2019, eq. 17), with the noise among the sources; shift a quarter.
    """
    stft = STFT(n_fft, n_fft // 4)
    mixture = torch.from_numpy(item.read("mixture")[0])
    images = torch.from_numpy(np.ascontiguousarray(item.references()))
    everything = torch.cat([images, (mixture - images.sum(0))[None]])
    size = stft.analyse(everything).abs()
    masks = size / size.sum(0).clamp_min(torch.finfo(size.dtype).tiny)
    talkers: Array = stft.synthesise(
        masks[:-1] * stft.analyse(mixture[None]), mixture.shape[-1]
    ).numpy()
    return talkers


CEILINGS: dict[str, Callable[..., Array]] = {"wiener": wiener, "ideal ratio mask": ideal_ratio_mask}


@lru_cache(maxsize=1)
def _prior(name: str) -> SpeechPrior:
    return SpeechPrior.from_pretrained(name)
