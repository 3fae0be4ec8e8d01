"""Frequency-invariant sources: one variance per source and frame (independent vector analysis).

Non-Gaussian source priors are scale mixtures of Gaussians. If the variance λ is a parameter and the
mixing density its penalty, minimising over λ gives the cost of the papers, and the rank-1 model
with these PSDs is exactly AuxIVA (Ono 2011).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from fca.errors import InputError
from fca.source.base import Evaluate, SourceModel, floored
from fca.spatial.base import FLOOR


class Invariant(SourceModel):
    """λ shared by all frequencies, or separate for each (``tied=False``, as in ICA).

    The update is EM, which for rank-1 models is the exact minimum: with M the rank of the spatial
    covariances and p the posterior powers, it minimises ``M (p/λ + log λ)`` plus the penalty.
    """

    def __init__(self, tied: bool = True) -> None:
        self.tied = tied

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._shape = power.shape
        self._variance = self._minimise(power)

    def psd(self) -> Tensor:
        return self._variance.expand(self._shape)

    def update(self, evaluate: Evaluate) -> None:
        now = evaluate(self.psd())
        self._variance = self._minimise(now.posterior_power, now.rank)

    def _minimise(self, power: Tensor, rank: int = 1) -> Tensor:
        total = power.sum(1, keepdim=True) if self.tied else power
        return floored(self._variance_of(total, power.shape[1] if self.tied else 1, rank))

    def _sum_over_variances(self, values: Tensor) -> Tensor:
        """Sum (B, F or 1, N, T) over everything but the batch."""
        return values.sum((1, 2, 3))

    @abstractmethod
    def _variance_of(self, total: Tensor, size: int, rank: int) -> Tensor:
        """λ, given the total posterior power of the ``size`` bins of that rank that share it."""


class Gauss(Invariant):
    """Time-varying Gaussian: λ is the mean power (Ono 2012).

    Parameters
    ----------
    tied : bool
        See :class:`Invariant`.
    quietest : float
        Lower bound of λ in a frame, relative to its mean over the initial powers. Without it the
        likelihood is unbounded: an output that cancels a single frame at all frequencies would gain
        more there than separation gains elsewhere.

    Raises
    ------
    InputError
        For a lower bound that is negative or not finite.
    """

    def __init__(self, tied: bool = True, quietest: float = 0.0) -> None:
        if not 0 <= quietest < math.inf:
            raise InputError(f"quietest cannot be negative or infinite, got {quietest}")
        super().__init__(tied)
        self.quietest = quietest

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        first = power.mean((1, 3) if self.tied else 3, keepdim=True)
        self._bound = self.quietest * first
        super().initialise(power, generator)

    def _variance_of(self, total: Tensor, size: int, rank: int) -> Tensor:
        return torch.maximum(total / size, self._bound)


class Laplace(Invariant):
    """Spherical Laplace, ``cost = 2 Σ r`` with r the norm over frequency (Ono 2011)."""

    def _variance_of(self, total: Tensor, size: int, rank: int) -> Tensor:
        """Root of ``λ² + (M − 1) size λ − M total``; r for rank 1."""
        half = (rank - 1) * size / 2
        if not half:
            return total.clamp_min(FLOOR**2).sqrt()  # the gradient of silence is finite, too
        return rank * total / (half + (half**2 + rank * total).sqrt())

    def penalty(self) -> Tensor:
        size = self._shape[1] if self.tied else 1
        return self._sum_over_variances(self._variance - size * self._variance.log())


class Student(Invariant):
    """Spherical Student's t with ν degrees of freedom.

    Parameters
    ----------
    dof : float
        ν > 0.
    tied : bool
        See :class:`Invariant`.
    """

    def __init__(self, dof: float = 1.0, tied: bool = True) -> None:
        if not dof > 0:
            raise InputError(f"degrees of freedom must be positive, got {dof}")
        super().__init__(tied)
        self.dof = dof

    def _variance_of(self, total: Tensor, size: int, rank: int) -> Tensor:
        return (rank * total + self.dof / 2) / (rank * size + self.dof / 2)

    def penalty(self) -> Tensor:
        inverse_gamma = self._variance.log() + self._variance.reciprocal()
        return self.dof / 2 * self._sum_over_variances(inverse_gamma)
