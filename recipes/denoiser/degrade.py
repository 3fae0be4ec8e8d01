"""What a separator makes of clean speech: leakage, smeared, swapped bands, and noise.

Everything is drawn per item and works on spectrograms, so that a training step costs little. The
leakage is made up; no mixture is separated, and no room or array enters.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fca.linalg import abs2

KNOTS = 24
"""Places over frequency at which smooth random curves are drawn."""


@dataclass(frozen=True)
class Leakage:
    """Ranges of what is drawn, in decibels unless said.

    Attributes
    ----------
    level_db : level of the interfering talker relative to the target, ±
    leak_db : mean level of the leakage, lowest and highest
    ripple_db : standard deviation of its course over frequency
    bass_db : additional leakage at zero frequency, at most; it decays over `bass_hz`
    bass_hz : in Hz
    tail_frames : frames over which leakage is smeared
    missing : share of the items of which a part is missing, as where a separator has split a talker
    missing_db : standard deviation over frequency of what is missing
    swaps : share of the items with swapped bands
    noise_db : level of noise relative to the target, lowest and highest
    noise_swing_db : standard deviation over time of its level
    """

    level_db: float = 8.0
    leak_db: tuple[float, float] = (-30.0, -2.0)
    ripple_db: float = 5.0
    bass_db: float = 15.0
    bass_hz: float = 400.0
    tail_frames: int = 3
    missing: float = 0.5
    missing_db: float = 4.0
    swaps: float = 0.4
    noise_db: tuple[float, float] = (-50.0, -8.0)
    noise_swing_db: float = 0.0


@dataclass(frozen=True)
class Degraded:
    """Powers (B, F, T): what the encoder sees of a source and of the rest, and what it should."""

    own: Tensor
    rest: Tensor
    clean: Tensor


def degrade(spectra: Tensor, settings: Leakage, sample_rate: int) -> Degraded:
    """Make every item of a batch of spectrograms (B, F, T) a target that its neighbours disturb.

    Parameters
    ----------
    spectra : Tensor
        Clean, reverberant speech, complex (B, F, T); item b + 1 disturbs item b, and b + 2 half
        of the time.
    settings : Leakage
        What is drawn.
    sample_rate : int
        In Hz.
    """
    target = spectra / _level(spectra)
    other = target.roll(1, 0) * _amplitude(_uniform(target, -1, 1) * settings.level_db)
    third = target.roll(2, 0) * _amplitude(_uniform(target, -1, 1) * settings.level_db)
    other = other + third * (torch.rand_like(third.real[:, :1, :1]) < 0.5)
    own = _observed(target, other, settings, sample_rate)
    rest = _observed(other, target, settings, sample_rate)
    swap = _bands(target, settings.swaps)
    own, rest = torch.where(swap, rest, own), torch.where(swap, own, rest)
    return Degraded(own, rest, abs2(target))


def _observed(own: Tensor, other: Tensor, settings: Leakage, sample_rate: int) -> Tensor:
    """Power of one source, not all of it, with the other and noise leaking in."""
    passed = _amplitude(-_missing(own, settings))
    return abs2(passed * own + _leak(other, settings, sample_rate)) + _noise(own, settings)


def _missing(like: Tensor, settings: Leakage) -> Tensor:
    """Attenuation in dB that is smooth in part and in part different at every frequency."""
    single = torch.randn_like(like.real[..., :1])
    course = settings.missing_db * (_curve(like) + 0.5 * single).abs()
    return course * (torch.rand_like(course[:, :1]) < settings.missing)


def _leak(other: Tensor, settings: Leakage, sample_rate: int) -> Tensor:
    """`other` through a random filter of a few frames at every frequency."""
    low, high = settings.leak_db
    n_freq, n_frames = other.shape[-2:]
    hertz = torch.linspace(0, sample_rate / 2, n_freq, device=other.device)[:, None]
    bass = settings.bass_db * _uniform(other, 0, 1) * (-hertz / settings.bass_hz).exp()
    level = _uniform(other, low, high) + settings.ripple_db * _curve(other) + bass
    decay = _uniform(other, -25, -5)
    leaked = torch.zeros_like(other)
    for delay in range(min(settings.tail_frames, n_frames)):
        tap = torch.randn_like(other[..., :1]) if delay else _phase(other)
        late = torch.nn.functional.pad(other, (delay, 0))[..., :n_frames]
        leaked = leaked + tap * _amplitude(delay * decay) * late
    return leaked * _amplitude(level.clamp_max(0.0))


def _noise(like: Tensor, settings: Leakage) -> Tensor:
    """Power of noise of random colour and swing, exponentially distributed."""
    low, high = settings.noise_db
    swing = settings.noise_swing_db * _curve(like.mT).mT if settings.noise_swing_db else 0.0
    colour = _amplitude(_uniform(like, low, high) + 6.0 * _curve(like) + swing).square()
    return colour * torch.empty_like(like.real).exponential_()


def _bands(like: Tensor, share: float) -> Tensor:
    """Frequencies (B, F, 1) at which the sources of an item are swapped."""
    curve = _curve(like)
    bound = curve.flatten(1).quantile(0.9, dim=1)[:, None, None]
    chosen = torch.rand_like(curve[:, :1]) < share
    return (curve > bound) & chosen


def _curve(like: Tensor) -> Tensor:
    """Smooth random course over the rows of unit variance at its knots, (B, F, 1)."""
    knots = torch.randn(like.shape[0], 1, KNOTS, device=like.device)
    return interpolate(knots, like.shape[1], mode="linear", align_corners=True).mT


def _phase(like: Tensor) -> Tensor:
    angle = 2 * torch.pi * torch.rand_like(like.real[..., :1])
    return torch.polar(torch.ones_like(angle), angle)


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand_like(like.real[:, :1, :1])


def _amplitude(decibels: Tensor) -> Tensor:
    return torch.pow(10.0, decibels / 20)


def _level(spectra: Tensor) -> Tensor:
    """Root mean square of each item, (B, 1, 1)."""
    power = abs2(spectra).mean((1, 2), keepdim=True)
    return power.clamp_min(torch.finfo(power.dtype).tiny ** 0.5).sqrt()
