"""Where the iterations start when the talkers move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.inference.iterate import iterate
from fca.inference.start import Start, identity, take_rows
from fca.model import Model
from fca.source import Gauss
from fca.spatial import Rank1

SHARE = 0.3
"""A window reaches as far as it is above this share of its maximum."""


@dataclass(frozen=True, kw_only=True)
class MovingStart(Start):
    """First estimates with covariances for each of K windows.

    Attributes
    ----------
    scms : Tensor
        (B, F, K N, M, M), window by window.
    """

    scms: Tensor

    def at_microphones(self) -> MovingStart:
        """The same: powers are those at a microphone already."""
        return self

    def scm(self) -> Tensor:
        return self.scms


def still(start: Start, n_windows: int) -> MovingStart:
    """The same covariances in all windows."""
    start = start.at_microphones()
    scms = start.scm().repeat(1, 1, n_windows, 1, 1)
    return MovingStart(demixing=start.demixing, power=start.power, scms=scms)


def track(
    mixture: Tensor,
    n_sources: int,
    generator: torch.Generator,
    windows: Tensor,
    n_iter: int = 30,
) -> MovingStart:
    """AuxIVA in one window (K, T) after the other, each from where the one before ended.

    The outputs keep their order on the way (as in online AuxIVA, Taniguchi et al. 2014). Those that
    are loudest over the recording are taken for the sources.
    """
    demixing = identity(mixture, mixture.shape[2], generator).demixing
    starts = []
    for window in windows:
        (reach,) = torch.nonzero(window > SHARE * window.max(), as_tuple=True)
        segment = mixture[..., int(reach[0]) : int(reach[-1]) + 1]
        demixing = _continued(segment, demixing, generator, n_iter)
        starts.append(Start(demixing, (demixing @ mixture).abs().square()).at_microphones())
    power = torch.stack([w * s.power for w, s in zip(windows, starts, strict=True)]).sum(0)
    order = power.sum((1, 3)).argsort(dim=-1, descending=True)
    owned = torch.arange(n_sources, device=order.device) % order.shape[-1]
    power = take_rows(power, order)[:, :, owned]
    parts = [Start(take_rows(start.demixing, order), power) for start in starts]
    scms = torch.cat([part.scm() for part in parts], dim=2)
    return MovingStart(demixing=parts[0].demixing, power=power, scms=scms)


def _continued(
    segment: Tensor, demixing: Tensor, generator: torch.Generator, n_iter: int
) -> Tensor:
    """Q after ``n_iter`` sweeps of AuxIVA on a segment (B, F, M, T)."""
    source, spatial = Gauss(), Rank1(segment, demixing, segment.shape[2])
    source.initialise(spatial.power, generator)
    iterate(Model(spatial, source), n_iter, monitor_every=n_iter)
    return spatial.demixing
