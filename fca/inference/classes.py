"""Starts from classes of bins, one for each source.

Directions tell classes apart, the delays between two microphones where they come from at first;
with few microphones that is not much. What the source model takes each of them for tells the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.clustering import CACGMM, random_masks
from fca.inference.delays import delay_masks
from fca.inference.iterate import iterate
from fca.inference.start import DIFFUSE, Start, between_classes
from fca.linalg import abs2, pack_outer, weighted_covariance
from fca.source import SourceModel
from fca.spatial import Rank1
from fca.spatial.base import FLOOR
from fca.spatial.diagonal import column_power
from fca.spatial.observation import identity


@dataclass(frozen=True)
class Effort:
    """How long bins are clustered.

    Attributes
    ----------
    n_iter : int
        Iterations by direction alone.
    rounds, between : int
        How often the source model is asked then, and iterations after each time.
    """

    n_iter: int = 30
    rounds: int = 6
    between: int = 4


HASTY = Effort(n_iter=10, rounds=4, between=2)
"""Enough where demixing matrices go on from there."""
UPDATES = 4
"""Updates of these ..."""
NOISE = 1e-2
"""... beside noise of this level, relative to the mixture."""


def underdetermined(
    mixture: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    from_delays: bool = True,
    effort: Effort = Effort(),
) -> Start:
    """For more sources than microphones: a class each, its covariance as gains.

    A random start is in doubt where there are delays: its cost may end lower, as there are many
    optima, but its sources are talkers less often.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    n_sources : int
        N.
    generator : torch.Generator
        Random numbers of the start and of the source model.
    source, from_delays, effort
        As in :func:`source_masks`.
    """
    masks, found = source_masks(mixture, n_sources, generator, source, from_delays, effort)
    doubt = torch.where(found & (not from_delays), torch.inf, 0.0)
    return _of_classes(mixture, masks, generator, doubt)


def demixed(
    mixture: Tensor,
    seen: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
) -> Tensor:
    """For as many microphones as sources, or more: Q (B, F, K, K) with an output for each class.

    The outputs beyond them are of noise.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T), in which the classes are found.
    seen : Tensor
        What Q is applied to, complex (B, F, K, T), K ≥ N.
    n_sources, generator, source
        As above.
    """
    masks, _ = source_masks(mixture, n_sources, generator, source, effort=HASTY)
    power = abs2(mixture).mean(2, keepdim=True)
    noise = NOISE * power.mean(-1, keepdim=True).expand_as(power)
    n_outputs = seen.shape[2]
    psd = torch.cat([masks * power, noise.expand(-1, -1, n_outputs - n_sources, -1)], dim=2)
    spatial = Rank1(seen, identity(seen), n_outputs)
    for _ in range(UPDATES):
        spatial.update(psd.clamp_min(FLOOR))
    return spatial.demixing


def source_masks(
    mixture: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    from_delays: bool = True,
    effort: Effort = Effort(),
) -> tuple[Tensor, Tensor]:
    """Masks of a class for every source, by a cACGMM, and where there were delays to begin with.

    Parameters
    ----------
    mixture, n_sources, generator
        As above.
    source : SourceModel
        If it judges what a source is, it has a say in which bins are of which (:func:`as_sources`).
    from_delays : bool
        Whether the classes start from :func:`~fca.inference.delays.delay_masks`, where these have
        something to go by, and not at random.
    effort : Effort
        For how long.

    Returns
    -------
    masks : Tensor
        (B, F, N, T).
    found : Tensor
        (B,), true or false.
    """
    begin = random_masks(mixture, n_sources, generator)
    by_delay, found = delay_masks(mixture, n_sources)
    begin = torch.where((found & from_delays)[:, None, None, None], by_delay, begin)
    classes = CACGMM(mixture, n_sources, generator, masks=begin)
    iterate(classes, effort.n_iter, monitor_every=None)
    masks = classes.masks
    return as_sources(mixture, masks, source, generator, effort) if source.judges else masks, found


def as_sources(
    mixture: Tensor,
    masks: Tensor,
    source: SourceModel,
    generator: torch.Generator,
    effort: Effort = Effort(),
) -> Tensor:
    """Masks (B, F, N, T) of the cACGMM whose mixture weights the source model infers.

    ``π_nft ∝ √λ_nft`` with the PSDs λ that it takes the power of each class for. The root keeps a
    class from what it has got wrong: weights ``∝ λ`` would leave the directions little say.
    """
    power = abs2(mixture).mean(2, keepdim=True)
    classes = CACGMM(mixture, masks.shape[2], generator, masks=masks)
    for _ in range(effort.rounds):
        source.initialise((masks * power).clamp_min(FLOOR), generator)
        amplitude = source.psd().sqrt()
        classes.weights = amplitude / amplitude.sum(2, keepdim=True)
        iterate(classes, effort.between, monitor_every=None)
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
