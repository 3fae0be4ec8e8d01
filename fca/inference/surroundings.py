"""Noise and late sound, which would otherwise be explained by the talkers' early sound."""

from __future__ import annotations

from dataclasses import replace

import torch

from fca.linalg import abs2
from fca.model import Model
from fca.source import Stack, Stationary
from fca.spatial import JointlyDiagonal
from fca.spatial.expanded import LATE, MovingAverage

LEVEL_DB = -30.0
"""Initial level of the noise, relative to the mixture."""
LATE_TAPS = 2
"""Late copies of each source, one to so many frames late."""


def with_noise(model: Model) -> Model:
    """The model with noise from everywhere as one more source, which is a background.

    It is stationary until the model is refined.

    Parameters
    ----------
    model : Model
        A fitted model, which stays as it is.

    Raises
    ------
    InputError
        If the spatial model has no room for one more source.
    """
    moving = model.copy()
    moving.normalise()
    noise = Stationary()
    power = 10 ** (LEVEL_DB / 10) * abs2(model.spatial.mixture).mean(2, keepdim=True)
    noise.initialise(power, torch.Generator())
    spatial = moving.spatial.with_diffuse()
    source = Stack([(moving.source, model.spatial.n_sources), (noise, 1)])
    return replace(moving, spatial=spatial, source=source, n_background=model.n_background + 1)


def with_late_sound(model: Model, level: float = LATE) -> Model:
    """The model with late copies of its sources, which are part of their images.

    Only jointly diagonal models can have late copies; others are returned unchanged.

    Parameters
    ----------
    model : Model
        A fitted model, which stays as it is.
    level : float
        Initial gains of the copies, relative to those of the early sound.
    """
    moving = model.copy()
    if isinstance(moving.spatial, JointlyDiagonal):
        moving.spatial = MovingAverage.around(
            moving.spatial, LATE_TAPS, reverberant=True, level=level
        )
    return moving
