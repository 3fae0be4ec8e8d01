"""Observations: what the rows of a demixing matrix are applied to."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fca.linalg import pack_outer, regularise, weighted_covariance
from fca.memo import Latest
from fca.state import State

LOAD = 4.0
"""Diagonal load of covariances in units of rounding, without which identical channels are
singular."""

BAND_BYTES = 1 << 22
"""Size of the covariances that are updated with at a time."""

Images = Callable[[slice], Tensor]
"""Gives source images (B, F, N, C, T) at a slice of the channels."""


class Observation(State):
    """The plain mixture: the rows of Q see one frame at a time.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    heard : Tensor, optional
        What the microphones hear, where the channels of the mixture are components of that.

    Attributes
    ----------
    delays : bool
        Whether there are delays between its channels: they are microphones, not components.
    frames : Tensor
        Vectors that :meth:`rows` are applied to, (B, F, D, T); here the mixture, D = M.
    """

    def __init__(self, mixture: Tensor, heard: Tensor | None = None) -> None:
        self.mixture = mixture
        self.delays = heard is None
        self.heard = mixture if heard is None else heard
        self.frames = mixture
        self._covariance_of, self._stacked_of = Latest(_covariance), Latest(_stacked)

    def rows(self, demixing: Tensor) -> Tensor:
        """Rows (B, F, M, D) that a demixing matrix Q (B, F, M, M) makes over :attr:`frames`."""
        return demixing

    def early(self) -> Observation:
        """The observation in which a start is looked for; here the mixture itself."""
        return self

    @property
    def unseen_nll(self) -> Tensor | float:
        """Negative log-likelihood per frame of the components that Q does not see, (B, F)."""
        return 0.0

    def at_microphones(self, columns: Tensor) -> Tensor:
        """Columns (B, F, ..., K) of Q⁻¹ at the microphones, where Q sees components."""
        return columns

    def complete(self, demixing: Tensor) -> Tensor:
        """Q for all microphones, (B, F, M, M).

        Rows are added for the components that the given Q does not see; here there are none.
        """
        return demixing

    def covariance(self, weight: Tensor) -> Tensor:
        """Covariances V (B, F, K, D, D) of the frames with weights (B, F, K, T).

        They are cached until the weights are replaced, for successive updates of Q.
        """
        return self._covariance_of(self.outer, weight)

    def adapt(self, weight: Tensor) -> Tensor:
        """:meth:`covariance` for the first K rows, after other parameters are fitted to them.

        Here there are none; with prediction they are the filters of these rows.
        """
        return self.covariance(weight)

    def by_bands(self, weight: Tensor) -> Iterator[Tensor]:
        """Covariances of :meth:`adapt`, those of one band of frequencies after the other.

        Of large arrays, they are made when they are asked for, so that they stay in the cache.
        Observations with covariances of their own have one band.
        """
        batch, n_freq, n_weights, _ = weight.shape
        size = batch * n_freq * n_weights * self.outer.shape[2] * 2 * weight.element_size()
        n_bands = math.ceil(size / BAND_BYTES)
        if n_bands == 1 or not self._plain:
            yield self.adapt(weight)
            return
        bands = (values.tensor_split(n_bands, dim=1) for values in (self.outer, weight))
        for outer, its_weight in zip(*bands, strict=True):
            yield _covariance(outer, its_weight)

    @property
    def _plain(self) -> bool:
        kind = type(self)
        return kind.covariance is Observation.covariance and kind.adapt is Observation.adapt

    def images(self, demixing: Tensor, images: Images, channels: slice) -> Tensor:
        """Images at the chosen channels; ``images`` computes those of what the rows of Q pass."""
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
