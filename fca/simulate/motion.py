"""Talkers who walk or sway: room responses along a path, with crossfades as the talker moves.

Waveforms, lengths and times are as in :mod:`fca.simulate`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from fca.errors import InputError
from fca.simulate.images import (
    Array,
    Range,
    convolve,
    delayed,
    early_part,
    level_gains,
    scaled_noise,
    stack,
)
from fca.simulate.mixtures import Mixture
from fca.simulate.rooms import WALL_MARGIN, Scene, room_responses

__all__ = ["circular_paths", "mix_moving", "path_responses", "swaying_paths", "walk"]

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


def mix_moving(
    utterances: Sequence[ArrayLike],
    responses: ArrayLike,
    rng: np.random.Generator,
    *,
    level_db: Range = (-5, 5),
    snr_db: float | None = None,
    noise: ArrayLike | None = None,
    early_seconds: float = 0.05,
    sample_rate: int = 16000,
) -> Mixture:
    """As :func:`~fca.simulate.mix`, for talkers who pass the places of ``responses`` evenly.

    What is said between two places is heard from both, with weights that sum to one: the response
    in between is their linear interpolation.

    Parameters
    ----------
    utterances, rng, level_db, snr_db, noise, early_seconds, sample_rate
        as in :func:`~fca.simulate.mix`
    responses : (talkers, P, channels, taps), from :func:`path_responses`

    Raises
    ------
    InputError
        For shapes that do not fit, a silent talker, or noise without `snr_db`.
    """
    said = stack(utterances)
    responses = np.asarray(responses, dtype=float)
    if responses.ndim != 4 or len(responses) != len(said):
        raise InputError(
            f"{len(said)} utterances need responses ({len(said)}, places, channels, taps), "
            f"not {responses.shape}"
        )
    early = early_part(responses, early_seconds, sample_rate)
    images = _walk(said, responses)
    gain = level_gains(images, rng, level_db)[:, None, None]
    images = gain * images
    return Mixture(
        images=images,
        early=gain * _walk(said, early),
        dry=gain[:, 0] * _walk_direct(said, responses[:, :, 0]),
        noise=scaled_noise(images, snr_db, noise, rng),
    )


def _walk(said: Array, responses: Array) -> Array:
    """Images (talkers, channels, samples) of utterances (talkers, samples) said along the paths."""
    n_places, samples = responses.shape[1], said.shape[-1]
    images = np.zeros((len(said), responses.shape[2], samples))
    for place in range(n_places):
        part = _weight(place, n_places, samples) * said
        images += convolve(part[:, None], responses[:, place], samples)
    return images


def _walk_direct(said: Array, responses: Array) -> Array:
    """The same of the direct sound alone at one microphone, from responses (talkers, P, taps)."""
    n_places, samples = responses.shape[1], said.shape[-1]
    parts = (
        delayed(_weight(place, n_places, samples) * said, responses[:, place])
        for place in range(n_places)
    )
    direct: Array = np.sum(list(parts), axis=0)
    return direct


def _weight(place: int, n_places: int, samples: int) -> Array:
    """Weights (samples,) of one of the places that are passed evenly."""
    here = np.linspace(0, n_places - 1, samples)
    weight: Array = np.maximum(0, 1 - np.abs(here - place))
    return weight
