"""A start by amortised inference: which outputs of AuxIVA are talkers, and what they sound like."""

from __future__ import annotations

import functools
import itertools
from typing import cast

import torch
from torch import Tensor

from fca.inference.iterate import iterate
from fca.inference.refine import choose
from fca.inference.start import Start, iva, take_rows
from fca.model import Model
from fca.neural.denoiser import Denoiser
from fca.source.vae import VAE
from fca.spatial import JointlyDiagonal
from fca.spatial.observation import Observation

DENOISER = "denoiser"
"""The network that ships with the toolkit."""
N_CANDIDATES = 4
"""Outputs of AuxIVA, the loudest, that may be talkers."""
N_STEPS = 5
"""Updates of the spatial model, given the spectra."""


def denoised(mixture: Tensor, n_sources: int, generator: torch.Generator) -> Start:
    """AuxIVA with as many outputs as microphones, of which the denoiser says which are talkers.

    The loudest outputs are not always the talkers: reverberation can make two of one. So every
    choice of ``n_sources`` of the loudest :data:`N_CANDIDATES` is fitted by one pass of the
    denoiser and a few updates of a jointly diagonal model, and each recording keeps the choice of
    the highest evidence. The mixture must be in the STFT of the denoiser's prior.
    """
    n_channels = mixture.shape[2]
    outputs = iva(mixture, max(n_sources, n_channels), generator)
    n_candidates = max(n_sources, min(n_channels, N_CANDIDATES))
    observation, source = Observation(mixture), VAE(denoiser=_shipped())
    choices = itertools.combinations(range(n_candidates), n_sources)
    fits = (one_pass(observation, pick(outputs, talkers), source, generator) for talkers in choices)
    best, _ = functools.reduce(_better, ((model, model.cost()) for model in fits))
    best.normalise()
    spatial = cast(JointlyDiagonal, best.spatial)
    return Start(spatial.demixing, best.source.psd(), spatial.gains)


def pick(start: Start, talkers: tuple[int, ...]) -> Start:
    """The start in which the given outputs are the sources."""
    n_channels = start.demixing.shape[2]
    rows = [t for t in talkers if t < n_channels]
    rows += [m for m in range(n_channels) if m not in talkers]
    order = torch.tensor(rows, device=start.power.device).expand(start.power.shape[0], -1)
    return Start(take_rows(start.demixing, order), start.power[:, :, list(talkers)])


@functools.cache
def _shipped() -> Denoiser:
    """The network, read once in a process."""
    return Denoiser.from_pretrained(DENOISER)


def one_pass(
    observation: Observation, start: Start, source: VAE, generator: torch.Generator
) -> Model:
    """Jointly diagonal model with shared gains, fitted to the spectra that a network infers."""
    start, mixture = start.at_microphones(), observation.mixture
    gains = start.gains(shared=True)
    spatial = JointlyDiagonal(mixture, start.demixing, gains, observation=observation)
    model = Model(spatial, source, N_STEPS).copy()
    model.source.initialise(start.power, generator)
    iterate(model, 1)
    return model


def _better(old: tuple[Model, Tensor], new: tuple[Model, Tensor]) -> tuple[Model, Tensor]:
    """Of two models and their costs (B,) those of lower cost, for each recording."""
    (model, cost), (other, other_cost) = old, new
    better = other_cost < cost
    spatial = choose(better, other.spatial, model.spatial)
    best = Model(spatial, choose(better, other.source, model.source), N_STEPS)
    return best, torch.where(better, other_cost, cost)
