"""A prior that keeps spatial covariances of the same source together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.linalg import hermitise
from fca.spatial.base import log_abs_det
from fca.state import State


@dataclass(frozen=True)
class InverseWishart(State):
    """Covariances of J copies of a source around a mean that they have in common.

    ``A_nj ~ IW(ν, ν H̄_n)`` up to constants: minus its logarithm is ν times Stein's divergence
    ``tr(H̄ A⁻¹) − log|H̄ A⁻¹| − M``, and H̄ that minimises the sum over copies is their harmonic mean.

    Attributes
    ----------
    strength : Tensor
        ν of each recording, in frames: as many observations weigh as much as the prior, (B,).
    n_copies : int
        J.
    """

    strength: Tensor
    n_copies: int

    def mean(self, scm: Tensor) -> Tensor:
        """H̄ of all copies (B, F, J N, M, M), repeated for each."""
        n_sources = scm.shape[2] // self.n_copies
        copies = torch.linalg.inv(scm).reshape(
            *scm.shape[:2], self.n_copies, n_sources, *scm.shape[3:]
        )
        mean = hermitise(torch.linalg.inv(copies.mean(2)))
        return mean.repeat(1, 1, self.n_copies, 1, 1)

    def penalty(self, scm: Tensor) -> Tensor:
        """Negative log-density, summed over sources, copies and frequencies, (B,)."""
        mean = self.mean(scm)
        ratio = torch.linalg.solve(scm, mean)
        trace = ratio.diagonal(dim1=-2, dim2=-1).real.sum(-1) - scm.shape[-1]
        divergence = trace + log_abs_det(scm) - log_abs_det(mean)
        penalty: Tensor = self.strength * divergence.sum((1, 2))
        return penalty
