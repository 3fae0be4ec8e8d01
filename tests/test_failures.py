"""What is finished stays, whatever happens next: a full disk, a killed process, damaged inputs."""

from __future__ import annotations

import contextlib
import json
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE
from typer.testing import CliRunner, Result

from fca import audio
from fca.cli import app
from fca.cli.claim import claimed
from fca.pieces import Reader, Writer
from fca.simulate import Mixture

OPTIONS = ["--method", "auxiva", "--iterations", "2", "-O", "n_fft=512", "--json"]
KILLED = """
import os, signal, sys
from fca.cli import main
from fca.pieces import Writer
write = Writer.write

def die(writer, start, waveform):
    write(writer, start, waveform)
    if "second" in str(writer.path):
        os.kill(os.getpid(), signal.SIGKILL)

Writer.write = die
sys.argv = ["fca", *sys.argv[1:]]
main()
"""


@pytest.fixture
def recordings(tmp_path: Path, two_talker_mixture: Mixture) -> list[Path]:
    """Three recordings: half a second, two seconds, half a second."""
    mixture = two_talker_mixture.mixture.astype(np.float32)
    paths = [tmp_path / f"{name}.wav" for name in ("first", "second", "third")]
    for path, seconds in zip(paths, (0.5, 2.0, 0.5), strict=True):
        audio.write(path, mixture[:, : round(seconds * RATE)], RATE)
    return paths


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes, as if the disk were full then."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def separate(recordings: list[Path], out: Path, *options: str) -> Result:
    files = [str(path) for path in recordings]
    return CliRunner().invoke(app, ["separate", *files, "-o", str(out), *OPTIONS, *options])


def statuses(result: Result) -> list[str]:
    return [json.loads(line)["status"] for line in result.stdout.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk(tmp_path: Path, recordings: list[Path], suffix: str) -> None:
    out = tmp_path / "out"
    with largest_file(60_000):  # two seconds are 128 kB, half a second is 32 kB
        result = separate(recordings, out, "--format", suffix)
    assert result.exit_code == 1
    assert statuses(result) == ["done", "failed", "done"]
    (line,) = [line for line in result.stderr.splitlines() if "second.wav: " in line]
    assert line.startswith("failed")
    assert "cannot be written" in line
    assert sorted(path.name for path in out.iterdir()) == ["first", "third"]
    before = contents(out / "first")
    assert sorted(before) == [
        "activity.rttm",
        "separation.json",
        f"source1.{suffix}",
        f"source2.{suffix}",
    ]
    again = separate(recordings, out, "--format", suffix)
    assert statuses(again) == ["skipped", "done", "skipped"]
    assert contents(out / "first") == before


@pytest.mark.parametrize("suffix", ["wav", "wav16", "flac"])
def test_files_that_somebody_removes_leave_what_was_finished(
    tmp_path: Path, recordings: list[Path], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scratch folder is tidied up, say, while earlier results are to be replaced."""
    out, write = tmp_path / "out", Writer.write
    assert separate(recordings[:1], out).exit_code == 0
    before = contents(out / "first")

    def write_and_lose(writer: Writer, start: int, waveform: np.ndarray) -> None:
        write(writer, start, waveform)
        for temporary in (out / "first").glob(".source2*.tmp"):
            temporary.unlink()

    monkeypatch.setattr(Writer, "write", write_and_lose)
    result = separate(recordings[:1], out, "--overwrite", "--format", suffix)
    assert statuses(result) == ["failed"]
    assert "source2" in result.stderr
    assert "cannot be written" in result.stderr
    assert contents(out / "first") == before


@pytest.mark.parametrize("suffix", ["wav16", "flac"])
def test_a_disk_that_is_full_at_the_end_leaves_what_was_finished(
    tmp_path: Path, recordings: list[Path], suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert separate(recordings[:1], out).exit_code == 0
    before = contents(out / "first")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Writer, "_encode", full)
    assert separate(recordings[:1], out, "--overwrite", "--format", suffix).exit_code == 1
    assert contents(out / "first") == before


def test_a_killed_run_is_resumed(tmp_path: Path, recordings: list[Path]) -> None:
    out = tmp_path / "out"
    files = [str(path) for path in recordings]
    command = [sys.executable, "-c", KILLED, "separate", *files, "-o", str(out), *OPTIONS]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = contents(out / "first")
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["done"]
    partial = [path.name for path in (out / "second").iterdir()]
    assert all(name.startswith(".") for name in partial)  # nothing under a final name
    assert any(name.endswith(".tmp") for name in partial)
    again = separate(recordings, out)
    assert statuses(again) == ["skipped", "done", "done"]
    assert contents(out / "first") == before
    source, _ = audio.read(out / "second" / "source1.wav")
    assert source.shape == (1, 2 * RATE)
    assert not list(out.rglob(".*"))


def test_what_another_run_works_on_is_left_to_it(tmp_path: Path, recordings: list[Path]) -> None:
    out = tmp_path / "out"
    with claimed(out / "second"):
        result = separate(recordings, out)
    assert result.exit_code == 1
    assert statuses(result) == ["done", "failed", "done"]
    told = f"failed  {recordings[1]}: {out / 'second'} is being worked on by another run"
    assert told in result.stderr.splitlines()


def test_what_another_run_finished_meanwhile_is_not_done_again(
    tmp_path: Path, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, read = tmp_path / "out", Reader.__init__
    before: dict[str, bytes] = {}

    def read_late(reader: Reader, source: object) -> None:
        monkeypatch.setattr(Reader, "__init__", read)
        read(reader, source)
        separate(recordings[:1], out)
        before.update(contents(out / "first"))

    monkeypatch.setattr(Reader, "__init__", read_late)
    assert statuses(separate(recordings[:1], out)) == ["skipped"]
    assert contents(out / "first") == before


def test_leftovers_beside_finished_results_are_swept_up(
    tmp_path: Path, recordings: list[Path]
) -> None:
    """Of a run that was killed when it was to replace them."""
    out = tmp_path / "out"
    separate(recordings[:1], out)
    before = contents(out / "first")
    (out / "first" / ".source1.wav.1a2b.tmp").write_text("half")
    (out / "first" / ".fca.lock").write_text(platform.node())
    assert statuses(separate(recordings[:1], out)) == ["skipped"]
    assert contents(out / "first") == before


@pytest.mark.parametrize("fault", ["truncated", "NaN"])
def test_damaged_recordings_leave_the_others(
    tmp_path: Path, recordings: list[Path], fault: str
) -> None:
    damaged = recordings[1]
    if fault == "truncated":
        damaged.write_bytes(damaged.read_bytes()[:-1000])
    else:
        content = bytearray(damaged.read_bytes())
        content[-4000:-3996] = np.float32(np.nan).tobytes()
        damaged.write_bytes(content)
    result = separate(recordings, tmp_path / "out", "--block", "0.7")
    assert result.exit_code == 1
    assert statuses(result) == ["done", "failed", "done"]
    assert fault in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first", "third"]


def test_a_channel_that_dies_halfway(tmp_path: Path, two_talker_mixture: Mixture) -> None:
    """Where only one microphone is left, both tracks have half of it, and it is said."""
    mixture = two_talker_mixture.mixture.astype(np.float32)
    mixture[1, 2 * RATE :] = 0
    audio.write(tmp_path / "x.wav", mixture, RATE)
    result = separate([tmp_path / "x.wav"], tmp_path / "out", "--block", "1", "--residual")
    assert result.exit_code == 0
    assert "only channel 0 carries a signal" in result.stderr
    names = ("source1", "source2", "residual")
    parts = [audio.read(tmp_path / "out" / "x" / f"{name}.wav")[0][0] for name in names]
    np.testing.assert_allclose(sum(parts), mixture[0], atol=1e-6)
    tracks = np.stack(parts[:2])
    assert tracks[:, :RATE].any()
    later = slice(3 * RATE, None)
    np.testing.assert_allclose(tracks[:, later], [mixture[0, later] / 2] * 2, atol=1e-7)
