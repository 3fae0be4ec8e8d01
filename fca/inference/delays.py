"""Talkers told apart by their delays between two microphones.

A delay is the same at all frequencies, so that nothing has to be aligned over frequency. No
demixing matrix is needed either, so that there may be more talkers than microphones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from fca.linalg import abs2

LONGEST = 24.0
"""Largest delay, in samples, at which talkers are looked for: 1.5 ms at 16 kHz, which is half a
metre."""
STEPS = 6
"""Delays per sample on the grid of those that are tried."""
APART = 5
"""Smallest distance between the delays of two talkers, in steps of that grid."""
QUIET = 0.6
"""Frames whose power is below this share of the mean are left out."""
SHARPNESS = 3.0
"""Concentration κ of the von Mises distribution of a talker's phase differences."""


def delay_masks(mixture: Tensor, n_sources: int) -> tuple[Tensor, Tensor]:
    """Masks of the sources, from the phase difference between two microphones.

    The phase differences of a source are von Mises distributed around those of its delay; the
    delays are the strongest peaks of :func:`pooled_correlation` (cf. Mandel, Weiss & Ellis 2010).

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T), F frequencies from 0 on. Only the first and the last of the M
        microphones are used.
    n_sources : int
        N.

    Returns
    -------
    masks : Tensor
        Posterior probabilities of the sources, (B, F, N, T).
    found : Tensor
        Whether all peaks are higher than those of random phases would be, (B,).
    """
    phase = _phase_difference(mixture)
    correlation = pooled_correlation(phase, abs2(mixture).sum((1, 2)))
    places = peaks(correlation, n_sources)
    found = (correlation.gather(1, places) > chance(phase)).all(1)
    steering = _steering(delay_grid(mixture)[places], angular_frequencies(phase))
    agreement = phase[:, :, None] * steering.conj()[..., None]
    return (SHARPNESS * agreement.real).softmax(2), found


def pooled_correlation(phase: Tensor, power: Tensor) -> Tensor:
    """GCC-PHAT of two microphones at every delay, its maximum over the frames, (B, D).

    The maximum shows every talker who is alone in some frame, however rare such frames are (max
    pooling; Blandin, Ozerov & Vincent 2012).

    Parameters
    ----------
    phase : Tensor
        ``x_1 x_2* / |x_1 x_2|``, (B, F, T).
    power : Tensor
        Power of the frames, (B, T); quiet ones are left out.
    """
    correlation = correlations(phase, angular_frequencies(phase))
    quiet = power < QUIET * power.mean(-1, keepdim=True)
    return correlation.masked_fill(quiet[..., None], -1.0).amax(1)


def chance(phase: Tensor) -> float:
    """About the largest value that :func:`pooled_correlation` has for random phases (B, F, T).

    Each value is a mean over F phases, Gaussian with variance 1/(2F), and there is one for each
    delay and frame.
    """
    n_freq, n_frames = phase.shape[1:]
    return math.sqrt(math.log(len(delay_grid(phase)) * n_frames) / n_freq)


def peaks(values: Tensor, count: int) -> Tensor:
    """Indices (B, count) of the highest maxima of (B, D), at least :data:`APART` apart.

    If there are too few maxima, the highest other values follow.
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


def delay_grid(like: Tensor) -> Tensor:
    """Delays that are tried, of the last microphone relative to the first, in samples, (D,)."""
    steps = round(STEPS * LONGEST)
    return torch.arange(-steps, steps + 1, device=like.device).to(like.real.dtype) / STEPS


def angular_frequencies(like: Tensor) -> Tensor:
    """Frequencies ω of values (..., F, T), in radians per sample, (F,)."""
    n_freq, real = like.shape[-2], like.real
    return torch.linspace(0, math.pi, n_freq, device=real.device, dtype=real.dtype)


def correlations(phase: Tensor, omega: Tensor) -> Tensor:
    """GCC-PHAT at every delay of the grid, (..., T, D).

    Parameters
    ----------
    phase : Tensor
        ``x_1 x_2* / |x_1 x_2|``, (..., F, T).
    omega : Tensor
        Their frequencies, in radians per sample, (F,).
    """
    steering = _steering(delay_grid(phase), omega)
    return (phase.mT @ steering.conj()).real / len(omega)


def _steering(delays: Tensor, omega: Tensor) -> Tensor:
    """Phase difference ``exp(jωτ)`` of delays τ (..., D), complex (..., F, D)."""
    angle = omega[:, None] * delays[..., None, :]
    return torch.polar(torch.ones_like(angle), angle)
