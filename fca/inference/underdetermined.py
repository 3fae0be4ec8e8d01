"""The start of more sources than microphones, which no demixing matrix separates.

Each source is a class of bins. Two microphones tell classes apart by direction alone, which is not
much; what the source model takes each of them for tells the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fca.clustering import CACGMM, random_masks
from fca.inference.delays import delay_masks
from fca.inference.iterate import iterate
from fca.inference.start import DIFFUSE, Start, between_classes
from fca.linalg import abs2, pack_outer, weighted_covariance
from fca.source import SourceModel
from fca.spatial.base import FLOOR
from fca.spatial.diagonal import column_power

BY_DIRECTION = 30
"""Iterations of the clustering before the source model is asked."""
ROUNDS = 6
"""How often it is asked ..."""
BETWEEN = 4
"""... and iterations after each time."""


def underdetermined(
    mixture: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    n_iter: int = BY_DIRECTION,
    from_delays: bool = True,
) -> Start:
    """A class of a cACGMM for every source, its covariance as gains.

    The classes start from :func:`~fca.inference.delays.delay_masks`, or at random if these have
    nothing to go by or are not wanted. Where they have, a random start is in doubt: its cost may
    end lower, as there are many optima, but its sources are talkers less often.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    n_sources : int
        N.
    generator : torch.Generator
        Random numbers of the start and of the source model.
    source : SourceModel
        If it judges what a source is, it has a say in which bins are of which; see
        :func:`as_sources`.
    n_iter : int
        Iterations of the clustering before that.
    from_delays : bool
        Whether the delays are looked at.
    """
    begin = random_masks(mixture, n_sources, generator)
    by_delay, found = delay_masks(mixture, n_sources)
    begin = torch.where((found & from_delays)[:, None, None, None], by_delay, begin)
    doubt = torch.where(found & (not from_delays), torch.inf, 0.0)
    classes = CACGMM(mixture, n_sources, generator, masks=begin)
    iterate(classes, n_iter, monitor_every=None)
    masks = classes.masks
    if source.judges:
        masks = as_sources(mixture, masks, source, generator)
    return _of_classes(mixture, masks, generator, doubt)


def as_sources(
    mixture: Tensor, masks: Tensor, source: SourceModel, generator: torch.Generator
) -> Tensor:
    """Masks (B, F, N, T) of the cACGMM whose mixture weights the source model infers.

    ``π_nft ∝ √λ_nft`` with the PSDs λ that it takes the power of each class for. The root keeps a
    class from what it has got wrong: weights ``∝ λ`` would leave the directions little say.
    """
    power = abs2(mixture).mean(2, keepdim=True)
    classes = CACGMM(mixture, masks.shape[2], generator, masks=masks)
    for _ in range(ROUNDS):
        source.initialise((masks * power).clamp_min(FLOOR), generator)
        amplitude = source.psd().sqrt()
        classes.weights = amplitude / amplitude.sum(2, keepdim=True)
        iterate(classes, BETWEEN, monitor_every=None)
        masks = classes.masks
    return masks


def _of_classes(mixture: Tensor, masks: Tensor, generator: torch.Generator, doubt: Tensor) -> Start:
    """Start of sources with masks (B, F, N, T)."""
    demixing = between_classes(mixture, masks, masks.shape[2], generator).demixing
    scm = weighted_covariance(pack_outer(mixture), masks)
    whitened = demixing[:, :, None] @ scm @ demixing[:, :, None].mH
    gains = whitened.diagonal(dim1=-2, dim2=-1).real
    at_microphones = gains @ column_power(torch.linalg.inv(demixing))[..., None]
    gains = gains / at_microphones.clamp_min(torch.finfo(gains.dtype).tiny)  # silent frequencies
    power = masks * abs2(mixture).mean(2, keepdim=True)
    return Start(demixing, power.clamp_min(FLOOR), gains.clamp_min(DIFFUSE), doubt)
