"""Talkers who walk or sway: their paths, and the room responses along them.

Lengths and times are as in :mod:`fca.simulate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from fca.errors import InputError
from fca.simulate.images import Array
from fca.simulate.rooms import WALL_MARGIN, Scene, room_responses

__all__ = ["circular_paths", "path_responses", "swaying_paths", "walk"]

SWAY_SECONDS = (3.0, 7.0)
"""Shortest and longest period of a swaying talker."""
SCENES = 50_000
"""Scenes that are tried before it is reported that nobody can walk that far."""


def circular_paths(scene: Scene, degrees: float, step: float = 3.0) -> Array:
    """Positions (talkers, P, 3) of talkers who walk around the array's centre.

    Parameters
    ----------
    scene : where the talkers start
    degrees : how far they walk, all the same way round, so that they stay apart
    step : largest angle between two positions (degrees)
    """
    centre = np.mean(scene.mics, axis=0)
    away = np.asarray(scene.talkers) - centre
    angles = np.deg2rad(np.linspace(0, degrees, 1 + int(np.ceil(abs(degrees) / step))))
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = away[:, :1] * cos - away[:, 1:2] * sin, away[:, :1] * sin + away[:, 1:2] * cos
    height = np.broadcast_to(away[:, 2:], x.shape)
    paths: Array = np.stack([x, y, height], axis=-1) + centre
    return paths


def swaying_paths(
    scene: Scene, reach: float, seconds: float, rng: np.random.Generator, step: float = 0.01
) -> Array:
    """Positions (talkers, P, 3), evenly spaced in time, of talkers who sway on the spot.

    Each talker moves to and fro about their place in the scene, once in 3 to 7 s, along a line of
    their own that is closer to the horizontal than not.

    Parameters
    ----------
    scene : where the talkers stand
    reach : how far they go to either side (m)
    seconds : how long
    rng : draws the lines, periods and phases
    step : largest distance between two positions (m)
    """
    shape = (len(scene.talkers), 1)
    along = rng.standard_normal((len(scene.talkers), 3)) * (1, 1, 0.3)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    turns = seconds / rng.uniform(*SWAY_SECONDS, shape)
    fastest = 2 * np.pi * reach * turns.max()
    time = np.linspace(0, 1, 1 + int(np.ceil(fastest / step)))
    offset = reach * np.sin(2 * np.pi * (turns * time + rng.random(shape)))
    paths: Array = np.asarray(scene.talkers)[:, None] + offset[..., None] * along[:, None]
    return paths


def walk(draw: Callable[[], Scene], degrees: float) -> tuple[Scene, Array]:
    """A scene in which circular paths stay inside the room, drawn until there is one.

    Parameters
    ----------
    draw : makes a random scene; :func:`~fca.simulate.random_scene`
    degrees : how far each talker walks around the array

    Returns
    -------
    scene : Scene
    paths : (talkers, P, 3)

    Raises
    ------
    InputError
        If none is found.
    """
    for _ in range(SCENES):
        scene = draw()
        paths = circular_paths(scene, degrees)
        if (paths > WALL_MARGIN).all() and (paths < np.asarray(scene.room) - WALL_MARGIN).all():
            return scene, paths
    raise InputError(f"no room holds talkers who walk {degrees:g} degrees around the array")


def path_responses(
    scene: Scene, paths: ArrayLike, sample_rate: int = 16000, *, max_order: int | None = 20
) -> Array:
    """Room responses (talkers, P, channels, taps) from every position of paths (talkers, P, 3)."""
    places = np.asarray(paths, dtype=float)
    talkers = tuple(tuple(place) for place in places.reshape(-1, 3))
    everywhere = dataclasses.replace(scene, talkers=talkers)
    responses = room_responses(everywhere, sample_rate, max_order=max_order)
    return responses.reshape(*places.shape[:2], *responses.shape[1:])
