"""What is heard beside the talkers' early sound, and would otherwise be made of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fca.linalg import abs2
from fca.model import Model
from fca.source import Stack, Stationary
from fca.spatial import JointlyDiagonal
from fca.spatial.expanded import MovingAverage

LEVEL_DB = -30.0
"""Level that the noise starts with at least, relative to the mixture."""
QUIET = 0.1
"""Share of the frames that are taken for noise alone at a frequency, its quietest."""
RUMBLE = 0.0125
"""Share of the band that lies below the pitch of voices, 100 Hz of 8000. Noise starts low there: it
would take over what rumbles in the talkers' own recordings, of which a prior knows little."""
LATE_TAPS = 2
"""Frames by which late sound outlasts the window."""


def with_noise(model: Model) -> Model:
    """The model with noise from everywhere as one more source, a background.

    Stationary, until it is refined; it starts at :func:`noise_floor`.

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
    power = abs2(model.spatial.mixture).mean(2, keepdim=True)
    noise.initialise(noise_floor(power), torch.Generator())
    spatial = moving.spatial.with_diffuse()
    source = Stack([(moving.source, model.spatial.n_sources), (noise, 1)])
    return replace(moving, spatial=spatial, source=source, n_background=model.n_background + 1)


def noise_floor(power: Tensor) -> Tensor:
    """Power (B, F, 1, T) of every frequency in its quietest frames, in all frames.

    Between their words talkers leave the noise alone (Martin 2001, minimum statistics).
    """
    n_freq, n_frames = power.shape[1], power.shape[-1]
    floor = power.kthvalue(1 + int(QUIET * (n_frames - 1)), dim=-1, keepdim=True).values
    floor[:, : round(RUMBLE * n_freq)] = 0
    least = 10 ** (LEVEL_DB / 10) * power.mean(-1, keepdim=True)
    return floor.maximum(least).expand_as(power)


def with_late_sound(model: Model, n_taps: int = LATE_TAPS) -> Model:
    """The model with late copies of its sources, which belong to their images.

    Only jointly diagonal models can have them; others stay as they are.

    Parameters
    ----------
    model : Model
        Fitted; stays as it is.
    n_taps : int
        Copies, one to so many frames late.
    """
    moving = model.copy()
    if isinstance(moving.spatial, JointlyDiagonal):
        moving.spatial = MovingAverage.around(moving.spatial, n_taps, reverberant=True)
    return moving
