"""Spatial models in which each source acts in several ways, each with covariances of its own.

``Y_ft = Σ_n Σ_j (E_j λ_n)_ft H_nfj`` with linear operators E_j over the frames of a PSD: delays for
late sound that follows the early sound, windows for talkers who move. This is the instantaneous,
fixed model of N J sources with the PSDs E_j λ_n, and its likelihood, updates and filter are used.
By the chain rule, the :class:`~fca.spatial.base.Statistics` of a source are those of its copies,
mapped back by the adjoint of E_j; they include what λ_nft does in other frames.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from functools import partial

import torch
from torch import Tensor

from fca.memo import Latest
from fca.spatial.base import SpatialModel, Statistics
from fca.spatial.diagonal import JointlyDiagonal

LATE = 0.1
"""Initial gains of late sound, relative to the mean gain of the early sound."""


class Expanded(SpatialModel):
    """A spatial model of N J sources, J copies of each, presented as one of N sources.

    Parameters
    ----------
    inner : SpatialModel
        Model of all copies, fitted to the same mixture; its source j N + n is copy j of source n.
    n_sources : int
        N.
    """

    def __init__(self, inner: SpatialModel, n_sources: int) -> None:
        self.inner, self.mixture = inner, inner.mixture
        self.n_sources = n_sources
        self.n_copies = inner.n_sources // n_sources

    @abstractmethod
    def expand(self, psd: Tensor) -> Tensor:
        """PSDs (B, F, J N, T) of all copies of sources with PSDs (B, F, N, T)."""

    @abstractmethod
    def fold(self, values: Tensor) -> Tensor:
        """Adjoint of :meth:`expand`."""

    def statistics(self, psd: Tensor) -> Statistics:
        copies = self.inner.statistics(self.expand(psd))
        quadratic, trace = self.fold(copies.quadratic), self.fold(copies.trace)
        return Statistics(psd, quadratic, trace, self._rank(copies), copies.bin_nll)

    def update(self, psd: Tensor) -> None:
        self.inner.update(self.expand(psd))

    def bin_nll(self, psd: Tensor) -> Tensor:
        return self.inner.bin_nll(self.expand(psd))

    def nll(self, psd: Tensor) -> Tensor:
        return self.inner.nll(self.expand(psd))

    def untie(self) -> None:
        self.inner.untie()

    def on_whole_array(self, psd: Tensor) -> Expanded:
        other = copy.copy(self)
        other.inner = self.inner.on_whole_array(self.expand(psd))
        return other

    def rescale(self, factor: Tensor) -> None:
        self.inner.rescale(factor.repeat(1, 1, self.n_copies))

    def images(self, psd: Tensor, channels: slice = slice(None)) -> Tensor:
        images = self.inner.images(self.expand(psd), channels)
        return self._by_copy(images)[:, :, : self._n_heard].sum(2)

    def mean_covariance(self, psd: Tensor) -> Tensor:
        covariances = self.inner.mean_covariance(self.expand(psd))
        return self._by_copy(covariances)[:, :, : self._n_heard].sum(2)

    def _by_copy(self, values: Tensor) -> Tensor:
        """Axis 2 of (B, F, J N, ...) split into copies and sources, (B, F, J, N, ...)."""
        return values.reshape(*values.shape[:2], self.n_copies, self.n_sources, *values.shape[3:])

    @property
    def _n_heard(self) -> int:
        """Number of copies, the first ones, that are part of the images."""
        return self.n_copies

    def _rank(self, copies: Statistics) -> int:
        """Rank of the covariance that one λ_nft scales."""
        return copies.rank


class MovingAverage(Expanded):
    """Late sound as further sources, whose PSDs are those of the talkers, delayed.

    ``λ_nf,t−τ H_nfτ`` for τ = 0 ... J − 1 (Sekiguchi et al. 2022, MA-FastMNMF). Its phase is not
    modelled, so that it may be diffuse, which predicted reverberation
    (:mod:`fca.spatial.reverberation`) cannot.

    Parameters
    ----------
    inner, n_sources
        As in :class:`Expanded`; copy τ is τ frames late.
    delay : int
        Frames after which sound counts as late; copies before it are part of the images.
    reverberant : bool
        Make all copies part of the images.
    """

    def __init__(
        self, inner: SpatialModel, n_sources: int, delay: int = 2, reverberant: bool = False
    ) -> None:
        super().__init__(inner, n_sources)
        self._heard = self.n_copies if reverberant else min(delay, self.n_copies)
        self._late_copies = Latest(partial(_delayed_copies, self.n_copies))

    @classmethod
    def around(
        cls,
        inner: JointlyDiagonal,
        n_taps: int,
        delay: int = 2,
        reverberant: bool = False,
        level: float = LATE,
    ) -> MovingAverage:
        """A model with ``n_taps`` late copies of all its sources, diffuse at first.

        Their gains are ``level`` times the mean gain of the early sound.
        """
        wider = inner.with_gains(late_gains(inner.gains, n_taps, level))
        return cls(wider, inner.n_sources, delay, reverberant)

    def expand(self, psd: Tensor) -> Tensor:
        return self._late_copies(psd)

    def fold(self, values: Tensor) -> Tensor:
        first, *others = self._by_copy(values).unbind(2)
        folded, n_frames = first.clone(), values.shape[-1]
        for k, late in enumerate(others[: n_frames - 1], 1):
            folded[..., : n_frames - k] += late[..., k:]
        return folded

    def scale(self) -> Tensor:
        """Scale of the first copy, as λ is the PSD of the earliest sound."""
        return self.inner.scale()[..., : self.n_sources]

    def scm(self) -> Tensor:
        """Covariances of the first copy, (B, F, N, M, M)."""
        return self.inner.scm()[:, :, : self.n_sources]

    @property
    def _n_heard(self) -> int:
        return self._heard

    def _rank(self, copies: Statistics) -> int:
        return copies.rank * self.n_copies


def _delayed_copies(n_copies: int, psd: Tensor) -> Tensor:
    """PSDs (B, F, N, T) delayed by 0 to ``n_copies`` - 1 frames, (B, F, J N, T)."""
    n_frames = psd.shape[-1]
    copies = psd.new_zeros(*psd.shape[:2], n_copies, *psd.shape[2:])
    for k in range(min(n_copies, n_frames)):
        copies[:, :, k, :, k:] = psd[..., : n_frames - k]
    return copies.flatten(2, 3)


def late_gains(gains: Tensor, n_taps: int, level: float = LATE) -> Tensor:
    """Initial gains (B, F or 1, (1 + n_taps) N, M): those of the early sound, then diffuse ones."""
    late = level * gains.mean(-1, keepdim=True).expand_as(gains)
    return torch.cat([gains, *[late] * n_taps], dim=2)
