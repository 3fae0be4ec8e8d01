"""Sources with as many PSD parameters as bins, one per frequency, or none."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.source.base import Evaluate, SourceModel, floored
from fca.source.departure import check_strength, departed, departure_penalty
from fca.spatial.base import Statistics


class Free(SourceModel):
    """Unconstrained λ_nft (Duong et al. 2010; Ito et al. 2018).

    Parameters
    ----------
    inference : {"em", "mu"}
        EM as in the papers, or the faster multiplicative update.
    """

    def __init__(self, inference: str = "em") -> None:
        if inference not in ("em", "mu"):
            raise InputError(f"unknown update {inference!r} of a free PSD: choose em or mu")
        self._em = inference == "em"

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._psd = floored(power)

    def psd(self) -> Tensor:
        return self._psd

    def update(self, evaluate: Evaluate) -> None:
        statistics = evaluate(self._psd)
        if self._em:
            self._psd = floored(statistics.posterior_power)
        else:
            self._psd = floored(self._psd * statistics.multiplier)

    def absorb(self, factor: Tensor) -> Tensor:
        self._psd = floored(self._psd * factor[..., None])
        return factor


class Stationary(SourceModel):
    """λ_nf constant over time: background noise.

    Refined, the power of a bin may depart from that level, as noise is rarely as steady.

    Parameters
    ----------
    strength : float
        ν, of the level where bins depart from it; see :mod:`fca.source.departure`.
    n_steady : int
        Frequencies, from zero, at which they never do.
    """

    def __init__(self, strength: float = 2.0, n_steady: int = 0) -> None:
        check_strength(strength)
        self.strength, self.n_steady = strength, n_steady

    @property
    def refinable(self) -> bool:
        return True

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._level = floored(power.mean(-1, keepdim=True))
        self._psd = self._level.expand_as(power)

    def psd(self) -> Tensor:
        return self._psd

    def update(self, evaluate: Evaluate) -> None:
        """Multiplicative update of the level, which takes all bins with it."""
        self.absorb(self._rise(evaluate(self._psd)))

    def refine(self, evaluate: Evaluate) -> None:
        """Bins depart by EM; the level goes where that costs least, to their harmonic mean."""
        statistics = evaluate(self._psd)
        free = departed(self._level, self.strength, statistics)
        free_level = free.reciprocal().mean(-1, keepdim=True).reciprocal()
        steady_level = floored(self._level * self._rise(statistics)[..., None])
        steady = torch.arange(free.shape[1], device=free.device)[:, None, None] < self.n_steady
        self._level = torch.where(steady, steady_level, free_level)
        self._psd = torch.where(steady, self._level, free)

    def _rise(self, statistics: Statistics) -> Tensor:
        """Factor of a multiplicative update that all bins of a frequency share, (B, F, N)."""
        course = self._psd / self._level
        quadratic = (course * statistics.quadratic).sum(-1)
        trace = (course * statistics.trace).sum(-1)
        return (quadratic / trace).sqrt()

    def penalty(self) -> Tensor:
        return departure_penalty(self._level, self.strength, self._psd)

    def absorb(self, factor: Tensor) -> Tensor:
        self._level = floored(self._level * factor[..., None])
        self._psd = floored(self._psd * factor[..., None])
        return factor


class Fixed(SourceModel):
    """PSDs that are given and stay: oracles, or the output of another system.

    Parameters
    ----------
    psd : Tensor
        λ, (B, F, N, T).
    """

    def __init__(self, psd: Tensor) -> None:
        self._psd = floored(psd)

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        if power.shape != self._psd.shape:
            raise InputError(
                f"the given PSDs are {tuple(self._psd.shape)}, the mixture needs "
                f"{tuple(power.shape)} (batch, frequencies, sources, frames)"
            )

    def psd(self) -> Tensor:
        return self._psd

    def update(self, evaluate: Evaluate) -> None:
        """Nothing to do."""
