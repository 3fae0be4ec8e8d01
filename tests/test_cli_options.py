"""Options NAME=VALUE of the command line: read as what they are, refused before any work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import fca, records, separate
from typer.testing import Result

from fca import audio
from fca.building import SOURCES
from fca.cli.values import enhancer_types, online_types, read_value, separator_types
from fca.enhancer import INFERENCES
from fca.errors import InputError
from fca.methods import METHODS
from fca.streaming import FIXED

WRONG = [
    ("ilrma", "n_bases=abc", "n_bases: a whole number is expected, got 'abc'"),
    ("ilrma", "n_bases=2.5", "n_bases: a whole number"),
    ("ilrma", "n_starts=1.5", "n_starts: a whole number"),
    ("ilrma", "n_sources=abc", "n_sources: a whole number"),
    ("ilrma", "n_sources=2.7", "n_sources: a whole number"),
    ("ilrma", "n_refine=true", "n_refine: a whole number"),
    ("ilrma", "seed=abc", "seed: a whole number"),
    ("ilrma", "seed=99999999999999999999999", "seed: a whole number from 0 to 4294967295"),
    ("ilrma", "free_steps=-1", "free_steps: a whole number from 0"),
    ("ilrma", "reference_channel=abc", "reference_channel: a whole number"),
    ("ilrma", "n_fft=abc", "n_fft: a whole number"),
    ("ilrma", "n_iter=2.5", "n_iter: a whole number"),
    ("ilrma", "dof=abc", "dof: a number is expected"),
    ("ilrma", "dof=nan", "dof: a number is expected"),
    ("ilrma", "gate=maybe", "gate: true or false is expected"),
    ("ilrma", "align=3", "align: true or false"),
    ("ilrma", "dereverberate=no", "dereverberate: true or false"),
    ("fdica", "tied=abc", "tied: true or false"),
    ("deep-fca", "strength=abc", "strength: a number"),
    ("deep-fca", "prior=3", "no model '3'"),
    ("deep-fca", "denoiser=/nope", "denoiser: no such folder: /nope"),
    ("ilrma", "method=3", "unknown method '3'"),
    ("ilrma", "source=magic", "unknown source model 'magic'"),
    ("ilrma", "device=cpu", "device is an option of its own: --device"),
    ("ilrma", "out=x", "out is an option of its own: --out"),
    ("ilrma", "dtype=float64", "dtype: cannot be chosen"),
    ("ilrma", "colour=blue", "no option 'colour'; it has method,"),
    ("ilrma", "n_basis=4", "no option 'n_basis'; did you mean 'n_bases'?"),
    ("ilrma", "build=1", "no option 'build'"),
    ("ilrma", "self=1", "self: cannot be chosen"),
    ("ilrma", "hop=3000", "hop must be from 1 to n_fft / 2"),
    ("ilrma", "options=1", "no option 'options'"),
    ("deep-fca", "rate=-1", "rate must be positive"),
]


def said(result: Result) -> str:
    """What an error of usage says, without the frame around it."""
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(("method", "option", "message"), WRONG)
def test_values_of_other_types_are_refused(
    tmp_path: Path, method: str, option: str, message: str
) -> None:
    result = fca("separate", tmp_path / "x.wav", "-o", tmp_path / "o", "-m", method, "-O", option)
    assert message in said(result)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("n_fft=512", "n_fft: cannot be chosen"),
        ("method=auxiva", "method: cannot be chosen"),
        ("device=cpu", "--device"),
        ("rate=fast", "rate: a number is expected"),
        ("inference=magic", "unknown inference 'magic'"),
    ],
)
@pytest.mark.parametrize("inference", INFERENCES)
def test_of_enhance(tmp_path: Path, inference: str, option: str, message: str) -> None:
    arguments = [tmp_path / "x.wav", "-o", tmp_path / "o", "--inference", inference]
    result = fca("enhance", *arguments, "-O", option)
    assert message in said(result)


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        ("denoise", "has no option 'n_bases'"),
        ("encode", "n_bases: a whole number is expected"),
        ("gradient", "n_bases: a whole number is expected"),
    ],
)
def test_only_factorised_noise_has_bases(tmp_path: Path, inference: str, message: str) -> None:
    arguments = [tmp_path / "x.wav", "-o", tmp_path / "o", "--inference", inference]
    assert message in said(fca("enhance", *arguments, "-O", "n_bases=abc"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["-O", "n_bases=abc"], "n_bases: a whole number is expected"),
        (["-O", "seed=abc"], "seed: a whole number is expected"),
        (["-O", "n_iter=1.5"], "n_iter: a whole number is expected"),
        (["-O", "memory=long"], "memory: a number is expected"),
        (["-O", "source=free"], "source: cannot be chosen"),
        (["-O", "update=nope"], "unknown update 'nope'"),
        (["--window", "0"], "--window"),
        (["-O", "n_fft=0"], "n_fft"),
        (["-O", "n_fft=abc"], "n_fft: a whole number is expected"),
        (["-O", "block=1.5"], "block: a whole number is expected"),
        (["-O", "n_bases=2.5"], "n_bases: a whole number is expected"),
        (["-O", "self=1"], "self: cannot be chosen"),
        (["-O", "n_starts=2"], "no option 'n_starts'"),
        (["-O", "memmory=2"], "no option 'memmory'; did you mean 'memory'?"),
        (["--rate", "16"], "the sample rate must be 1000 Hz or more: 16"),
    ],
)
def test_of_stream(option: list[str], message: str) -> None:
    assert message in said(fca("stream", "-r", 16000, "-c", 2, *option))


def test_a_bug_is_no_error_of_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr("fca.separator.Separator", fail)
    monkeypatch.setattr("fca.streaming.OnlineSeparator", fail)
    assert isinstance(separate(tmp_path / "x.wav", "-o", tmp_path / "o").exception, TypeError)
    assert isinstance(fca("stream", "-r", 16000, "-c", 2).exception, TypeError)


def test_what_is_offered_can_be_chosen(tmp_path: Path) -> None:
    told = said(fca("enhance", tmp_path / "x.wav", "-o", tmp_path / "o", "-O", "foo=1"))
    assert not re.search(r"\b(method|n_sources|device|dtype)\b", told.split("it has")[1])
    told = said(fca("stream", "-r", 16000, "-c", 2, "-O", "foo=1"))
    offered = re.findall(r"\w+", told.split("it has")[1])
    assert {"memory", "n_bases", "start"} <= set(offered)
    assert not {*FIXED, "source", "taps", "dtype"} & set(offered)


def test_flags_out_of_range(tmp_path: Path) -> None:
    many = fca("separate", tmp_path / "x.wav", "-o", tmp_path, "--seed", "9" * 23)
    assert "--seed" in said(many)
    assert "--port" in said(fca("demo", "--port", 99999))


def test_a_folder_of_weights_that_is_not_there(tmp_path: Path) -> None:
    options = ["--weights", "/nope", "-m", "neural-fca"]
    result = fca("separate", tmp_path / "x.wav", "-o", tmp_path, *options)
    assert "weights: no such folder: /nope" in said(result)


@pytest.mark.parametrize(("text", "value"), [("False", False), ("false", False), ("TRUE", True)])
def test_truth_in_any_case(wav: Path, out: Path, text: str, value: bool) -> None:
    result = separate(wav, "-o", out, "--json", "-O", f"align={text}")
    assert records(result)[0]["settings"]["align"] is value


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("1e-3", float | None, 1e-3),
        ("None", float | None, None),
        ("null", str | None, None),
        ("none", str, "none"),
        ("3", str, "3"),
    ],
)
def test_texts_are_read_by_type(text: str, kind: object, value: object) -> None:
    found = read_value("x", text, kind)
    assert found == value
    assert type(found) is type(value)


def test_every_method_and_source_model_tells_its_types() -> None:
    for row in METHODS.values():
        types = separator_types({"method": row.name})
        assert set(row.options) <= set(types)
    for source in SOURCES:
        assert "n_iter" in separator_types({"source": source})
    assert enhancer_types({})["strength"] is float
    assert enhancer_types({"inference": "gradient"})["n_bases"] is int
    assert online_types({})["memory"] is float
    with pytest.raises(InputError, match="unknown method"):
        separator_types({"method": "magic"})


class TestStreams:
    @pytest.mark.parametrize("suffix", [".wav", ".flac"])
    def test_an_audio_file_is_no_raw_stream(self, tmp_path: Path, suffix: str) -> None:
        audio.write(tmp_path / f"x{suffix}", np.zeros((2, 16000)), 16000)
        done = subprocess.run(
            [sys.executable, "-m", "fca", "stream", "-r", "16000", "-c", "2"],
            input=(tmp_path / f"x{suffix}").read_bytes(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stdout == b""
        assert b"the input is an audio file, raw samples are expected" in done.stderr
        assert b"Traceback" not in done.stderr

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
    @pytest.mark.parametrize("command", [["methods"], ["stream", "-r", "16000", "-c", "2"]])
    def test_nowhere_to_write(self, command: list[str]) -> None:
        samples = np.zeros(2 * 16000, "<i2").tobytes()
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "fca", *command],
                input=samples,
                stdout=full,
                stderr=subprocess.PIPE,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr.decode().splitlines()[-1] == "error: No space left on device"
        assert b"Traceback" not in done.stderr
