"""Shoebox rooms: where arrays and talkers stand in them, and their room responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fca.errors import InputError
from fca.extras import require
from fca.positions import SPEED_OF_SOUND
from fca.simulate.images import Array, Range

__all__ = [
    "WALL_MARGIN",
    "Scene",
    "random_scene",
    "reverberation_time",
    "room_responses",
]

Point = tuple[float, float, float]

WALL_MARGIN = 0.4
"""Nobody stands closer to a wall than this (m)."""
SMALLEST_ROOM, LARGEST_ROOM = (3.5, 3.5, 2.4), (8.0, 7.0, 3.5)
ARRAY_MARGIN = 1.2
"""No array is drawn with its centre closer to a wall than this (m)."""
ROOMS = 100_000
"""Rooms that are tried to find one in which the talkers' azimuths are far enough apart."""
MOST_ROOMS = 2_000_000
SHOEBOX_DECAY = 1.3
"""Factor by which shoeboxes ring longer than Eyring's formula says, as sound between the two
farthest walls meets few others: the median over 60 random rooms of 0.15-0.7 s, quartiles 1.26 and
1.36."""


@dataclass(frozen=True)
class Scene:
    """A shoebox room with an array and talkers; plain numbers, so ``Scene(**json)`` round-trips.

    Attributes
    ----------
    room : length, width and height (m)
    rt60 : nominal reverberation time (s)
    mics, talkers : positions (m), one (x, y, z) each
    """

    room: Point
    rt60: float
    mics: tuple[Point, ...]
    talkers: tuple[Point, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "room", _point(self.room))
        object.__setattr__(self, "mics", tuple(_point(p) for p in self.mics))
        object.__setattr__(self, "talkers", tuple(_point(p) for p in self.talkers))
        if not self.rt60 > 0:
            raise InputError(f"rt60 must be positive, not {self.rt60}")
        for point in self.mics + self.talkers:
            if not all(0 < x < side for x, side in zip(point, self.room, strict=True)):
                raise InputError(f"position {point} lies outside the room {self.room}")


def random_scene(
    rng: np.random.Generator,
    *,
    n_talkers: int = 2,
    n_mics: int = 4,
    rt60: Range = (0.15, 0.7),
    aperture: Range = (0.05, 0.3),
    distance: Range = (0.7, 2.5),
    min_angle: float = 20.0,
    array: Sequence[Point] | None = None,
) -> Scene:
    """Draw a room of 3.5-8 x 3.5-7 x 2.4-3.5 m with one array and talkers around it.

    Parameters
    ----------
    rng : source of all randomness
    rt60 : range of the reverberation time (s)
    aperture : range of the largest distance between two microphones (m); the geometry is random
    distance : range of the talkers' distance to the array's centre (m)
    min_angle : smallest azimuth between two talkers seen from the array (degrees)
    array : positions of the microphones around their centre (m), turned by a random azimuth;
        drawn, `aperture` wide, if None

    Raises
    ------
    InputError
        If there is no talker or microphone, or the talkers cannot stand that far apart or away.
    """
    if n_talkers < 1 or n_mics < 1:
        raise InputError(f"a scene needs talkers and microphones, not {n_talkers} and {n_mics}")
    if n_talkers * min_angle > 300:
        raise InputError(f"{n_talkers} talkers cannot stand {min_angle} degrees apart")
    room, centre, talkers = _furnished_room(rng, n_talkers, distance, min_angle)
    if array is None:
        mics = centre + _random_array(rng, n_mics, rng.uniform(*aperture))
    else:
        mics = centre + _turned(np.asarray(array, dtype=float), rng.uniform(0, 2 * np.pi))
    return Scene(_point(room), float(rng.uniform(*rt60)), _points(mics), _points(talkers))


def room_responses(
    scene: Scene, sample_rate: int = 16000, *, max_order: int | None = 50
) -> NDArray[np.float64]:
    """Room responses (talkers, channels, taps) by the image method (Allen & Berkley 1979).

    The walls' absorption comes from Eyring's formula, corrected for shoeboxes. These are empty,
    with equal, frequency-independent walls and omnidirectional talkers and microphones:
    measured rooms scatter more, and their high frequencies decay faster.

    Parameters
    ----------
    max_order : largest number of reflections. 50 keeps a response under half a second of
        computation and the decay true over its first 30 dB or more for `rt60` up to about
        0.5 s; beyond, the tail is thinned. None takes every reflection of the first 60 dB,
        which costs seconds in a small live room.
    """
    pra = require("pyroomacoustics", "simulate", "room simulation needs")
    room = np.asarray(scene.room)
    order = _full_order(room, scene.rt60)
    order = order if max_order is None else min(order, max_order)
    material = pra.Material(_eyring_absorption(room, scene.rt60))
    box = pra.ShoeBox(room, fs=sample_rate, materials=material, max_order=order)
    for talker in scene.talkers:
        box.add_source(talker)
    box.add_microphone_array(np.asarray(scene.mics).T)
    box.compute_rir()
    taps = max(len(response) for channel in box.rir for response in channel)
    responses = np.zeros((len(scene.talkers), len(scene.mics), taps))
    for m, channel in enumerate(box.rir):
        for n, response in enumerate(channel):
            responses[n, m, : len(response)] = response
    return responses


def reverberation_time(response: ArrayLike, sample_rate: int = 16000, decay: float = 30) -> float:
    """T60 (s) of a response (taps,) from its Schroeder decay (Schroeder 1965; ISO 3382).

    A line is fitted from -5 to ``-5 - decay`` dB of the backward-integrated energy.
    """
    energy = np.cumsum(np.asarray(response, dtype=float)[::-1] ** 2)[::-1]
    if energy[0] == 0:
        raise InputError("a silent response has no reverberation time")
    level = 10 * np.log10(energy[energy > 0] / energy[0])
    (fit,) = np.nonzero((level <= -5) & (level >= -5 - decay))
    if len(fit) < 2:
        raise InputError(f"the response does not decay by {5 + decay} dB in steps")
    slope = np.polyfit(fit / sample_rate, level[fit], 1)[0]
    return float(-60 / slope)


def _furnished_room(
    rng: np.random.Generator, n_talkers: int, distance: Range, min_angle: float
) -> tuple[Array, Array, Array]:
    """Sides of a room (3,), centre of an array (3,) and talkers (talkers, 3) around it."""
    for _ in range(_patience(n_talkers, distance, min_angle)):
        room = rng.uniform(SMALLEST_ROOM, LARGEST_ROOM)
        far = room - ARRAY_MARGIN
        centre = rng.uniform((ARRAY_MARGIN, ARRAY_MARGIN, 1.0), (far[0], far[1], 1.5))
        azimuth = rng.uniform(0, 2 * np.pi, n_talkers)
        away = rng.uniform(*distance, n_talkers)
        x, y = centre[:2, None] + away * np.stack([np.cos(azimuth), np.sin(azimuth)])
        talkers = np.stack([x, y, rng.uniform(1.2, 1.9, n_talkers)], axis=1)
        inside = (talkers > WALL_MARGIN) & (talkers < room - WALL_MARGIN)
        if inside.all() and _smallest_angle(azimuth) >= np.deg2rad(min_angle):
            return room, centre, talkers
    low, high = distance
    raise InputError(
        f"no room holds {n_talkers} talkers at {low:g} to {high:g} m from the array and "
        f"{min_angle:g} degrees apart"
    )


def _patience(n_talkers: int, distance: Range, min_angle: float) -> int:
    """Number of rooms to try; zero if even the largest one is too small."""
    length, width, _ = LARGEST_ROOM
    margins = ARRAY_MARGIN + WALL_MARGIN
    if min(distance) >= np.hypot(length - margins, width - margins):
        return 0
    apart = (1 - n_talkers * min_angle / 360) ** (n_talkers - 1)  # chance of random azimuths
    return int(min(ROOMS / apart, MOST_ROOMS))


def _random_array(rng: np.random.Generator, n_mics: int, aperture: float) -> Array:
    """Microphones (M, 3) around the origin, the farthest two `aperture` apart."""
    if n_mics == 1:
        return np.zeros((1, 3))
    while True:
        mics = rng.uniform(-0.5, 0.5, (n_mics, 3))
        spacing = np.linalg.norm(mics[:, None] - mics[None], axis=-1)
        closest = spacing[~np.eye(n_mics, dtype=bool)].min()
        if closest >= spacing.max() / (2 * n_mics):
            break
    centred: Array = (mics - mics.mean(axis=0)) * (aperture / spacing.max())
    return centred


def _turned(positions: Array, azimuth: float) -> Array:
    """Positions (M, 3) turned about the vertical axis (radians)."""
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    turned: Array = positions @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    return turned


def _smallest_angle(azimuth: Array) -> float:
    ordered = np.sort(azimuth)
    gaps = np.diff(ordered, append=ordered[:1] + 2 * np.pi)
    return float(gaps.min())


def _eyring_absorption(room: Array, rt60: float) -> float:
    """Absorption whose measured decay is about `rt60` (Eyring 1930, times `SHOEBOX_DECAY`)."""
    volume = room.prod()
    surface = 2 * (room[0] * room[1] + room[0] * room[2] + room[1] * room[2])
    collisions = SPEED_OF_SOUND * surface * rt60 / (4 * volume)
    return float(1 - np.exp(-6 * np.log(10) * SHOEBOX_DECAY / collisions))


def _full_order(room: Array, rt60: float) -> int:
    """Most reflections within ``rt60``, on a path between the two closest pairs of walls."""
    sides = np.sort(room)[:2]
    fastest = sides.prod() / np.linalg.norm(sides)
    return int(np.ceil(SPEED_OF_SOUND * rt60 / fastest))


def _point(position: Any) -> Point:
    x, y, z = (float(value) for value in position)
    return x, y, z


def _points(positions: Array) -> tuple[Point, ...]:
    return tuple(_point(position) for position in positions)
