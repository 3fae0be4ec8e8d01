"""Starts for talkers who walk.

Whoever walks has no place that a demixing matrix could point at, nor classes of bins of one
direction each. What the talkers say can still be told apart by their paths; and fixed covariances
hold a talker who walks well enough if the talker's spectra are known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from fca.inference.classes import of_classes
from fca.inference.paths import FEWEST_MICROPHONES, MOST_TALKERS, anybody_walks, path_masks
from fca.inference.start import Start, joined
from fca.spatial.observation import Observation

CERTAIN = -torch.inf
"""Doubt of a start that follows talkers who walk: no other start finds them."""


def walking(observation: Observation, n_sources: int) -> Tensor:
    """In which recordings talkers walk who can be followed, (B,).

    Two or three are followed (:mod:`fca.inference.paths`), by four microphones or more.
    """
    heard = observation.heard
    if heard.shape[2] >= FEWEST_MICROPHONES and 2 <= n_sources <= MOST_TALKERS:
        return anybody_walks(heard, n_sources)
    return torch.zeros(len(heard), dtype=torch.bool, device=heard.device)


def unless_walking(
    observation: Observation,
    n_sources: int,
    walks: Tensor,
    standing: Callable[[Observation], Start],
) -> Start:
    """Start from the paths of the talkers where any of them walks, else the start ``standing``.

    Parameters
    ----------
    observation : Observation
        The mixture.
    n_sources : int
        Sources wanted.
    walks : Tensor
        The recordings in which talkers walk, (B,).
    standing : callable
        Makes the start of the recordings in which all talkers stand.
    """
    if not walks.any():
        return standing(observation)
    followed = _followed(_some(observation, walks), n_sources)
    if walks.all():
        return followed
    usual = standing(_some(observation, ~walks))
    if usual.doubt is None:  # it is the only start
        usual = replace(usual, doubt=torch.zeros_like(usual.power[:, 0, 0, 0]))
    parts = {True: followed, False: usual}
    place = torch.where(walks, walks.cumsum(0), (~walks).cumsum(0)) - 1
    each = zip(walks.tolist(), place.tolist(), strict=True)
    return joined([parts[walk].of(slice(k, k + 1)) for walk, k in each])


def _followed(observation: Observation, n_sources: int) -> Start:
    masks = path_masks(observation.heard, n_sources)
    doubt = torch.full(masks.shape[:1], CERTAIN, device=masks.device)
    return of_classes(observation, masks, doubt)


def _some(observation: Observation, chosen: Tensor) -> Observation:
    """Some recordings of a batch."""
    heard = None if observation.delays else observation.heard[chosen]
    return Observation(observation.mixture[chosen], heard)
