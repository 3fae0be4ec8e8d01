"""Walking talkers: paths, interpolated responses, and the standing talker as their limit."""

from __future__ import annotations

import numpy as np
import pytest

from fca.errors import InputError
from fca.simulate import Scene, mix, random_scene
from fca.simulate.mixtures import mix_moving
from fca.simulate.motion import (
    circular_paths,
    path_responses,
    swaying_paths,
    walk,
)


def walkers(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.standard_normal(4000) for _ in range(2)]


def responses(rng: np.random.Generator, n_places: int) -> np.ndarray:
    return rng.standard_normal((2, n_places, 3, 50)) * 0.9 ** np.arange(50)


def test_paths_keep_their_distance_and_go_as_far_as_asked() -> None:
    scene = random_scene(np.random.default_rng(0))
    paths = circular_paths(scene, 90.0, step=10.0)
    assert paths.shape == (2, 10, 3)
    np.testing.assert_allclose(paths[:, 0], scene.talkers)
    away = paths - np.mean(scene.mics, axis=0)
    distance = np.linalg.norm(away, axis=-1)
    np.testing.assert_allclose(distance, distance[:, :1].repeat(10, 1))
    azimuth = np.unwrap(np.arctan2(away[..., 1], away[..., 0]))
    np.testing.assert_allclose(np.diff(azimuth), np.deg2rad(10))
    np.testing.assert_allclose(paths[..., 2], paths[:, :1, 2].repeat(10, 1))


def test_paths_stay_in_the_room() -> None:
    rng = np.random.default_rng(1)
    scene, paths = walk(lambda: random_scene(rng, n_mics=2, distance=(0.7, 1.2)), 200.0)
    assert (paths > 0.4).all() and (paths < np.asarray(scene.room) - 0.4).all()
    assert isinstance(scene, Scene) and len(scene.mics) == 2


def test_nobody_walks_around_a_corner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fca.simulate.motion.SCENES", 10)
    rng = np.random.default_rng(1)
    with pytest.raises(InputError, match="no room holds talkers who walk 360 degrees"):
        walk(lambda: random_scene(rng, distance=(4, 5)), 360.0)


def test_talkers_sway_about_their_places_in_small_steps() -> None:
    scene = random_scene(np.random.default_rng(0), n_talkers=3)
    paths = swaying_paths(scene, 0.04, 10.0, np.random.default_rng(1), step=0.005)
    assert paths.shape[0] == 3 and paths.shape[2] == 3
    away = paths - np.asarray(scene.talkers)[:, None]
    distance = np.linalg.norm(away, axis=-1)
    assert (distance <= 0.04 + 1e-12).all() and (distance.max(1) > 0.039).all()
    assert np.linalg.norm(np.diff(paths, axis=1), axis=-1).max() <= 0.005
    _, spread, _ = np.linalg.svd(away)
    np.testing.assert_allclose(spread[:, 1:], 0, atol=1e-12)  # on a line
    crossings = np.diff(np.sign((away @ away.mT)[:, 0]), axis=1) != 0
    assert (crossings.sum(1) >= 2).all() and (crossings.sum(1) <= 8).all()


def test_a_seed_decides_how_talkers_sway() -> None:
    scene = random_scene(np.random.default_rng(0))
    first, again, other = (
        swaying_paths(scene, 0.02, 5.0, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or np.abs(first - other).max() > 1e-3


def test_equal_responses_everywhere_are_a_talker_who_stands() -> None:
    rng = np.random.default_rng(4)
    said, h = walkers(rng), responses(rng, 1)
    still = mix(said, h[:, 0], np.random.default_rng(3))
    moving = mix_moving(said, np.repeat(h, 5, axis=1), np.random.default_rng(3))
    np.testing.assert_allclose(moving.images, still.images, atol=1e-12)
    np.testing.assert_allclose(moving.early, still.early, atol=1e-12)
    np.testing.assert_allclose(moving.dry, still.dry, atol=1e-12)


def test_responses_are_interpolated_sample_by_sample() -> None:
    rng = np.random.default_rng(5)
    said, h = walkers(rng), responses(rng, 3)
    images = mix_moving(said, h, np.random.default_rng(3)).images
    expected = np.zeros((3, 4000 + 49))
    for t in range(4000):
        where = t / 3999 * 2
        low = min(int(where), 1)
        response = (low + 1 - where) * h[0, low] + (where - low) * h[0, low + 1]
        expected[:, t : t + 50] += said[0][t] * response
    ratio = images[0] / expected[:, :4000]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)


def test_responses_of_a_room_change_along_the_path() -> None:
    pytest.importorskip("pyroomacoustics")
    scene = random_scene(np.random.default_rng(6), n_mics=2, rt60=(0.2, 0.2), distance=(0.8, 0.8))
    h = path_responses(scene, circular_paths(scene, 10.0, step=5.0), max_order=2)
    assert h.shape[:3] == (2, 3, 2)
    near, far = (np.linalg.norm(h[:, k] - h[:, 0]) for k in (1, 2))
    assert near > 0
    assert far > near


def test_shapes_that_do_not_fit() -> None:
    rng = np.random.default_rng(7)
    with pytest.raises(InputError, match=r"need responses \(2, places, channels, taps\)"):
        mix_moving(walkers(rng), responses(rng, 2)[0], rng)
    with pytest.raises(InputError, match=r"not \(2, 0, 3, 50\)"):
        mix_moving(walkers(rng), responses(rng, 0), rng)
