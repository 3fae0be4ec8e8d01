"""Starts for talkers who may move."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fca.inference.outputs import take_rows
from fca.inference.start import Start, fit_outputs, iva
from fca.linalg import abs2
from fca.source import Gauss
from fca.spatial import Rank1
from fca.spatial.observation import Observation, identity_demixing
from fca.state import choose

N_ITER = 30
"""Sweeps of AuxIVA over the recording, and over every window."""
SHARE = 0.3
"""A window covers the frames in which it is above this share of its maximum."""


@dataclass(frozen=True, kw_only=True)
class MovingStart(Start):
    """First estimates with separate covariances for each of K windows in time.

    Attributes
    ----------
    scms : Tensor
        (B, F, K N, M, M), window by window.
    windows : Tensor
        Windows (B, K, T), which sum to one over K; one of them is all where talkers stand still.
    moving : Tensor
        Whether the talkers move, (B,).
    """

    scms: Tensor
    windows: Tensor
    moving: Tensor

    def at_microphones(self) -> MovingStart:
        """The start itself, as its powers are at a microphone already."""
        return self

    def scm(self) -> Tensor:
        return self.scms


def same_everywhere(start: Start, windows: Tensor, *, moving: bool) -> MovingStart:
    """The same covariances in all windows (B, K, T); ``moving`` says if they may change later."""
    start = start.at_microphones()
    return MovingStart(
        demixing=start.demixing,
        power=start.power,
        scms=start.scm().repeat(1, 1, windows.shape[1], 1, 1),
        windows=windows,
        moving=torch.full(windows.shape[:1], moving, device=windows.device),
    )


def track(
    observation: Observation, n_sources: int, generator: torch.Generator, windows: Tensor
) -> Start:
    """AuxIVA in one window (K, T) after the other if talkers move, on the whole recording if not.

    Each window begins from the Q of the one before, so that the outputs keep their order (as in
    online AuxIVA, Taniguchi et al. 2014). The outputs that are loudest over the whole recording are
    taken for the sources. :func:`moves` decides whether the talkers move. If they do not, the start
    is that of the fixed model, without windows; in a batch in which others do, its first window is
    all.
    """
    mixture = observation.mixture
    whole = iva(observation, n_sources, generator, N_ITER)
    if len(windows) == 1:
        return whole
    parts = _one_after_another(mixture, generator, windows)
    moving = moves(mixture, whole.demixing, parts, windows)
    if len(mixture) == 1 and not moving.any():
        return whole
    only = torch.zeros_like(windows)
    only[0] = 1
    stays = same_everywhere(whole, only.expand(len(mixture), -1, -1), moving=False)
    return choose(moving, _joined(mixture, n_sources, parts, windows), stays)


def moves(mixture: Tensor, whole: Tensor, parts: list[Tensor], windows: Tensor) -> Tensor:
    """Whether one demixing matrix per window describes a recording better than a single one, (B,).

    By the information criterion of Schwarz (1978): each additional matrix has 2 M² real parameters,
    and has to raise the log-likelihood of AuxIVA by M² times the logarithm of the frames in a
    window.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    whole : Tensor
        Q of the recording, (B, F, M, M).
    parts : list of Tensor
        Q of each window.
    windows : Tensor
        (K, T).
    """
    n_freq, n_channels, n_frames = mixture.shape[1:]
    nearest = windows.argmax(0)
    pieces = [(q, mixture[..., nearest == k]) for k, q in enumerate(parts)]
    gain = _nll(whole, mixture) - torch.stack([_nll(q, x) for q, x in pieces]).sum(0)
    log_frames = math.log(n_frames / len(parts))
    return gain > (len(parts) - 1) * n_freq * n_channels**2 * log_frames


def _nll(demixing: Tensor, mixture: Tensor) -> Tensor:
    """Negative log-likelihood of AuxIVA's model with Q on (B, F, M, T), (B,)."""
    spatial, source = Rank1(mixture, demixing, mixture.shape[2]), Gauss()
    source.initialise(spatial.power, torch.Generator())
    return spatial.bin_nll(source.psd()).sum((1, 2))


def _one_after_another(
    mixture: Tensor, generator: torch.Generator, windows: Tensor
) -> list[Tensor]:
    """Q of each window, each started from that of the window before."""
    demixing = identity_demixing(mixture)
    parts = []
    for window in windows:
        (reach,) = torch.nonzero(window > SHARE * window.max(), as_tuple=True)
        segment = mixture[..., int(reach[0]) : int(reach[-1]) + 1]
        demixing = _continued(segment, demixing, generator)
        parts.append(demixing)
    return parts


def _joined(mixture: Tensor, n_sources: int, parts: list[Tensor], windows: Tensor) -> MovingStart:
    """Start of the outputs that are loudest over the recording, with each window's covariances."""
    starts = [Start(q, abs2(q @ mixture)).at_microphones() for q in parts]
    power = torch.stack([w * s.power for w, s in zip(windows, starts, strict=True)]).sum(0)
    order = power.sum((1, 3)).argsort(dim=-1, descending=True)
    owned = torch.arange(n_sources, device=order.device) % order.shape[-1]
    power = take_rows(power, order[:, owned])
    ordered = [
        replace(start, demixing=take_rows(start.demixing, order), power=power) for start in starts
    ]
    return MovingStart(
        demixing=ordered[0].demixing,
        power=power,
        scms=torch.cat([part.scm() for part in ordered], dim=2),
        windows=windows.expand(len(mixture), -1, -1),
        moving=torch.ones(len(mixture), dtype=torch.bool, device=mixture.device),
    )


def _continued(segment: Tensor, demixing: Tensor, generator: torch.Generator) -> Tensor:
    """Q after sweeps of AuxIVA on a segment (B, F, M, T)."""
    spatial = Rank1(segment, demixing, segment.shape[2])
    fit_outputs(spatial, Gauss(), N_ITER, generator)
    return spatial.demixing
