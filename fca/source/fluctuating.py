"""Noise that is stationary but for how loud each band of frequencies is: wind, traffic, a crowd."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from fca.source.base import Evaluate, floored
from fca.source.free import Stationary

BANDS = 12
"""Bands of frequencies, which grow wider upwards."""
WIDTH_RATIO = 16.0
"""Width of the highest band relative to the lowest one, about that of the mel scale."""
STEADINESS = 20.0
"""κ, how strongly the course of each band is held to one, in bins."""


class Fluctuating(Stationary):
    """``λ_nft = e_nf h_nbt``: a level per frequency times a course h per band of frequencies.

    h has the prior ``h + 1/h``, times κ (:data:`STEADINESS`), as the negative logarithm of its
    density with respect to ``dh/h``: a generalised inverse Gaussian with mode one, conjugate to the
    majoriser of the likelihood. In refinement, bins may depart from ``e h`` as they do from the
    level of :class:`Stationary`.

    Parameters
    ----------
    strength : float
        As in :class:`Stationary`.
    """

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        super().initialise(power, generator)
        _, n_freq, n_sources, n_frames = power.shape
        n_bands = len(_members(n_freq))
        self._course = power.new_ones(len(power), n_bands, n_sources, n_frames)

    @property
    def expected(self) -> Tensor:
        return floored(self._level * _spread(self._course, self._psd.shape[1]))

    def update(self, evaluate: Evaluate) -> None:
        """Update of the level, then of h by majorisation-minimisation; all bins are scaled.

        h takes the smaller step of the two, as an early estimate of it holds parts of the talkers.
        """
        super().update(evaluate)
        statistics = evaluate(self._psd)
        held = STEADINESS / self._course
        quadratic = _gathered(self._psd * statistics.quadratic) + held
        trace = _gathered(self._psd * statistics.trace) + STEADINESS * self._course
        factor = (quadratic / trace).sqrt()
        self._course = self._course * factor
        self._psd = floored(self._psd * _spread(factor, self._psd.shape[1]))

    def refine(self, evaluate: Evaluate) -> None:
        """Departure of the bins by EM; level and h then move to their optima, one by one."""
        self._depart(evaluate)
        course = _spread(self._course, self._psd.shape[1])
        self._level = (course / self._psd).mean(-1, keepdim=True).reciprocal()
        bins = self.strength * _gathered(torch.ones_like(self._psd))
        shortfall = self.strength * _gathered(self._level / self._psd) + STEADINESS
        root = (bins.square() + 4 * STEADINESS * shortfall).sqrt()
        self._course = (bins + root) / (2 * shortfall)

    def penalty(self) -> Tensor:
        unsteady = (self._course + self._course.reciprocal() - 2).sum((1, 2, 3))
        return super().penalty() + STEADINESS * unsteady


def _gathered(values: Tensor) -> Tensor:
    """Sums (B, K, N, T) over each band of values (B, F, N, T)."""
    members = _members(values.shape[1]).to(values)
    return torch.einsum("kf,bfnt->bknt", members, values)


def _spread(values: Tensor, n_freq: int) -> Tensor:
    """Values (B, K, N, T) of the bands at each of their frequencies, (B, F, N, T)."""
    band = _members(n_freq).to(values).argmax(0)
    return values.index_select(1, band)


@lru_cache
def _members(n_freq: int) -> Tensor:
    """Which frequencies belong to each band, (K, F), of zeros and ones; no band is empty."""
    place = torch.linspace(0, 1, n_freq, dtype=torch.float64)
    warped = torch.log1p((WIDTH_RATIO - 1) * place) / torch.log(torch.tensor(WIDTH_RATIO))
    band = (BANDS * warped).long().clamp_max(BANDS - 1)
    held = band == torch.arange(BANDS)[:, None]
    return held[held.any(1)].double()
