"""Tracks: which sources of a block are talkers, and which talker each of them is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fca.tracks import Tracks

RATE = 16000


@pytest.mark.parametrize("scale", [1.0, 1e-13, 3e-14])
def test_the_continuity_of_tracks_is_a_correlation_at_any_scale(scale: float) -> None:
    sources = scale * torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))
    tracks = Tracks(2)
    tracks.assign(0, sources, sources, torch.zeros(2 * RATE), RATE)
    correlation = tracks._continuity(sources[:, RATE:], RATE)
    assert 0.7 < float(correlation.max()) < 1.001


def test_parts_of_one_talker_are_counted_once(speech: np.ndarray) -> None:
    """A model with too many sources splits a talker by frequency or by reflection."""
    rng = np.random.default_rng(0)
    dry = speech[0] / speech[0].std()
    parts = np.stack([dry, 0.5 * np.roll(dry, 3) + 0.1 * rng.standard_normal(len(dry))])
    mixture = rng.standard_normal((3, 2)) @ parts
    sources = torch.from_numpy(parts).float()
    tracks = Tracks()
    residual = torch.zeros(len(dry))
    found = tracks.assign(0, torch.from_numpy(mixture).float(), sources, residual, RATE)
    assert found == [0, 0]
    assert len(tracks) == 1


def noise_and_talkers() -> tuple[torch.Tensor, torch.Tensor]:
    """Two seconds of noise at two microphones, and of two talkers in turns, one at each."""
    rng = torch.Generator().manual_seed(0)
    noise, speech = torch.randn(2, 2 * RATE, generator=rng), torch.randn(2, 2 * RATE, generator=rng)
    speech[1, :RATE] = speech[0, RATE:] = 0
    return noise, speech


def test_talkers_may_be_heard_after_blocks_without_any() -> None:
    noise, speech = noise_and_talkers()
    tracks = Tracks(None)
    for start in (0, RATE):
        assert tracks.assign(start, noise, 1e-3 * noise, noise[0], RATE) == [-1, -1]
    found = tracks.assign(2 * RATE, speech, speech, torch.zeros(2 * RATE), RATE)
    assert sorted(found) == [0, 1]


def test_a_faint_talker_has_a_track_where_the_number_is_known() -> None:
    """One who is never louder than everything else; others who are take over empty tracks only."""
    noise, _ = noise_and_talkers()
    faint = noise * torch.tensor([[1.0], [0.1]])
    silence = torch.zeros(2 * RATE)
    known, counted = Tracks(2), Tracks(None)
    assert known.assign(0, faint, faint, silence, RATE) == [0, 1]
    assert counted.assign(0, faint, faint, silence, RATE) == [0, -1]


def test_noise_does_not_keep_a_talker_from_a_track() -> None:
    noise, speech = noise_and_talkers()
    tracks = Tracks(2)
    assert tracks.assign(0, noise, 1e-3 * noise, noise[0], RATE) == [0, 1]
    found = tracks.assign(2 * RATE, speech, speech, torch.zeros(2 * RATE), RATE)
    assert sorted(found) == [0, 1]


def test_a_knock_does_not_hide_talkers() -> None:
    _, speech = noise_and_talkers()
    silence = torch.zeros(2 * RATE)
    knock = silence.clone()
    knock[RATE : RATE + RATE // 10] = 30 * speech[0, : RATE // 10]
    tracks = Tracks(None)
    for start in (0, 2 * RATE):
        found = tracks.assign(start, speech + knock, speech, knock if start == 0 else silence, RATE)
        assert sorted(found) == [0, 1]
