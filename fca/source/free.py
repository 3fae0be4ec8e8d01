"""Sources with as many PSD parameters as bins, one per frequency, or none."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.source.base import Evaluate, SourceModel, floored


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
    """λ_nf constant over time: background noise."""

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._shape = power.shape
        self._level = floored(power.mean(-1, keepdim=True))

    def psd(self) -> Tensor:
        return self._level.expand(self._shape)

    def update(self, evaluate: Evaluate) -> None:
        statistics = evaluate(self.psd())
        quadratic = statistics.quadratic.sum(-1, keepdim=True)
        trace = statistics.trace.sum(-1, keepdim=True)
        self._level = floored(self._level * (quadratic / trace).sqrt())

    def absorb(self, factor: Tensor) -> Tensor:
        self._level = floored(self._level * factor[..., None])
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
