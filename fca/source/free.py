"""Sources with one PSD parameter per bin, with one per frequency, or with given PSDs."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError, check_choice
from fca.source.base import Evaluate, SourceModel, floored
from fca.source.departure import check_strength, departed, departure_penalty


class Free(SourceModel):
    """Unconstrained λ_nft (Duong et al. 2010; Ito et al. 2018).

    Parameters
    ----------
    inference : {"em", "mu"}
        EM as in the papers, or the faster multiplicative update.
    """

    def __init__(self, inference: str = "em") -> None:
        check_choice("inference", inference, ("em", "mu"), " of a free PSD")
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

    In refinement, bins may depart from that level, as noise is rarely perfectly stationary.

    Parameters
    ----------
    strength : float
        ν, how strongly bins are held to the level when they depart; see
        :mod:`fca.source.departure`.
    """

    def __init__(self, strength: float = 2.0) -> None:
        check_strength(strength)
        self.strength = strength

    @property
    def refinable(self) -> bool:
        return True

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._level = floored(power.mean(-1, keepdim=True))
        self._psd = self._level.expand_as(power)

    def psd(self) -> Tensor:
        return self._psd

    def update(self, evaluate: Evaluate) -> None:
        """Multiplicative update of the level, by which all bins are scaled.

        By majorisation-equalisation (see :class:`~fca.spatial.JointlyDiagonal`), since a single
        update may have to reach a level of which nothing is known.
        """
        statistics, course = evaluate(self._psd), self._psd / self._level
        quadratic = (course * statistics.quadratic).sum(-1)
        trace = (course * statistics.trace).sum(-1)
        self.absorb(quadratic / trace)

    def refine(self, evaluate: Evaluate) -> None:
        """Departure of the bins by EM; the level then moves to their harmonic mean, its optimum."""
        self._psd = departed(self._level, self.strength, evaluate(self._psd))
        self._level = self._psd.reciprocal().mean(-1, keepdim=True).reciprocal()

    def penalty(self) -> Tensor:
        return departure_penalty(self._level, self.strength, self._psd)

    def absorb(self, factor: Tensor) -> Tensor:
        self._level = floored(self._level * factor[..., None])
        self._psd = floored(self._psd * factor[..., None])
        return factor


class Fixed(SourceModel):
    """PSDs that are given and never change: oracles, or the output of another system.

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
