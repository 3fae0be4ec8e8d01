"""Starts from clustering: the bins are divided into classes, one for each source.

Classes are told apart by direction, at first by the delays between two microphones. With few
microphones that is not enough, and the source model's idea of each class's power adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.clustering import CACGMM, random_masks
from fca.inference.delays import delay_masks
from fca.inference.iterate import iterate
from fca.inference.start import WHITE, Start, between_classes
from fca.linalg import abs2, weighted_covariance
from fca.source import SourceModel
from fca.spatial.base import FLOOR
from fca.spatial.demixing import ip
from fca.spatial.diagonal import column_power
from fca.spatial.observation import Observation, identity_demixing


@dataclass(frozen=True)
class Effort:
    """How many iterations the clustering takes.

    Attributes
    ----------
    n_iter : int
        Iterations by direction alone.
    rounds, between : int
        Rounds that follow, each of which asks the source model once, and iterations after each.
    thinning : int
        Step between the frequencies that the iterations by direction alone see; the others get the
        masks of their neighbours.
    """

    n_iter: int = 30
    rounds: int = 6
    between: int = 4
    thinning: int = 1


BRIEF = Effort(n_iter=10, rounds=4, between=2)
"""Effort that is enough where demixing matrices are iterated further from the classes."""
BRIEFEST = Effort(n_iter=6, rounds=1, between=2, thinning=2)
"""The same where the start has to be fast."""
NONE = Effort(0, 0, 0)
"""No effort: for starts that will not be used."""
UPDATES = 4
"""Updates of the demixing matrix that is found from the classes."""
NOISE = 1e-2
"""Level of the noise in the spare outputs of that matrix, relative to the mixture."""


def underdetermined(
    observation: Observation,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    from_delays: bool = True,
) -> Start:
    """Start for more sources than microphones: one class per source, its covariance as gains.

    Where the recording has clear delays, a start from random masks is marked as doubtful: there are
    many optima, and its cost may end lower while its sources are talkers less often. If all
    recordings of a batch have clear delays, no time is spent on it.

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
    return of_classes(observation, masks, torch.where(in_doubt, torch.inf, 0.0))


def demixed(
    observation: Observation,
    seen: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    effort: Effort = BRIEF,
) -> Tensor:
    """Q (B, F, K, K) with one output per class, for at least as many microphones as sources.

    The outputs beyond the N classes take noise.

    Parameters
    ----------
    observation : Observation
        The mixture, in which the classes are found.
    seen : Tensor
        What Q is applied to, complex (B, F, K, T), K ≥ N.
    n_sources, generator, source
        As in :func:`underdetermined`.
    effort : Effort
        How long the bins are clustered.
    """
    begin, _ = first_masks(observation.mixture, n_sources, generator)
    masks = source_masks(observation, begin, source, generator, effort)
    return between(observation, seen, masks)


def between(observation: Observation, seen: Tensor, masks: Tensor) -> Tensor:
    """Q (B, F, K, K) with one output for each class of masks (B, F, N, T), and noise in the others.

    Q is applied to ``seen``, K ≥ N channels or components of the mixture, complex (B, F, K, T).
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
    """Masks (B, F, N, T) that the clustering starts from, and where delays are clear, (B,).

    Those of :func:`~fca.inference.delays.delay_masks`, or random ones where it finds no clear
    delays or ``from_delays`` is false. The random ones are the same for all recordings, so that
    none depends on the others of its batch.
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
    """Masks (B, F, N, T) with one class per source, by a cACGMM that starts from masks ``begin``.

    A source model that judges what is a source (:attr:`~fca.source.SourceModel.judges`) also takes
    part in assigning the bins; see :func:`as_sources`.
    """
    masks = _by_direction(observation, begin, effort)
    return as_sources(observation, masks, source, generator, effort) if source.judges else masks


def _by_direction(observation: Observation, begin: Tensor, effort: Effort) -> Tensor:
    """Masks (B, F, N, T) of a cACGMM that starts from masks ``begin``."""
    step = effort.thinning
    few = observation if step == 1 else Observation(observation.mixture[:, ::step].contiguous())
    classes = CACGMM(few, begin[:, ::step])
    iterate(classes, effort.n_iter, monitor_every=None)
    return classes.masks.repeat_interleave(step, dim=1)[:, : begin.shape[1]]


def as_sources(
    observation: Observation,
    masks: Tensor,
    source: SourceModel,
    generator: torch.Generator,
    effort: Effort = Effort(),
) -> Tensor:
    """Masks (B, F, N, T) of a cACGMM whose mixture weights are inferred by the source model.

    ``π_nft ∝ √λ_nft``, with the PSDs λ that the source model infers from the power in each class.
    The root keeps these PSDs, which may be wrong, from overruling the directions, as weights
    ``∝ λ`` would.
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


def of_classes(observation: Observation, masks: Tensor, doubt: Tensor) -> Start:
    """Start of sources with masks (B, F, N, T), and with that doubt, (B,).

    The gains are the powers of the components in each class.
    """
    demixing = between_classes(observation, masks, masks.shape[2]).demixing
    scm = weighted_covariance(observation.outer, masks)
    whitened = demixing[:, :, None] @ scm @ demixing[:, :, None].mH
    gains = whitened.diagonal(dim1=-2, dim2=-1).real
    at_microphones = gains @ column_power(torch.linalg.inv(demixing))[..., None]
    gains = gains / at_microphones.clamp_min(torch.finfo(gains.dtype).tiny)  # silent frequencies
    power = masks * abs2(observation.mixture).mean(2, keepdim=True)
    return Start(demixing, power.clamp_min(FLOOR), gains.clamp_min(WHITE), doubt)
