"""What is heard beside the talkers' early sound, and would otherwise be made of them."""

from __future__ import annotations

from dataclasses import replace

import torch

from fca.linalg import abs2
from fca.model import Model
from fca.source import Stack, Stationary
from fca.spatial import JointlyDiagonal
from fca.spatial.expanded import LATE, MovingAverage

LEVEL_DB = -30.0
"""Level that the noise starts with, relative to the mixture."""
LATE_TAPS = 2
"""Frames by which late sound outlasts the window."""


def with_noise(model: Model) -> Model:
    """The model with noise from everywhere as one more source, a background.

    Stationary, until it is refined.

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


def with_late_sound(model: Model, level: float = LATE) -> Model:
    """The model with late copies of its sources, which belong to their images.

    Only jointly diagonal models can have them; others stay as they are.

    Parameters
    ----------
    model : Model
        Fitted; stays as it is.
    level : float
        Gains that the copies start with, relative to those of the early sound.
    """
    moving = model.copy()
    if isinstance(moving.spatial, JointlyDiagonal):
        moving.spatial = MovingAverage.around(
            moving.spatial, LATE_TAPS, reverberant=True, level=level
        )
    return moving
