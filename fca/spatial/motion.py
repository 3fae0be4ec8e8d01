"""Talkers who move: spatial covariances that change over time.

``H_nft = Σ_k c_kt A_nfk`` interpolates between covariances A, with windows c that fall off
exponentially around equally spaced frames and sum to one. Each A is thereby fitted to exponentially
windowed statistics of the mixture, and an inverse Wishart prior holds it close to the mean of its
source (exponential windows and that prior are from Bando et al. 2023, there in an amortised model).
A forgetting factor of 1 leaves one window: the fixed model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fca.spatial.base import SpatialModel
from fca.spatial.expanded import Expanded


class Moving(Expanded):
    """Covariances that are interpolated over time.

    Parameters
    ----------
    inner, n_sources
        As in :class:`~fca.spatial.expanded.Expanded`; copy k has the covariances A_nfk.
    windows : Tensor
        c, which sum to one over k, (B or 1, K, T); see :func:`exponential_windows`.
    """

    def __init__(self, inner: SpatialModel, n_sources: int, windows: Tensor) -> None:
        super().__init__(inner, n_sources)
        self.windows = windows

    def expand(self, psd: Tensor) -> Tensor:
        return (psd[:, :, None] * self.windows[:, None, :, None]).flatten(2, 3)

    def fold(self, values: Tensor) -> Tensor:
        return (self._by_copy(values) * self.windows[:, None, :, None]).sum(2)

    def scale(self) -> Tensor:
        """Scale of the mean over time."""
        return self._mean(self.inner.scale())

    def scm(self) -> Tensor:
        """Mean over time of the covariances, (B, F, N, M, M)."""
        return self._mean(self.inner.scm())

    def _mean(self, values: Tensor) -> Tensor:
        copies = self._by_copy(values)
        share = self.windows.mean(-1).to(copies.dtype)
        return torch.einsum("bfkn...,bk->bfn...", copies, share.expand(len(copies), -1))


def exponential_windows(n_frames: int, forgetting: float, like: Tensor) -> Tensor:
    """Windows ``c_kt ∝ forgetting^|t − t_k|`` that sum to one over k, (K, T).

    The distance between their centres t_k is about that in which they fall by a factor of e.
    """
    count = max(1, round(n_frames * (1 - forgetting)))
    centres = (torch.arange(count, device=like.device) + 0.5) * n_frames / count - 0.5
    distance = (torch.arange(n_frames, device=like.device) - centres[:, None]).abs().to(like.dtype)
    decay = torch.log(torch.tensor(forgetting, dtype=like.dtype))
    return (decay * distance).softmax(0)
