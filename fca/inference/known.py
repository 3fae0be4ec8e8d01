"""Starts for talkers whose activities are known."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.clustering import CACGMM
from fca.inference.classes import between
from fca.inference.iterate import iterate
from fca.inference.rank1 import fitted, number_of_outputs
from fca.inference.start import Start, between_classes, taken
from fca.source import Gated, SourceModel
from fca.source.gated import with_background
from fca.spatial.observation import Observation
from fca.spatial.subspace import principal

N_ITER = 30
"""Iterations of the clustering."""


def guided(observation: Observation, activity: Tensor, n_sources: int) -> Start:
    """Start by max-SNR beamforming between classes of known activities (B, K, T).

    The first N classes are the sources. In every frame some class must be active.
    """
    return between_classes(observation, _masks(observation, activity), n_sources)


def guided_rank1(
    observation: Observation,
    activity: Tensor,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
) -> Start:
    """Start from a rank-1 model of ``source`` that begins with classes of known activities.

    The sources keep the order of the activities. As in :func:`~fca.inference.rank1.rank1` there are
    more outputs than sources, for everything else; these are always active.

    Parameters
    ----------
    observation : Observation
        The mixture.
    activity : Tensor
        Activities (B, K, T) of the classes, the sources first; in every frame some class must be
        active.
    n_sources : int
        N, at most K and at most the number of microphones.
    generator : torch.Generator
        Random numbers of the source model.
    source : SourceModel
        Source model of the outputs.
    """
    n_channels = observation.mixture.shape[2]
    n_outputs = number_of_outputs(n_sources, n_channels)
    basis = principal(observation.outer.detach())
    seen, others = basis[:, :, :n_outputs], basis[:, :, n_outputs:]
    masks = _masks(observation, activity)[:, :, :n_sources]
    rows = between(observation, seen @ observation.mixture, masks)
    demixing = torch.cat([rows @ seen, others], dim=2)
    outputs = Gated(source, with_background(activity[:, :n_sources], n_outputs))
    spatial, _ = fitted(n_outputs, outputs, generator, observation, demixing)
    order = torch.arange(n_channels, device=activity.device).expand(len(activity), -1)
    return taken(spatial, order, n_sources)


def _masks(observation: Observation, activity: Tensor) -> Tensor:
    """Masks (B, F, K, T) of classes of known activities (B, K, T), by a guided cACGMM."""
    classes = CACGMM.guided(observation, activity)
    iterate(classes, N_ITER, monitor_every=None)
    return classes.masks
