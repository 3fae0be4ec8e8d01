"""The command line run again: what is finished is skipped, what is not is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import RATE, records, separate, write_all

from fca import audio
from fca.activity import Segment, write_rttm
from fca.cli.fingerprints import PIECE, fingerprints


def test_finished_recordings_are_skipped(wav: Path, out: Path) -> None:
    separate(wav, "-o", out)
    before = (out / "talk" / "source1.wav").stat().st_mtime_ns
    result = separate(wav, "-o", out, "--json")
    assert result.exit_code == 0
    assert "finished earlier" in result.stderr
    assert records(result)[0]["status"] == "skipped"
    assert (out / "talk" / "source1.wav").stat().st_mtime_ns == before


@pytest.mark.parametrize("lost", ["separation.json", "source2.wav"])
def test_unfinished_recordings_are_done_again(wav: Path, out: Path, lost: str) -> None:
    separate(wav, "-o", out)
    (out / "talk" / lost).unlink()
    assert records(separate(wav, "-o", out, "--json"))[0]["status"] == "done"
    assert (out / "talk" / lost).exists()


@pytest.mark.parametrize("cut", ["source2.wav", "separation.json", "separation.png"])
@pytest.mark.parametrize("left", [0, 100])
def test_files_that_were_cut_are_written_again(wav: Path, out: Path, cut: str, left: int) -> None:
    separate(wav, "-o", out, "--plot")
    before = {path: path.stat().st_size for path in (out / "talk").iterdir()}
    with (out / "talk" / cut).open("rb+") as file:
        file.truncate(left)
    assert records(separate(wav, "-o", out, "--plot", "--json"))[0]["status"] == "done"
    after = {path: path.stat().st_size for path in (out / "talk").iterdir()}
    del before[out / "talk" / "separation.json"], after[out / "talk" / "separation.json"]
    assert after == before


def test_overwrite_leaves_nothing_of_the_earlier_results(wav: Path, out: Path) -> None:
    separate(wav, "-o", out, "--residual")
    result = separate(wav, "-o", out, "--overwrite", "--format", "flac")
    assert result.exit_code == 0
    names = sorted(path.name for path in (out / "talk").iterdir())
    assert names == ["activity.rttm", "separation.json", "source1.flac", "source2.flac"]


def test_nothing_of_a_run_that_was_stopped_stays_among_later_results(
    wav: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped after the talkers had been written, before the record was."""

    def stop(*arguments: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("fca.cli.results.write_rttm", stop)
        assert separate(wav, "-o", out, "--residual").exit_code == 1
    assert (out / "talk" / "residual.wav").exists()
    assert separate(wav, "-o", out).exit_code == 0
    names = sorted(path.name for path in (out / "talk").iterdir())
    assert names == ["activity.rttm", "separation.json", "source1.wav", "source2.wav"]


def test_results_for_other_turns_are_not_taken_for_these(
    tmp_path: Path, wav: Path, out: Path
) -> None:
    guide = tmp_path / "turns.rttm"
    turns = [Segment("ann", 0.0, 0.6), Segment("bob", 0.4, 0.6)]
    write_rttm(guide, turns, "talk")
    assert separate(wav, "-o", out, "--rttm", guide).exit_code == 0
    assert "finished earlier" in separate(wav, "-o", out, "--rttm", guide).stderr
    write_rttm(guide, [*turns, Segment("ann", 0.8, 0.2)], "talk")
    again = separate(wav, "-o", out, "--rttm", guide)
    assert again.exit_code == 1
    assert "results of other settings" in again.stderr


def test_results_of_other_settings_or_recordings_are_not_touched(
    tmp_path: Path, wav: Path, out: Path, recording: np.ndarray
) -> None:
    separate(wav, "-o", out)
    before = (out / "talk" / "separation.json").read_bytes()
    other = separate(wav, "-o", out, "--seed", 1)
    assert other.exit_code == 1
    assert "results of other settings (seed 0 -> 1)" in other.stderr
    write_all(tmp_path, ["elsewhere/talk.wav"], recording[::-1])
    other = separate(tmp_path / "elsewhere" / "talk.wav", "-o", out)
    assert other.exit_code == 1
    assert "results of another recording" in other.stderr
    assert (out / "talk" / "separation.json").read_bytes() == before


def test_a_file_in_the_place_of_a_folder_is_told(wav: Path, out: Path) -> None:
    out.mkdir()
    (out / "talk").write_text("notes")
    for place in (out, out / "talk"):
        result = separate(wav, "-o", place)
        assert result.exit_code == 1
        assert "a file is where this folder would be" in result.stderr
    assert (out / "talk").read_text() == "notes"


def test_a_recording_that_was_replaced_is_no_finished_one(
    wav: Path, out: Path, recording: np.ndarray
) -> None:
    separate(wav, "-o", out)
    audio.write(wav, recording[:, : RATE // 2], RATE)
    changed = separate(wav, "-o", out)
    assert changed.exit_code == 1
    assert "results of the input before it was changed" in changed.stderr
    assert separate(wav, "-o", out, "--overwrite").exit_code == 0
    assert "finished earlier" in separate(wav, "-o", out).stderr


def test_a_recording_elsewhere_or_of_another_date_is_the_same(
    tmp_path: Path, wav: Path, out: Path
) -> None:
    """A job that stages its input to a scratch folder, say."""
    separate(wav, "-o", out)
    os.utime(wav, (1e9, 1e9))
    assert "finished earlier" in separate(wav, "-o", out).stderr
    (tmp_path / "scratch").mkdir()
    staged = shutil.copy(wav, tmp_path / "scratch")
    wav.unlink()
    assert "finished earlier" in separate(staged, "-o", out).stderr


def test_files_that_lie_elsewhere_are_the_same_settings(
    tmp_path: Path, wav: Path, out: Path
) -> None:
    guide = tmp_path / "turns.rttm"
    write_rttm(guide, [Segment("ann", 0.0, 0.6), Segment("bob", 0.4, 0.6)], "talk")
    assert separate(wav, "-o", out, "--rttm", guide).exit_code == 0
    staged = shutil.copy(guide, tmp_path / "staged.rttm")
    assert "finished earlier" in separate(wav, "-o", out, "--rttm", staged).stderr


def test_large_files_are_known_by_three_pieces_of_them(tmp_path: Path) -> None:
    path, size = tmp_path / "x.wav", 5 * PIECE + 3
    content = bytearray(np.random.default_rng(0).bytes(size))
    path.write_bytes(content)
    (before,) = fingerprints([path])
    assert before[0] == size
    for at in (0, size // 2, size - 1):
        content[at] ^= 1
        path.write_bytes(content)
        assert fingerprints([path]) != [before]
        content[at] ^= 1
    path.write_bytes(content)
    assert fingerprints([path]) == [before]
    assert fingerprints([path, tmp_path / "none.wav"]) is None
