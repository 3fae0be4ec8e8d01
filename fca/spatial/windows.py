"""Talkers who move, by a spatial model of its own in each of overlapping windows in time.

Other than in :mod:`fca.spatial.motion`, not only the covariances of the sources differ from window
to window, but also the basis Q that makes them diagonal. A window alone says too little about the
sources; their PSDs should be known well.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from fca.spatial.base import SpatialModel, Statistics
from fca.spatial.diagonal import JointlyDiagonal
from fca.spatial.expanded import Expanded
from fca.spatial.observation import Observation
from fca.state import choose


class InWindows(SpatialModel):
    """A jointly diagonal model in each of K windows; at first, all are that of the recording.

    What the windows say about a frame is averaged with weights that fade in and out. The cost,
    however, is the mean over the windows, each of which has its own optimum.

    Parameters
    ----------
    whole : JointlyDiagonal
        Model of the recordings.
    length : int
        Frames of a window, less than the recording has. Windows overlap by half or more.
    moving : Tensor
        Recordings in which the windows may differ, (B,); the others keep their model.
    """

    def __init__(self, whole: JointlyDiagonal, length: int, moving: Tensor) -> None:
        self.mixture, self.n_sources = whole.mixture, whole.n_sources
        self._length, n_frames = length, whole.mixture.shape[-1]
        count = 1 + math.ceil((n_frames - length) / (length / 2))
        self._starts = torch.linspace(0, n_frames - length, count).round().long().tolist()
        self._fade = self._fades(whole.mixture.real)
        self._moving = moving.repeat_interleave(count)
        each = whole.with_gains(whole.gains.repeat_interleave(count, 0))
        demixing = whole.demixing.repeat_interleave(count, 0)
        self.inner = each.at(Observation(self._split(whole.mixture)), demixing)

    def unless(self, better: Tensor, old: InWindows) -> InWindows:
        chosen = self.copy()
        chosen.inner = choose(better.repeat_interleave(len(self._starts)), self.inner, old.inner)
        return chosen

    def statistics(self, psd: Tensor) -> Statistics:
        each = self.inner.statistics(self._split(psd))
        quadratic, trace = self._merged(each.quadratic), self._merged(each.trace)
        return Statistics(psd, quadratic, trace, each.rank, lambda: self._merged(each.bin_nll()))

    def update(self, psd: Tensor) -> None:
        before = self.inner.copy()
        self.inner.update(self._split(psd))
        self.inner = choose(self._moving, self.inner, before)

    def bin_nll(self, psd: Tensor) -> Tensor:
        return self._merged(self.inner.bin_nll(self._split(psd)))

    def nll(self, psd: Tensor) -> Tensor:
        return self._mean(self.inner.nll(self._split(psd)))

    def scale(self) -> Tensor:
        return self._mean(self.inner.scale())

    def rescale(self, factor: Tensor) -> None:
        self.inner.rescale(factor.repeat_interleave(len(self._starts), 0))

    def untie(self) -> None:
        self.inner.untie()

    def images(self, psd: Tensor, channels: slice = slice(None)) -> Tensor:
        return self._merged(self.inner.images(self._split(psd), channels))

    def scm(self) -> Tensor:
        """Mean over the windows."""
        return self._mean(self.inner.scm())

    def mean_covariance(self, psd: Tensor) -> Tensor:
        faded = self._by_window(self._split(psd)) * self._fade[:, None, None]
        total = self._by_window(self.inner.mean_covariance(faded.flatten(0, 1))).sum(1)
        return total * (self._length / psd.shape[-1])

    def _fades(self, like: Tensor) -> Tensor:
        """Weights of the frames of every window, (K, W), which sum to one over the windows."""
        hann = torch.hann_window(self._length + 2, periodic=False).to(like)[1:-1]
        total = torch.zeros_like(like[0, 0, 0])
        for start in self._starts:
            total[start : start + self._length] += hann
        return torch.stack([hann / total[s : s + self._length] for s in self._starts])

    def _split(self, values: Tensor) -> Tensor:
        """Values (B, ..., T) of the windows, (B K, ..., W)."""
        parts = [values[..., s : s + self._length] for s in self._starts]
        return torch.stack(parts, dim=1).flatten(0, 1)

    def _merged(self, values: Tensor) -> Tensor:
        """Values (B K, ..., W) of the windows, faded into each other, (B, ..., T)."""
        each = self._by_window(values)
        merged = values.new_zeros(*each[:, 0].shape[:-1], self.mixture.shape[-1])
        for k, (start, fade) in enumerate(zip(self._starts, self._fade, strict=True)):
            merged[..., start : start + self._length] += fade * each[:, k]
        return merged

    def _mean(self, values: Tensor) -> Tensor:
        """Mean over the windows, (B, ...), of values (B K, ...)."""
        return self._by_window(values).mean(1)

    def _by_window(self, values: Tensor) -> Tensor:
        """Axis 0 of (B K, ...) split into recordings and windows, (B, K, ...)."""
        return values.reshape(-1, len(self._starts), *values.shape[1:])


def in_windows(spatial: SpatialModel, length: int, moving: Tensor) -> SpatialModel:
    """A jointly diagonal model, or one with copies of its sources around it, in windows.

    Parameters are those of :class:`InWindows`. Other models are returned unchanged.
    """
    if isinstance(spatial, JointlyDiagonal):
        return InWindows(spatial, length, moving)
    if isinstance(spatial, Expanded):
        other = copy.copy(spatial)
        other.inner = in_windows(spatial.inner, length, moving)
        return other
    return spatial
