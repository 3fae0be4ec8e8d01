"""What the rows of a demixing matrix are applied to."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from fca.linalg import pack_outer, regularise, weighted_covariance
from fca.memo import Latest
from fca.state import State

LOAD = 4.0
"""Diagonal load of covariances in units of rounding: identical channels are told apart by it."""

Images = Callable[[slice], Tensor]
"""Source images (B, F, N, C, T) at a slice of the channels."""


class Observation(State):
    """The mixture as it is: rows of Q see one frame at a time.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    delays : bool
        Whether its channels are microphones, between which there are delays.

    Attributes
    ----------
    frames : Tensor
        What the vectors of :meth:`rows` are multiplied with, (B, F, D, T); here D = M.
    """

    def __init__(self, mixture: Tensor, delays: bool = True) -> None:
        self.mixture, self.delays = mixture, delays
        self.frames = mixture
        self._covariance_of, self._stacked_of = Latest(_covariance), Latest(_stacked)

    def rows(self, demixing: Tensor) -> Tensor:
        """Rows (B, F, M, D) over :attr:`frames` of a demixing matrix Q (B, F, M, M)."""
        return demixing

    def early(self) -> Observation:
        """What a start is looked for in; here the mixture itself."""
        return self

    @property
    def unseen_nll(self) -> Tensor | float:
        """Negative log-likelihood per frame of what no row of Q sees, (B, F)."""
        return 0.0

    def at_microphones(self, columns: Tensor) -> Tensor:
        """Columns of Q⁻¹ (B, F, ..., K) as the microphones hear them."""
        return columns

    def complete(self, demixing: Tensor) -> Tensor:
        """Q (B, F, M, M) with rows for all that the given one does not see."""
        return demixing

    def covariance(self, weight: Tensor) -> Tensor:
        """Covariances V (B, F, K, D, D) of the frames with weights (B, F, K, T).

        Kept until the weights are replaced, for updates of Q that follow each other.
        """
        return self._covariance_of(self.outer, weight)

    def adapt(self, weight: Tensor) -> Tensor:
        """:meth:`covariance` of the first K rows, to which all else is fitted on the way."""
        return self.covariance(weight)

    def images(self, demixing: Tensor, images: Images, channels: slice) -> Tensor:
        """Images at the chosen channels, given those of what the rows of Q pass."""
        return images(channels)

    @property
    def stacked(self) -> Tensor:
        """Real and imaginary parts of :attr:`frames`, (B, F, 2 D, T)."""
        return self._stacked_of(self.frames)

    @functools.cached_property
    def outer(self) -> Tensor:
        """Packed x xᴴ of :attr:`frames`, (B, F, D², T)."""
        return pack_outer(self.frames)


def _stacked(frames: Tensor) -> Tensor:
    return torch.cat([frames.real, frames.imag], dim=2)


def _covariance(outer: Tensor, weight: Tensor) -> Tensor:
    return regularise(weighted_covariance(outer, weight), LOAD)


def identity_demixing(mixture: Tensor) -> Tensor:
    """Q = I for mixtures (B, F, M, T), (B, F, M, M)."""
    eye = torch.eye(mixture.shape[2], dtype=mixture.dtype, device=mixture.device)
    return eye.expand(*mixture.shape[:2], -1, -1)
