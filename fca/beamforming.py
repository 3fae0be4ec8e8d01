"""Beamformers computed from spatial covariance matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.linalg import regularise


def mvdr(target: Tensor, noise: Tensor, reference_channel: int) -> Tensor:
    """MVDR filters without a steering vector, ``Φn⁻¹Φs u / tr(Φn⁻¹Φs)`` (Souden et al. 2010).

    Parameters
    ----------
    target, noise : Tensor
        Covariances of what to keep and what to suppress, (..., M, M).
    reference_channel : int
        Microphone whose image of the target is kept undistorted.

    Returns
    -------
    Tensor
        Filters h (..., M); the output is ``hᴴ x``.
    """
    ratio = torch.linalg.solve(regularise(noise), target)
    trace = ratio.diagonal(dim1=-2, dim2=-1).sum(-1)
    tiny = torch.finfo(target.dtype).tiny ** 0.5
    result: Tensor = ratio[..., reference_channel] / (trace.real.clamp_min(tiny))[..., None]
    return result


def apply(filters: Tensor, mixture: Tensor) -> Tensor:
    """``h_nᴴ x``: filters (B, F, N, M) on a mixture (B, F, M, T) -> (B, F, N, T)."""
    return filters.conj() @ mixture
