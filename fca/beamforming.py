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
    tiny = torch.finfo(target.dtype).tiny ** 0.5
    # All microphones at unit level: rounding would count more at those of low gain otherwise.
    amplitude = _power(target + noise).clamp_min(tiny).sqrt()
    level = amplitude[..., :, None] * amplitude[..., None, :]
    target, noise = target / level, regularise(noise / level)
    ratio = torch.linalg.solve(noise, target)
    # Rounding may make the trace negative, which is at least the ratio of the traces.
    trace = torch.maximum(_power(ratio).sum(-1), _power(target).sum(-1) / _power(noise).sum(-1))
    filters = ratio[..., reference_channel] / trace.clamp_min(tiny)[..., None]
    result: Tensor = filters * amplitude[..., reference_channel, None] / amplitude
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
    noise = total - covariances + WHITE * torch.diag_embed(_power(total))
    return beamformed(covariances, noise, mixture, channels)


def beamformed(target: Tensor, noise: Tensor, mixture: Tensor, channels: slice) -> Tensor:
    """Images of sources at a slice of the microphones, complex (B, F, N, C, T), by :func:`mvdr`.

    From covariances (B, F, N, M, M) of each source and of its noise, and X (B, F, M, T).
    """
    references = range(*channels.indices(mixture.shape[2]))
    return torch.stack([apply(mvdr(target, noise, m), mixture) for m in references], dim=3)


def _power(covariance: Tensor) -> Tensor:
    """Real diagonal (..., M) of (..., M, M)."""
    return covariance.diagonal(dim1=-2, dim2=-1).real


def apply(filters: Tensor, mixture: Tensor) -> Tensor:
    """``h_nᴴ x``: filters (B, F, N, M) on a mixture (B, F, M, T) -> (B, F, N, T)."""
    return filters.conj() @ mixture
