"""Talkers told apart by the delays with which two microphones hear them.

Delays are the same at all frequencies, so that what they tell needs no alignment; they need no
demixing matrix either, and so serve more talkers than microphones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from fca.linalg import abs2

LONGEST = 24.0
"""Delay in samples up to which talkers are looked for: 1.5 ms at 16 kHz, half a metre."""
STEPS = 6
"""Delays that are tried per sample ..."""
APART = 5
"""... and how many of these talkers are at least apart."""
QUIET = 0.6
"""Power of the frames that are left out, relative to the mean."""
SHARPNESS = 3.0
"""Concentration κ of the phase differences of a talker."""


def delay_masks(mixture: Tensor, n_sources: int) -> tuple[Tensor, Tensor]:
    """Which source each bin is of by the phase difference between two microphones.

    Phase differences are von Mises around those of the sources' delays, the strongest peaks of
    :func:`pooled_correlation` (cf. Mandel, Weiss & Ellis 2010).

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T), F frequencies from 0 on; the first and the last of the M
        microphones are looked at.
    n_sources : int
        N.

    Returns
    -------
    masks : Tensor
        Posterior probabilities of the sources, (B, F, N, T).
    found : Tensor
        Whether all peaks are higher than those of random phases, (B,).
    """
    phase = _phase_difference(mixture)
    correlation = pooled_correlation(phase, abs2(mixture).sum((1, 2)))
    places = peaks(correlation, n_sources)
    found = (correlation.gather(1, places) > chance(phase)).all(1)
    steering = _steering(_grid(mixture)[places], mixture.shape[1])
    agreement = phase[:, :, None] * steering.conj()[..., None]
    return (SHARPNESS * agreement.real).softmax(2), found


def pooled_correlation(phase: Tensor, power: Tensor) -> Tensor:
    """GCC-PHAT of two microphones, the largest of all frames, (B, D) for every delay.

    A talker who is alone in a frame shows there, however rarely that is (Blandin, Ozerov & Vincent
    2012, max pooling).

    Parameters
    ----------
    phase : Tensor
        ``x_1 x_2* / |x_1 x_2|``, (B, F, T).
    power : Tensor
        Power of the frames, (B, T), of which quiet ones are left out.
    """
    steering = _steering(_grid(phase), phase.shape[1])
    correlation = (phase.mT @ steering.conj()).real / phase.shape[1]
    quiet = power < QUIET * power.mean(-1, keepdim=True)
    return correlation.masked_fill(quiet[..., None], -1.0).amax(1)


def chance(phase: Tensor) -> float:
    """About the largest that :func:`pooled_correlation` of random phases (B, F, T) is.

    A mean of F of them is Gaussian of variance 1/2F, and there is one for each delay and frame.
    """
    n_freq, n_frames = phase.shape[1:]
    return math.sqrt(math.log(len(_grid(phase)) * n_frames) / n_freq)


def peaks(values: Tensor, count: int) -> Tensor:
    """Places (B, count) of the highest maxima of (B, D), :data:`APART`.

    Other places follow where there are too few maxima.
    """
    is_maximum = max_pool1d(values[:, None], 3, stride=1, padding=1)[:, 0] == values
    rank = torch.where(is_maximum, values, values - (values.max() - values.min() + 1))
    place, found = torch.arange(values.shape[1], device=values.device), []
    for _ in range(count):
        found.append(rank.argmax(-1))
        near = (place - found[-1][:, None]).abs() < APART
        rank = rank.masked_fill(near, -torch.inf)
    return torch.stack(found, dim=1)


def _phase_difference(mixture: Tensor) -> Tensor:
    cross = mixture[:, :, 0] * mixture[:, :, -1].conj()
    return cross / cross.abs().clamp_min(torch.finfo(cross.real.dtype).tiny ** 0.5)


def _grid(like: Tensor) -> Tensor:
    """Delays of the last microphone behind the first that are tried, in samples, (D,)."""
    steps = round(STEPS * LONGEST)
    return torch.arange(-steps, steps + 1, device=like.device).to(like.real.dtype) / STEPS


def _steering(delays: Tensor, n_freq: int) -> Tensor:
    """Phase difference ``exp(jωτ)`` of delays τ (..., D), complex (..., F, D)."""
    omega = torch.linspace(0, math.pi, n_freq, device=delays.device, dtype=delays.dtype)
    angle = omega[:, None] * delays[..., None, :]
    return torch.polar(torch.ones_like(angle), angle)
