"""Low-rank sources: ``λ_nft = Σ_k w_nfk h_nkt`` (Sawada et al. 2013; Kitamura et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.source.base import Evaluate, SourceModel, floored
from fca.spatial.base import ObservedStatistics, Statistics


class NMF(SourceModel):
    """Non-negative matrix factorisation with multiplicative updates.

    Parameters
    ----------
    n_bases : int
        K, the number of bases of each source.
    warmup : int
        Updates on the initial powers alone, before the spatial model takes part. Without it the
        random bases would first pull the spatial model away from its start.
    """

    def __init__(self, n_bases: int = 8, warmup: int = 20) -> None:
        if n_bases < 1 or warmup < 0:
            raise InputError(f"NMF needs at least one basis, got n_bases={n_bases}")
        self.n_bases = n_bases
        self.warmup = warmup

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        batch, n_freq, n_sources, n_frames = power.shape
        self._w = _uniform((batch, n_sources, n_freq, self.n_bases), power, generator)
        self._h = _uniform((batch, n_sources, self.n_bases, n_frames), power, generator)
        self._w = self._w * power.mean(-1).mT[..., None] / self.n_bases
        target = floored(power)
        for _ in range(self.warmup):
            self.update(lambda psd: ObservedStatistics(psd, target))

    def psd(self) -> Tensor:
        return floored((self._w @ self._h).transpose(1, 2))

    def update(self, evaluate: Evaluate) -> None:
        quadratic, trace = _by_source(evaluate(self.psd()))
        self._w = floored(self._w * (quadratic @ self._h.mT / (trace @ self._h.mT)).sqrt())
        quadratic, trace = _by_source(evaluate(self.psd()))
        self._h = floored(self._h * (self._w.mT @ quadratic / (self._w.mT @ trace)).sqrt())

    def absorb(self, factor: Tensor) -> Tensor:
        self._w = self._w * factor.mT[..., None]
        return factor


def _by_source(statistics: Statistics) -> tuple[Tensor, Tensor]:
    """The two statistics as (B, N, F, T)."""
    return statistics.quadratic.transpose(1, 2), statistics.trace.transpose(1, 2)


def _uniform(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Random factors in (0.1, 1); a seed means the same on any device and in any precision."""
    values = torch.rand(shape, dtype=torch.float64, generator=generator)
    return (0.1 + 0.9 * values).to(like)
