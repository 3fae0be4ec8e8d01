"""A prior that keeps the spatial covariances of a source's copies together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.linalg import hermitise
from fca.spatial.base import log_abs_det
from fca.state import State


@dataclass(frozen=True)
class InverseWishart(State):
    """Covariances A_nj of J copies of a source n around a mean H̄_n that they have in common.

    ``A_nj ~ IW(ν, ν H̄_n)``, an inverse Wishart distribution with its density taken with respect to
    the invariant measure ``|A|^−M dA``: with respect to dA, the negative logarithm would have a
    further term ``M log|A|``. Up to constants, the negative logarithm is ν times Stein's divergence
    ``tr(H̄ A⁻¹) − log|H̄ A⁻¹| − M``, which has its minimum at A = H̄. The H̄ that minimises its sum
    over the copies is their harmonic mean.

    Attributes
    ----------
    strength : Tensor
        ν of each recording, (B,): the prior weighs as much as so many frames.
    n_copies : int
        J, the number of copies of each source.
    """

    strength: Tensor
    n_copies: int

    def mean(self, scm: Tensor) -> Tensor:
        """H̄ of all copies (B, F, J N, M, M), repeated for each copy."""
        n_sources = scm.shape[2] // self.n_copies
        copies = torch.linalg.inv(scm).reshape(
            *scm.shape[:2], self.n_copies, n_sources, *scm.shape[3:]
        )
        mean = hermitise(torch.linalg.inv(copies.mean(2)))
        return mean.repeat(1, 1, self.n_copies, 1, 1)

    def penalty(self, scm: Tensor) -> Tensor:
        """Negative log-density up to constants, summed over all but the recordings, (B,)."""
        mean = self.mean(scm)
        ratio = torch.linalg.solve(scm, mean)
        trace = ratio.diagonal(dim1=-2, dim2=-1).real.sum(-1) - scm.shape[-1]
        divergence = trace + log_abs_det(scm) - log_abs_det(mean)
        penalty: Tensor = self.strength * divergence.sum((1, 2))
        return penalty
