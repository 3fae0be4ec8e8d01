"""Beamformers computed from spatial covariance matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.linalg import regularise

WHITE = 1e-3
"""Spatially white noise that is added to that of the other sources at each microphone, relative to
the mixture there, as models may have none."""


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
    noise = regularise(noise)
    ratio = torch.linalg.solve(noise, target)
    # Rounding may make the trace negative, which is at least the ratio of the traces.
    trace = torch.maximum(_trace(ratio), _trace(target) / _trace(noise))
    tiny = torch.finfo(target.dtype).tiny ** 0.5
    result: Tensor = ratio[..., reference_channel] / trace.clamp_min(tiny)[..., None]
    return result


def mvdr_images(
    mixture: Tensor, covariances: Tensor, channels: slice, background: Tensor | None = None
) -> Tensor:
    """Source images by one time-invariant MVDR filter each, from the covariances of a model.

    The noise of a source is the sum of the covariances of the other sources and the background. The
    filter distorts the source less than a Wiener filter does, and leaves more of the others.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    covariances : Tensor
        Covariances of the source images, ``mean_t λ_nft H_nf``, (B, F, N, M, M).
    channels : slice
        Microphones at which the images are wanted.
    background : Tensor, optional
        Covariance of what belongs to none of the sources, (B, F, M, M).

    Returns
    -------
    Tensor
        Complex (B, F, N, C, T).
    """
    total = covariances.sum(2, keepdim=True)
    if background is not None:
        total = total + background[:, :, None]
    tiny = torch.finfo(mixture.real.dtype).tiny ** 0.5
    amplitude = total.diagonal(dim1=-2, dim2=-1).real.clamp_min(tiny).sqrt()
    # Microphones at unit level: white noise would drown those of low gain otherwise.
    level = amplitude[..., :, None] * amplitude[..., None, :]
    eye = torch.eye(total.shape[-1], dtype=total.dtype, device=total.device)
    target = covariances / level
    noise = (total - covariances) / level + WHITE * eye
    heard = mixture / amplitude[:, :, 0, :, None]
    references = range(*channels.indices(mixture.shape[2]))
    images = [apply(mvdr(target, noise, m), heard) * amplitude[..., m, None] for m in references]
    return torch.stack(images, dim=3)


def _trace(matrix: Tensor) -> Tensor:
    """Real trace of (..., M, M), (...)."""
    return matrix.diagonal(dim1=-2, dim2=-1).real.sum(-1)


def apply(filters: Tensor, mixture: Tensor) -> Tensor:
    """``h_nᴴ x``: filters (B, F, N, M) on a mixture (B, F, M, T) -> (B, F, N, T)."""
    return filters.conj() @ mixture
