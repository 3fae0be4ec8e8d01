"""Noise beside the talkers, which a model of talkers alone would have to make of them."""

from __future__ import annotations

from dataclasses import replace

import torch

from fca.linalg import abs2
from fca.model import Model
from fca.source import Stack, Stationary

LEVEL_DB = -30.0
"""Level that the noise starts with, relative to the mixture."""


def with_noise(model: Model) -> Model:
    """The model with stationary noise from everywhere as one more source, a background.

    Where a start of as many sources as talkers is good, noise from the first would take from them.

    Parameters
    ----------
    model : Model
        Fitted; stays as it is.

    Raises
    ------
    InputError
        From spatial models that have no room for one more source.
    """
    moving = model.copy()
    moving.normalise()
    noise = Stationary()
    power = 10 ** (LEVEL_DB / 10) * abs2(model.spatial.mixture).mean(2, keepdim=True)
    noise.initialise(power, torch.Generator())
    spatial = moving.spatial.with_diffuse()
    source = Stack([(moving.source, model.spatial.n_sources), (noise, 1)])
    return replace(moving, spatial=spatial, source=source, n_background=model.n_background + 1)
