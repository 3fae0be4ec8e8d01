"""Low-rank sources: ``λ_nft = Σ_k w_nfk h_nkt`` (Sawada et al. 2013; Kitamura et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import at_least_one, not_negative
from fca.source.base import Evaluate, SourceModel, floored
from fca.spatial.base import FLOOR, ObservedStatistics, Statistics


class NMF(SourceModel):
    """Non-negative matrix factorisation with multiplicative updates.

    Parameters
    ----------
    n_bases : int
        K, the number of bases of each source.
    warmup : int
        Updates on the initial powers alone, before the spatial model takes part. Without them the
        random bases would first pull the spatial model away from its start.

    Raises
    ------
    InputError
        Unless there is at least one basis, and no negative number of updates.
    """

    def __init__(self, n_bases: int = 8, warmup: int = 20) -> None:
        self.n_bases = at_least_one("n_bases", n_bases)
        self.warmup = not_negative("warmup", warmup)

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        batch, n_freq, n_sources, n_frames = power.shape
        w = _uniform((n_sources, n_freq, self.n_bases), power, generator)
        h = _uniform((n_sources, self.n_bases, n_frames), power, generator)
        w = w * power.mean(-1).mT[..., None] / self.n_bases
        self._set(w, h.expand(batch, -1, -1, -1))
        target = floored(power)
        for _ in range(self.warmup):
            self.update(lambda psd: ObservedStatistics(psd, target))

    def psd(self) -> Tensor:
        return self._psd

    def update(self, evaluate: Evaluate) -> None:
        w, h = self._w, self._h
        quadratic, trace = _by_source(evaluate(self._psd))
        self._set(floored(w * (quadratic @ h.mT / (trace @ h.mT)).sqrt()), h)
        w = self._w
        quadratic, trace = _by_source(evaluate(self._psd))
        self._set(w, floored(h * (w.mT @ quadratic / (w.mT @ trace)).sqrt()))

    def absorb(self, factor: Tensor) -> Tensor:
        self._set(self._w * factor.mT[..., None], self._h)
        return factor

    def _set(self, w: Tensor, h: Tensor) -> None:
        """Replace the factors (B, N, F, K) and (B, N, K, T), and their product λ."""
        self._w, self._h = w, h
        self._psd = (w @ h).clamp_min_(FLOOR).transpose(1, 2)


def _by_source(statistics: Statistics) -> tuple[Tensor, Tensor]:
    """The two statistics as (B, N, F, T)."""
    return statistics.quadratic.transpose(1, 2), statistics.trace.transpose(1, 2)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Random factors in (0.1, 1), which a seed makes the same on any device and in any precision.

    They have no batch axis, so that the start of a recording does not depend on the others.
    """
    values = torch.rand(shape, dtype=torch.float64, generator=generator)
    return (0.1 + 0.9 * values).to(like)
