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
from fca.linalg import abs2, weighted_covariance
from fca.source import SourceModel
from fca.spatial.base import FLOOR
from fca.spatial.demixing import ip
from fca.spatial.diagonal import column_power
from fca.spatial.observation import Observation, identity_demixing


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


BRIEF = Effort(n_iter=10, rounds=4, between=2)
"""Enough where demixing matrices go on from there ..."""
BRIEFEST = Effort(n_iter=6, rounds=3, between=2)
"""... and where that has to be fast."""
NONE = Effort(0, 0, 0)
"""For starts that are not going to be used."""
UPDATES = 4
"""Updates of these ..."""
NOISE = 1e-2
"""... beside noise of this level, relative to the mixture."""


def underdetermined(
    observation: Observation,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    from_delays: bool = True,
) -> Start:
    """For more sources than microphones: a class each, its covariance as gains.

    A random start is in doubt where there are delays: its cost may end lower, as there are many
    optima, but its sources are talkers less often. If all recordings of a batch have them, no time
    is spent on it.

    Parameters
    ----------
    observation : Observation
        The mixture.
    n_sources : int
        N.
    generator : torch.Generator
        Random numbers of the start and of the source model.
    source : SourceModel
        As in :func:`source_masks`.
    from_delays : bool
        As in :func:`first_masks`.
    """
    mixture = observation.mixture
    begin, found = first_masks(mixture, n_sources, generator, from_delays)
    in_doubt = found & (not from_delays)
    effort = NONE if bool(in_doubt.all()) else Effort()
    masks = source_masks(observation, begin, source, generator, effort)
    return _of_classes(observation, masks, torch.where(in_doubt, torch.inf, 0.0))


def demixed(
    observation: Observation,
    seen: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    effort: Effort = BRIEF,
) -> Tensor:
    """For as many microphones as sources, or more: Q (B, F, K, K) with an output for each class.

    The outputs beyond them are of noise.

    Parameters
    ----------
    observation : Observation
        The mixture, in which the classes are found.
    seen : Tensor
        What Q is applied to, complex (B, F, K, T), K ≥ N.
    n_sources, generator, source
        As above.
    effort : Effort
        How long they are looked for.
    """
    begin, _ = first_masks(observation.mixture, n_sources, generator)
    masks = source_masks(observation, begin, source, generator, effort)
    return between(observation, seen, masks)


def between(observation: Observation, seen: Tensor, masks: Tensor) -> Tensor:
    """Q (B, F, K, K) with an output for each class with masks (B, F, N, T), others of noise.

    It is applied to what is ``seen`` of the mixture, complex (B, F, K, T), K ≥ N.
    """
    mixture, n_sources = observation.mixture, masks.shape[2]
    power = abs2(mixture).mean(2, keepdim=True)
    noise = NOISE * power.mean(-1, keepdim=True).expand_as(power)
    n_outputs = seen.shape[2]
    psd = torch.cat([masks * power, noise.expand(-1, -1, n_outputs - n_sources, -1)], dim=2)
    covariance = Observation(seen).covariance(psd.clamp_min(FLOOR).reciprocal())
    demixing = identity_demixing(seen)
    for _ in range(UPDATES):
        demixing = ip(demixing, covariance, lambda rows: rows)
    return demixing


def first_masks(
    mixture: Tensor, n_sources: int, generator: torch.Generator, from_delays: bool = True
) -> tuple[Tensor, Tensor]:
    """Masks (B, F, N, T) that a clustering starts from, and where there are delays, (B,).

    Those of :func:`~fca.inference.delays.delay_masks`, or random ones where these have nothing to
    go by or are not wanted; the same for all recordings, so that none depends on the others.
    """
    begin = random_masks(mixture, n_sources, generator)
    by_delay, found = delay_masks(mixture, n_sources)
    return torch.where((found & from_delays)[:, None, None, None], by_delay, begin), found


def source_masks(
    observation: Observation,
    begin: Tensor,
    source: SourceModel,
    generator: torch.Generator,
    effort: Effort,
) -> Tensor:
    """Masks (B, F, N, T) of a class for every source, by a cACGMM that starts from such masks.

    If the source model judges what a source is, it has a say in which bins are of which
    (:func:`as_sources`).
    """
    classes = CACGMM(observation, begin)
    iterate(classes, effort.n_iter, monitor_every=None)
    masks = classes.masks
    return as_sources(observation, masks, source, generator, effort) if source.judges else masks


def as_sources(
    observation: Observation,
    masks: Tensor,
    source: SourceModel,
    generator: torch.Generator,
    effort: Effort = Effort(),
) -> Tensor:
    """Masks (B, F, N, T) of the cACGMM whose mixture weights the source model infers.

    ``π_nft ∝ √λ_nft`` with the PSDs λ that it takes the power of each class for. The root keeps a
    class from what it has got wrong: weights ``∝ λ`` would leave the directions little say.
    """
    power = abs2(observation.mixture).mean(2, keepdim=True)
    classes = CACGMM(observation, masks)
    for _ in range(effort.rounds):
        source.initialise((masks * power).clamp_min(FLOOR), generator)
        amplitude = source.psd().sqrt()
        classes.weights = amplitude / amplitude.sum(2, keepdim=True)
        iterate(classes, effort.between, monitor_every=None)
        masks = classes.masks
    return masks


def _of_classes(observation: Observation, masks: Tensor, doubt: Tensor) -> Start:
    """Start of sources with masks (B, F, N, T)."""
    demixing = between_classes(observation, masks, masks.shape[2]).demixing
    scm = weighted_covariance(observation.outer, masks)
    whitened = demixing[:, :, None] @ scm @ demixing[:, :, None].mH
    gains = whitened.diagonal(dim1=-2, dim2=-1).real
    at_microphones = gains @ column_power(torch.linalg.inv(demixing))[..., None]
    gains = gains / at_microphones.clamp_min(torch.finfo(gains.dtype).tiny)  # silent frequencies
    power = masks * abs2(observation.mixture).mean(2, keepdim=True)
    return Start(demixing, power.clamp_min(FLOOR), gains.clamp_min(DIFFUSE), doubt)
