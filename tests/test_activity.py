"""Who speaks when: activities of planted turns, and RTTM files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fca.activity import (
    Levels,
    Segment,
    activities,
    check_rttm,
    other_recording,
    read_rttm,
    segments,
    write_rttm,
)
from fca.errors import InputError

SEGMENTS = [Segment("ann", 0.0, 1.5), Segment("bob", 1.25, 2.0), Segment("ann", 4.0, 0.125)]


def planted(seconds: float = 20.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Powers (3, T) of two bursty talkers, 20 dB of leakage, and noise; who is active, (2, T)."""
    rng = np.random.default_rng(seed)
    n_frames = round(seconds * 50)
    active = np.zeros((2, n_frames), bool)
    active[0, 100:400], active[0, 700:800], active[1, 350:650] = True, True, True
    # Syllables: six frames loud, three frames 20 dB down.
    shape = np.where(np.arange(n_frames) % 9 < 6, 1.0, 0.01) * rng.exponential(size=(2, n_frames))
    clean = active * shape
    sources = clean + 0.01 * clean[::-1] + 1e-4 * rng.exponential(size=(2, n_frames))
    return np.concatenate([sources, 1e-4 * rng.exponential(size=(1, n_frames))]), active


class TestActivities:
    def test_planted_turns_are_found(self) -> None:
        power, active = planted()
        found = activities(power)
        assert found.shape == active.shape
        assert ((found >= 0) & (found <= 1)).all()
        assert np.mean((found > 0.5) != active) < 0.03

    def test_longer_frames_find_the_same_turns(self) -> None:
        power, active = planted()
        found = activities(power.reshape(3, -1, 4).mean(-1), frame_seconds=0.08)
        assert np.mean((np.repeat(found, 4, axis=1) > 0.5) != active) < 0.04

    def test_gain_and_order_do_not_matter(self) -> None:
        power, _ = planted()
        found = activities(power)
        np.testing.assert_allclose(activities(1e6 * power), found, atol=1e-9)
        np.testing.assert_allclose(activities(power[[1, 0, 2]]), found[::-1], atol=1e-9)

    def test_silence_is_silence(self) -> None:
        power, _ = planted()
        power[1] = 0
        assert activities(power)[1].max() < 0.5
        assert activities(np.zeros((3, 100))).max() < 0.5

    def test_segments_are_the_runs(self) -> None:
        activity = np.zeros((2, 100))
        activity[0, 10:60], activity[0, 70:75], activity[1, 80:] = 0.9, 0.9, 0.9
        expected = [Segment("ann", 0.2, 1.0), Segment("bob", 1.6, 0.4)]
        assert segments(activity, ["ann", "bob"]) == expected

    @pytest.mark.parametrize("first", [0, 3, 41, 1000, 2999])
    def test_the_shortest_segment_is_kept_wherever_it_is(self, first: int) -> None:
        activity = np.zeros((1, 3100))
        activity[0, first : first + 10] = 1
        assert segments(activity, ["ann"]) == [Segment("ann", round(first * 0.02, 3), 0.2)]
        activity[0, first] = 0
        assert segments(activity, ["ann"]) == []

    def test_times_do_not_drift_where_frames_are_no_whole_number_of_samples(self) -> None:
        rate, second = 11025, 500
        levels = Levels(501 * rate, rate)
        loud = np.repeat([0.0, 1.0], [second * rate, rate])
        levels.add(0, loud[None], np.zeros_like(loud))
        (found,) = segments((levels.power[:1] > 0.5).astype(float), ["ann"], levels.frame_seconds)
        assert found.start == pytest.approx(second, abs=0.02)

    def test_levels_of_blocks_are_those_of_the_whole(self) -> None:
        rng = np.random.default_rng(0)
        sources, residual = rng.standard_normal((2, 16000)), rng.standard_normal(16000)
        whole, blocks = Levels(16000, 16000), Levels(16000, 16000)
        whole.add(0, sources, residual)
        blocks.add(0, sources[:, :7001], residual[:7001])
        blocks.add(5003, sources[:, 5003:12000], residual[5003:12000])
        blocks.add(11000, sources[:, 11000:], residual[11000:])
        np.testing.assert_allclose(blocks.power, whole.power)

    def test_a_talker_may_appear_later(self) -> None:
        levels = Levels(16000, 16000)
        levels.add(0, np.ones((1, 8000)), np.zeros(8000))
        levels.add(8000, np.ones((2, 8000)), np.zeros(8000))
        np.testing.assert_array_equal(levels.power.mean(1), [1, 0.5, 0])


class TestRTTM:
    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        write_rttm(tmp_path / "x.rttm", reversed(SEGMENTS), "talk")
        assert read_rttm(tmp_path / "x.rttm") == SEGMENTS
        assert [path.name for path in tmp_path.iterdir()] == ["x.rttm"]
        first = (tmp_path / "x.rttm").read_text().splitlines()[0]
        assert first == "SPEAKER talk 1 0.000 1.500 <NA> <NA> ann <NA> <NA>"

    def test_names_with_spaces_are_found_again(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        write_rttm(path, [Segment("ann lee", 0.5, 1.0)], "my talk")
        assert read_rttm(path, "my talk", exact=True) == [Segment("ann_lee", 0.5, 1.0)]

    def test_a_file_about_one_recording_need_not_name_it(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        write_rttm(path, SEGMENTS, "talk")
        assert read_rttm(path, "other") == SEGMENTS
        with pytest.raises(InputError, match="nothing is said of a recording called other"):
            read_rttm(path, "other", exact=True)

    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        path.write_text("SPEAKER x 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n", encoding="utf-8-sig")
        assert read_rttm(path) == [Segment("ann", 0.5, 1.0)]

    def test_other_lines_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        path.write_text(";; comment\nSPKR-INFO x 1 <NA> <NA> <NA> unknown ann <NA>\n\n")
        with pytest.raises(InputError, match="begins with SPEAKER"):
            read_rttm(path)
        with path.open("a") as file:
            file.write("SPEAKER x 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n")
        assert read_rttm(path) == [Segment("ann", 0.5, 1.0)]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("SPEAKER x 1 0.5", "line 1: not 'SPEAKER"),
            ("SPEAKER x 1 zero 1.0 <NA> <NA> ann", "line 1: not 'SPEAKER"),
            ("SPEAKER my talk 1 0.5 1.0 <NA> <NA> ann <NA> <NA>", "line 1: not 'SPEAKER"),
            ("SPEAKER x 1 0.5 1.0 <NA> <NA> <NA> <NA> <NA>", "line 1: no speaker"),
            ("SPEAKER x 1 0 -1.0 <NA> <NA> ann", "line 1: not a stretch"),
            ("SPEAKER x 1 -inf 1.0 <NA> <NA> ann", "line 1: not a stretch"),
            ("SPEAKER x 1 0 nan <NA> <NA> ann", "line 1: not a stretch"),
            ("SPEAKER x 1 -0.5 2 <NA> <NA> ann", "line 1: begins before the recording, at -0.5 s"),
        ],
    )
    def test_bad_lines_are_named(self, tmp_path: Path, line: str, message: str) -> None:
        (tmp_path / "x.rttm").write_text(line)
        for use in (read_rttm, check_rttm):
            with pytest.raises(InputError, match=message):
                use(tmp_path / "x.rttm")

    def test_turns_that_last_no_time(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        turns = [("ann", 1, 0), ("ann", 0, 1.5), ("bob", 2, 0), ("bob", 1, 1)]
        lines = [f"SPEAKER x 1 {start} {length} <NA> <NA> {who}\n" for who, start, length in turns]
        path.write_text("".join(lines))
        assert read_rttm(path) == [Segment("ann", 0, 1.5), Segment("bob", 1, 1)]
        path.write_text("".join([lines[0], lines[2]]))
        for use in (read_rttm, check_rttm):
            with pytest.raises(InputError, match="nobody speaks for any time"):
                use(path)

    def test_whether_a_file_is_about_another_recording(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        write_rttm(path, SEGMENTS, "my talk")
        assert other_recording(path, "my talk") is None
        assert other_recording(path, "hall") == "my_talk"
        with path.open("a") as file:
            file.write("SPEAKER x 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n")
        assert other_recording(path, "hall") is None

    @pytest.mark.parametrize(
        "line",
        [
            "SPEAKER other 1 zero 1.0 <NA> <NA> ann <NA> <NA>",
            "SPEAKER other 1 0 -1.0 <NA> <NA> ann <NA> <NA>",
            "SPEAKER other 1 0 1.0 <NA> <NA> <NA> <NA> <NA>",
            "SPEAKER other 1 0.5",
        ],
    )
    def test_bad_lines_matter_to_their_own_recording_only(self, tmp_path: Path, line: str) -> None:
        path = tmp_path / "x.rttm"
        path.write_text(f"SPEAKER talk 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n{line}\n")
        check_rttm(path)
        assert read_rttm(path, "talk") == [Segment("ann", 0.5, 1.0)]
        for name in ("other", None):
            with pytest.raises(InputError, match="line 2: n"):
                read_rttm(path, name)

    @pytest.mark.parametrize(
        "line", ["SPEAKER", "SPEAKER ta", "SPEAKER my talk 1 0.5 1.0 <NA> <NA> ann <NA> <NA>"]
    )
    def test_bad_lines_matter_to_all_if_their_recording_is_not_known(
        self, tmp_path: Path, line: str
    ) -> None:
        path = tmp_path / "x.rttm"
        path.write_text(f"SPEAKER talk 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n{line}\n")
        with pytest.raises(InputError, match="line 2: not 'SPEAKER"):
            check_rttm(path)
        with pytest.raises(InputError, match="line 2: not 'SPEAKER"):
            read_rttm(path, "talk", exact=True)

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No such file"):
            read_rttm(tmp_path / "none.rttm")
        (tmp_path / "x.rttm").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="not text"):
            read_rttm(tmp_path / "x.rttm")
