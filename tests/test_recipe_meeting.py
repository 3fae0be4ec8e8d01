"""The simulated meeting: what it is made of, and what its files say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA

from fca import audio
from fca.activity import read_rttm
from fca.errors import InputError
from recipes.meeting.memory import record
from recipes.meeting.simulate import (
    SAMPLE_RATE,
    find_speakers,
    simulate,
    speech_segments,
    take_turns,
    write,
)


@pytest.fixture
def speakers(tmp_path: Path) -> Path:
    """One folder per speaker."""
    for file in sorted(DATA.glob("*.flac")):
        (tmp_path / "speech" / file.stem).mkdir(parents=True)
        (tmp_path / "speech" / file.stem / "a.flac").write_bytes(file.read_bytes())
    return tmp_path / "speech"


def test_turns_cover_the_meeting_and_talkers_pause_for_a_minute() -> None:
    files = [[Path(f"{n}")] for n in range(4)]
    lengths = {file: 4 * SAMPLE_RATE for (file,) in files}
    turns = take_turns(files, lengths, 600 * SAMPLE_RATE, np.random.default_rng(0))
    starts = [turn.start for turn in turns]
    assert starts == sorted(starts)
    assert np.diff(starts).max() < 8 * SAMPLE_RATE
    assert all(a.talker != b.talker for a, b in itertools.pairwise(turns))
    for talker in range(4):
        own = [turn.start for turn in turns if turn.talker == talker]
        assert np.diff(own).max() > 60 * SAMPLE_RATE


def test_speech_is_where_the_utterance_is_loud() -> None:
    utterance = np.zeros(4 * SAMPLE_RATE, np.float32)
    utterance[SAMPLE_RATE : 2 * SAMPLE_RATE] = 0.1
    utterance[3 * SAMPLE_RATE :] = 0.1
    first, second = speech_segments("ann", utterance, 10 * SAMPLE_RATE)
    assert (first.start, first.end) == pytest.approx((11, 12))
    assert (second.start, second.end) == pytest.approx((13, 14))


def test_a_meeting_is_the_sum_of_its_talkers_and_noise(speakers: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = find_speakers(speakers, 2, rng)
    meeting = simulate(list(found.values()), 2, 12 * SAMPLE_RATE, rng)
    noise = meeting.mixture[0] - meeting.images.sum(0)
    assert noise.std() == pytest.approx(0.05 * 10 ** (-30 / 20), rel=0.1)
    write(meeting, tmp_path / "out", {"speakers": list(found)})
    assert audio.read(tmp_path / "out" / "meeting.wav")[0].shape == (2, 12 * SAMPLE_RATE)
    for segment in read_rttm(tmp_path / "out" / "meeting.rttm"):
        image = meeting.images[int(segment.speaker[-1]) - 1]
        begin, end = (round(s * SAMPLE_RATE) for s in (segment.start, segment.end))
        assert np.square(image[begin:end]).mean() > 3 * noise.var()
    assert json.loads((tmp_path / "out" / "meeting.json").read_text())["speakers"] == list(found)


def test_too_few_speakers(speakers: Path) -> None:
    with pytest.raises(InputError, match="9 speakers needed"):
        find_speakers(speakers, 9, np.random.default_rng(0))


def test_recordings_for_the_memory_table(tmp_path: Path) -> None:
    record(tmp_path / "x.wav", 0.02, 8, seed=0)
    waveform, rate = audio.read(tmp_path / "x.wav")
    assert (waveform.shape, rate) == ((8, round(1.2 * SAMPLE_RATE)), SAMPLE_RATE)
    assert waveform.std(axis=1).min() > 0
