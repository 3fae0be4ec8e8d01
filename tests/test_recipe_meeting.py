"""The simulated meeting: what it is made of, and what its files say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA

from fca import audio
from fca.activity import Segment, read_rttm, write_rttm
from fca.blocks import BlockSeparator
from fca.errors import InputError
from fca.separator import Separator
from fca.simulate import Mixture
from recipes.benchmark.common import surroundings
from recipes.meeting import count, evaluate, memory
from recipes.meeting.simulate import (
    SAMPLE_RATE,
    draw_speakers,
    simulate,
    speech_segments,
    take_turns,
    within,
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


def test_nobody_says_two_things_at_once() -> None:
    """Not even who was interrupted by somebody who says little."""
    files = [[Path(f"{n}a"), Path(f"{n}b")] for n in range(4)]
    lengths = {file: s * SAMPLE_RATE for a, b in files for file, s in ((a, 16), (b, 1))}
    turns = take_turns(files, lengths, 1200 * SAMPLE_RATE, np.random.default_rng(0))
    for talker in range(4):
        own = [turn for turn in turns if turn.talker == talker]
        assert all(a.start + lengths[a.file] <= b.start for a, b in itertools.pairwise(own))


def test_speech_is_where_the_utterance_is_loud() -> None:
    utterance = np.zeros(4 * SAMPLE_RATE, np.float32)
    utterance[SAMPLE_RATE : 2 * SAMPLE_RATE] = 0.1
    utterance[3 * SAMPLE_RATE :] = 0.1
    first, second = speech_segments("ann", utterance, 10 * SAMPLE_RATE)
    assert (first.start, first.end) == pytest.approx((11, 12))
    assert (second.start, second.end) == pytest.approx((13, 14))


def test_speech_at_the_end_counts_as_far_as_it_is_heard() -> None:
    segments = [Segment("ann", 1.0, 2.0), Segment("bob", 2.5, 3.0), Segment("ann", 4.0, 1.0)]
    assert within(segments, 4.0) == [Segment("ann", 1.0, 2.0), Segment("bob", 2.5, 1.5)]


def test_a_meeting_is_the_sum_of_its_talkers_and_noise(speakers: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    found = draw_speakers(speakers, 2, rng)
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
        draw_speakers(speakers, 9, np.random.default_rng(0))


def test_chapters_are_not_speakers(speakers: Path) -> None:
    """As in LibriSpeech, SPEAKER/CHAPTER/*.flac."""
    flat = draw_speakers(speakers, 2, np.random.default_rng(0))
    for folder in speakers.iterdir():
        for chapter in ("1", "2"):
            (folder / chapter).mkdir()
            (folder / chapter / "a.flac").write_bytes((folder / "a.flac").read_bytes())
        (folder / "a.flac").unlink()
    nested = draw_speakers(speakers, 2, np.random.default_rng(0))
    assert list(nested) == list(flat)
    assert all(len(files) == 2 for files in nested.values())


def test_recordings_for_the_memory_table(tmp_path: Path) -> None:
    memory.record(tmp_path / "x.wav", 0.02, 8, seed=0)
    waveform, rate = audio.read(tmp_path / "x.wav")
    assert (waveform.shape, rate) == ((8, round(1.2 * SAMPLE_RATE)), SAMPLE_RATE)
    assert waveform.std(axis=1).min() > 0


def test_cases_of_the_memory_table(tmp_path: Path) -> None:
    assert memory.parse_case("2,20: -m auxiva -O 'a=b c'") == (
        [2, 20],
        ["-m", "auxiva", "-O", "a=b c"],
    )
    assert memory.parse_case("0.5") == ([0.5], [])
    for bad in ("", "-n 4", "2,0: -n 4"):
        with pytest.raises(InputError, match="lengths in minutes"):
            memory.parse_case(bad)
    row = {"minutes": 2, "options": ["-n", "4"], "MiB": 900.4, "seconds": 10.0}
    content = {"surroundings": surroundings(), "channels": 8, "seed": 0, "rows": [row]}
    memory.write_report(tmp_path / "x.md", content)
    assert "| 2 min, -n 4 | 900 | 10 |" in (tmp_path / "x.md").read_text()
    assert json.loads((tmp_path / "x.json").read_text())["rows"] == [row]


class TestEvaluation:
    """Tracks that are known to be right or wrong."""

    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        """A meeting of two minutes, and results in which two talkers swap after the first."""
        rng = np.random.default_rng(0)
        rate, half = SAMPLE_RATE, 60 * SAMPLE_RATE
        images = rng.standard_normal((2, 2 * half)).astype(np.float32)
        tracks = images.copy()
        tracks[:, half:] = 0.5 * images[::-1, half:] + 0.01 * images[:, half:]
        for folder in ("meeting", "results"):
            (tmp_path / folder).mkdir()
        audio.write(tmp_path / "meeting" / "meeting.wav", images.sum(0, keepdims=True), rate)
        for n in (0, 1):
            audio.write(tmp_path / "meeting" / f"talker{n + 1}.wav", images[n], rate)
            audio.write(tmp_path / "results" / f"source{n + 1}.wav", tracks[n], rate)
        spoken = [Segment("talker1", 0, 70), Segment("talker2", 0, 10), Segment("talker2", 110, 9)]
        write_rttm(tmp_path / "meeting" / "meeting.rttm", spoken, "meeting")
        return tmp_path / "meeting", tmp_path / "results"

    def test_swaps_are_counted_where_they_happen(self, folders: tuple[Path, Path]) -> None:
        rows = evaluate.score(*folders)
        swapped = {(row["start"], row["talker"]): row["swapped"] for row in rows}
        assert swapped == {
            (0, "talker1"): False,
            (0, "talker2"): False,
            (60, "talker1"): True,
            (60, "talker2"): True,
        }
        assert rows[0]["sdr"] > 100
        assert rows[-1]["sdr"] < 0

    def test_tables_tell_the_pauses_and_the_swaps(self, folders: tuple[Path, Path]) -> None:
        errors = {0.0: {"DER": 0.1, "missed": 0.05, "false alarm": 0.03, "confusion": 0.02}}
        text = evaluate.tables(folders[0], evaluate.score(*folders), errors)
        assert "| talker2 | 100 | 1 of 2 |" in text
        assert "| 0 | 10.0 | 5.0 | 3.0 | 2.0 |" in text
        assert "DER" not in evaluate.tables(folders[0], evaluate.score(*folders), {})

    @pytest.mark.parametrize("seconds", [10, 60, 89, 91, 300])
    def test_pieces_cover_the_meeting(self, seconds: int) -> None:
        found = evaluate.pieces(seconds, 1)
        assert found[0].start == 0
        assert found[-1].stop == seconds
        assert all(a.stop == b.start for a, b in itertools.pairwise(found))
        assert max(piece.stop - piece.start for piece in found) < 1.5 * evaluate.SDR_SECONDS + 1


def test_the_confusion_table() -> None:
    rows = [{"talkers": n, "found": k} for n, k in ((1, 1), (1, 1), (2, 1), (2, 3))]
    assert count.table(rows).splitlines()[2:] == ["| 1 | 0 | 2 | 0 | 0 |", "| 2 | 0 | 1 | 0 | 1 |"]


def test_talkers_of_a_recording_are_counted(tmp_path: Path, two_talker_mixture: Mixture) -> None:
    audio.write(tmp_path / "x.wav", two_talker_mixture.mixture.astype(np.float32), SAMPLE_RATE)
    separator = BlockSeparator(Separator("auxiva", 5, n_iter=20, n_fft=2048), count=True)
    assert count.count(tmp_path / "x.wav", separator) == 2
