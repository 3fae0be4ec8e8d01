"""Fits of rank-1 models whose outputs keep their places over frequency."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fca.permutation import follow, reorder
from fca.spatial import Rank1
from fca.spatial.observation import Observation

Fit = Callable[[Observation, Tensor], tuple[Rank1, Tensor]]
"""Fits a rank-1 model to a mixture, starting from Q; returns it and the PSDs of its outputs."""


def fit_and_mend(
    fit: Fit, observation: Observation, demixing: Tensor, n_mendings: int
) -> tuple[Rank1, Tensor]:
    """Fit, and repair permutations: ``fit`` is repeated where outputs have changed places.

    Where :func:`~fca.permutation.follow` finds seams, the outputs are put back and fitted again, at
    most ``n_mendings`` times and only in the recordings that have seams.
    """
    spatial, psd = fit(observation, demixing)
    for _ in range(n_mendings):
        order = follow(spatial.power[:, :, : spatial.n_sources])
        rows = torch.arange(order.shape[2], device=order.device)
        seams = (order != rows).any((1, 2))
        if not seams.any():
            break
        spatial, psd = fit_where(seams, fit, spatial, psd, _reordered(spatial, order))
    return spatial, psd


def fit_where(
    chosen: Tensor, fit: Fit, spatial: Rank1, psd: Tensor, demixing: Tensor
) -> tuple[Rank1, Tensor]:
    """Model and PSDs, fitted again from Q in the ``chosen`` recordings, (B,), of a batch."""
    observation = spatial.observation
    if chosen.all():
        return fit(observation, demixing)
    some = chosen.nonzero()[:, 0]
    if not len(some):
        return spatial, psd
    again, its_psd = fit(Observation(spatial.mixture[some]), demixing[some])
    demixing = spatial.demixing.index_copy(0, some, again.demixing)
    mixed = Rank1(observation, demixing, spatial.n_sources)
    return mixed, psd.index_copy(0, some, its_psd)


def _reordered(spatial: Rank1, order: Tensor) -> Tensor:
    """Q with its outputs in the order (B, F, N) of each frequency; the background stays."""
    outputs, background = spatial.demixing.tensor_split([spatial.n_sources], dim=2)
    return torch.cat([reorder(outputs, order), background], dim=2)
