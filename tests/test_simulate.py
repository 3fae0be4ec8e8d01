"""Simulated scenes: geometry, reverberation, noise fields and the books of a mixture."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest

from fca.errors import InputError
from fca.positions import SPEED_OF_SOUND
from fca.simulate import (
    Scene,
    diffuse_coherence,
    diffuse_noise,
    mix,
    random_scene,
    reverberation_time,
    room_responses,
)

RATE = 16000


def tone_bursts(rng: np.random.Generator, n: int, samples: int = RATE) -> list[np.ndarray]:
    return [rng.standard_normal(samples) for _ in range(n)]


@pytest.mark.parametrize(("n_talkers", "n_mics"), [(1, 1), (2, 4), (3, 8), (4, 16)])
def test_random_scene_keeps_its_promises(n_talkers: int, n_mics: int) -> None:
    for seed in range(20):
        scene = random_scene(np.random.default_rng(seed), n_talkers=n_talkers, n_mics=n_mics)
        mics, talkers = np.array(scene.mics), np.array(scene.talkers)
        assert mics.shape == (n_mics, 3)
        assert talkers.shape == (n_talkers, 3)
        spacing = np.linalg.norm(mics[:, None] - mics[None], axis=-1)
        if n_mics > 1:
            assert 0.05 <= spacing.max() <= 0.3
            assert spacing[~np.eye(n_mics, dtype=bool)].min() >= spacing.max() / (2 * n_mics) - 1e-9
        x, y = (talkers - mics.mean(axis=0))[:, :2].T
        azimuth = np.rad2deg(np.arctan2(y, x))
        for i in range(n_talkers):
            for j in range(i):
                assert abs((azimuth[i] - azimuth[j] + 180) % 360 - 180) >= 20 - 1e-6


def test_scene_is_seeded_and_survives_json() -> None:
    scene, again = (random_scene(np.random.default_rng(3)) for _ in range(2))
    assert scene == again
    assert Scene(**json.loads(json.dumps(dataclasses.asdict(scene)))) == scene
    assert scene != random_scene(np.random.default_rng(4))


def test_scene_refuses_positions_outside() -> None:
    with pytest.raises(InputError, match="outside"):
        Scene(room=(4, 4, 3), rt60=0.3, mics=((2, 2, 1),), talkers=((5, 1, 1),))
    with pytest.raises(InputError, match="degrees apart"):
        random_scene(np.random.default_rng(0), n_talkers=16)


@pytest.mark.parametrize("distance", [(10, 12), (7.5, 8)])
def test_no_room_is_large_enough(
    distance: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fca.simulate.rooms.ROOMS", 100)
    with pytest.raises(InputError, match="no room holds 2 talkers"):
        random_scene(np.random.default_rng(0), distance=distance)


@pytest.mark.parametrize("rt60", [0.15, 0.3, 0.5])
def test_measured_reverberation_is_the_nominal_one(rt60: float) -> None:
    # Shoebox decays are not exponential and depend on the room's proportions: over 60 rooms the
    # corrected formula stays within 20 %.
    for seed in range(3):
        scene = random_scene(np.random.default_rng(seed), n_mics=1, rt60=(rt60, rt60))
        responses = room_responses(scene, RATE)
        measured = [reverberation_time(r, RATE) for r in responses[:, 0]]
        assert np.mean(measured) == pytest.approx(rt60, rel=0.25)


def test_reverberation_time_of_an_exponential_decay() -> None:
    time = np.arange(RATE) / RATE
    decay = np.random.default_rng(0).standard_normal(RATE) * 10 ** (-3 * time / 0.4)
    assert reverberation_time(decay, RATE) == pytest.approx(0.4, rel=0.03)
    with pytest.raises(InputError, match="silent"):
        reverberation_time(np.zeros(100))


def test_direct_sound_arrives_when_physics_says() -> None:
    scene = random_scene(np.random.default_rng(1), n_mics=4)
    responses = room_responses(scene, RATE, max_order=0)
    assert responses.shape[:2] == (2, 4)
    distance = np.linalg.norm(
        np.array(scene.talkers)[:, None] - np.array(scene.mics)[None], axis=-1
    )
    arrival = np.abs(responses).argmax(axis=-1)
    offset = arrival - distance / SPEED_OF_SOUND * RATE  # one common filter delay
    assert np.ptp(offset) <= 1.0


def test_mixture_is_the_sum_of_its_parts_at_the_levels_asked() -> None:
    rng = np.random.default_rng(0)
    scene = random_scene(rng, n_talkers=3, n_mics=4, rt60=(0.2, 0.3))
    made = mix(
        tone_bursts(rng, 3),
        room_responses(scene, RATE),
        rng,
        level_db=(-5, 5),
        snr_db=20,
        sample_rate=RATE,
    )
    assert made.images.shape == made.early.shape == (3, 4, RATE)
    assert made.dry.shape == (3, RATE)
    np.testing.assert_array_equal(made.mixture, made.images.sum(axis=0) + made.noise)
    speech, noise = np.mean(made.images.sum(axis=0) ** 2), np.mean(made.noise**2)
    assert 10 * np.log10(speech / noise) == pytest.approx(20)
    level = 10 * np.log10(np.mean(made.images**2, axis=(1, 2)))
    assert np.all(np.abs(level[1:] - level[0]) <= 5)


def test_images_are_convolutions_and_early_parts_their_beginnings() -> None:
    rng = np.random.default_rng(0)
    utterance = np.zeros(4000)
    utterance[0] = 1.0  # an impulse returns the response itself
    responses = np.zeros((1, 2, 3000))
    responses[0, :, 100], responses[0, :, 500], responses[0, :, 2000] = 1.0, 0.5, 0.4
    made = mix([utterance], responses, rng, sample_rate=RATE)  # 50 ms are 800 samples
    gain = made.images[0, 0, 100]
    np.testing.assert_allclose(made.images[0, :, :3000], gain * responses[0], atol=1e-12)
    assert made.early[0, 0, 500] == pytest.approx(0.5 * gain)
    np.testing.assert_allclose(made.early[0, :, 901:], 0, atol=1e-12)
    assert np.argmax(made.dry[0]) == 100
    assert made.dry[0, 100] == pytest.approx(gain)
    assert not made.noise.any()


def test_diffuse_noise_has_the_coherence_of_its_field() -> None:
    rng = np.random.default_rng(0)
    mics = 0.1 * rng.uniform(-1, 1, (4, 3))
    noise = diffuse_noise(rng.standard_normal((4, 40 * RATE)), mics, RATE)
    frames = noise.reshape(4, -1, 512) * np.hanning(512)
    spectra = np.fft.rfft(frames)
    covariance = np.einsum("itf,jtf->fij", spectra, spectra.conj()) / spectra.shape[1]
    power = np.einsum("fii->fi", covariance).real
    measured = covariance / np.sqrt(power[:, :, None] * power[:, None])
    distance = np.linalg.norm(mics[:, None] - mics, axis=-1)
    frequency = np.fft.rfftfreq(512, 1 / RATE)[:, None, None]
    expected = np.sinc(2 * frequency * distance / SPEED_OF_SOUND)  # sin(kd) / kd
    np.testing.assert_allclose(diffuse_coherence(mics, frequency[:, 0, 0]), expected, atol=1e-12)
    # 1250 frames estimate a coherence with a standard deviation of 1/sqrt(1250) = 0.03
    assert np.sqrt(np.mean(np.abs(measured - expected)[5:-5] ** 2)) < 0.04
    np.testing.assert_allclose(np.mean(noise**2, axis=1), 1, rtol=0.1)


def test_bad_input_is_named() -> None:
    rng = np.random.default_rng(0)
    responses = np.ones((2, 3, 10))
    speech = tone_bursts(rng, 2, 100)
    with pytest.raises(InputError, match="2 utterances need responses"):
        mix(speech, responses[:1], rng)
    with pytest.raises(InputError, match="silent"):
        mix([speech[0], np.zeros(100)], responses, rng)
    with pytest.raises(InputError, match="give snr_db"):
        mix(speech, responses, rng, noise=np.ones((3, 100)))
    with pytest.raises(InputError, match="noise must be"):
        mix(speech, responses, rng, snr_db=10, noise=np.ones((3, 50)))
    with pytest.raises(InputError, match="microphones need noises"):
        diffuse_noise(np.ones((2, 100)), np.zeros((3, 3)))
    with pytest.raises(InputError, match="non-empty"):
        mix([], responses, rng)


def test_missing_pyroomacoustics_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(InputError, match="needs the extra 'simulate'"):
        room_responses(random_scene(np.random.default_rng(0)))
