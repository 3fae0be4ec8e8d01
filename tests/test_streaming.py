"""Streams: delay, chunks, sums, silence and faults; and the command that runs on pipes."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from conftest import RATE, MixtureMaker
from toy import complex_normal, random_mixture, random_psd, seeded
from typer.testing import CliRunner, Result

from fca.cli import app
from fca.errors import InputError
from fca.evaluation.metrics import evaluate
from fca.inference.online import OnlineFit, Schedule
from fca.methods import get_method
from fca.spatial.online import OnlineJointlyDiagonal
from fca.streaming import OnlineSeparator

SMALL = {"n_fft": 256, "hop": 64, "block": 3, "window": 0.5, "first": 0.2, "memory": 0.3}


def small(n_channels: int = 2, **options: object) -> OnlineSeparator:
    return OnlineSeparator(RATE, n_channels, 2, **{**SMALL, **options})


def run(separator: OnlineSeparator, mixture: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Sources of a stream that comes in chunks of these sizes, in turn."""
    parts, at, turn = [], 0, 0
    while at < mixture.shape[1]:
        chunk = mixture[:, at : at + sizes[turn % len(sizes)]]
        parts.append(separator.push(chunk))
        assert parts[-1].shape == (separator.n_sources, chunk.shape[1])
        at, turn = at + chunk.shape[1], turn + 1
    return torch.cat([*parts, separator.flush()], dim=-1).numpy()


@pytest.fixture(scope="module")
def mixture(make_mixture: MixtureMaker) -> np.ndarray:
    return make_mixture(2, 2, seconds=1.5).mixture.astype(np.float32)


class TestDelay:
    @pytest.mark.parametrize("hop", [64, 128])
    @pytest.mark.parametrize("block", [1, 3])
    def test_sources_sum_to_the_mixture_one_latency_later(
        self, mixture: np.ndarray, hop: int, block: int
    ) -> None:
        separator = small(hop=hop, block=block, reference_channel=1)
        assert separator.latency == 256 + (block - 1) * hop
        sources = run(separator, mixture[:, :9000], [1000])
        assert sources.shape == (2, 9000 + separator.latency)
        np.testing.assert_array_equal(sources[:, : separator.latency], 0)
        total = sources.sum(0)[separator.latency :]
        np.testing.assert_allclose(total, mixture[1, :9000], atol=2e-6)

    def test_chunks_make_no_difference(self, mixture: np.ndarray) -> None:
        whole = run(small(), mixture, [mixture.shape[1]])
        for sizes in ([160], [1, 777, 5000]):
            np.testing.assert_array_equal(run(small(), mixture, sizes), whole)

    def test_after_flush_a_new_stream_begins(self, mixture: np.ndarray) -> None:
        separator = small()
        first = run(separator, mixture[:, :8000], [500])
        np.testing.assert_array_equal(run(separator, mixture[:, :8000], [500]), first)


def test_separates_better_than_the_mixture(make_mixture: MixtureMaker) -> None:
    mix = make_mixture(2, 3, seconds=4.0, snr_db=30)
    separator = OnlineSeparator(RATE, 3, 2, n_fft=512, block=8, window=2.0, first=1.0)
    sources = run(separator, mix.mixture, [4000])[:, separator.latency :]
    late = slice(2 * RATE, 4 * RATE)
    scores = evaluate(mix.images[:, 0, late], sources[:, late], RATE, mixture=mix.mixture[0, late])
    assert scores.improvement["sdr"].mean() > 3


class TestCarried:
    """The statistics of a window and its past against those of all frames at once."""

    def test_without_decay_the_past_is_as_good_as_the_frames(self) -> None:
        mixture = random_mixture(4, 3, 30)
        demixing = complex_normal((1, 4, 3, 3), seeded(1), torch.float64)
        gains, psd = random_psd((1, 1, 2, 3), seeded(2)), random_psd((1, 4, 2, 30), seeded(3))
        whole = OnlineJointlyDiagonal(mixture, demixing, gains)
        past = None
        for at in (0, 8):
            part = OnlineJointlyDiagonal(mixture[..., at:], demixing, gains, past=past)
            past = part.leave(psd[..., at:], 8, keep=1.0)
        assert past is not None
        alike = OnlineJointlyDiagonal(mixture[..., :16], demixing, gains)
        torch.testing.assert_close(
            past.covariance, alike.leave(psd[..., :16], 16, keep=1.0).covariance
        )
        window = OnlineJointlyDiagonal(mixture[..., 16:], demixing, gains, past=past)
        whole.update(psd)
        window.update(psd[..., 16:])
        # The weights of Q's covariances depend on the new gains, which the past has not seen.
        torch.testing.assert_close(window.gains, whole.gains)

    def test_decay_forgets(self) -> None:
        mixture = random_mixture(2, 2, 20)
        demixing, gains = (
            torch.eye(2, dtype=mixture.dtype).expand(1, 2, 2, 2),
            torch.ones(1, 1, 2, 2),
        )
        model = OnlineJointlyDiagonal(mixture, demixing, gains.double())
        psd = random_psd((1, 2, 2, 20), seeded(0))
        past = model.leave(psd, 10, keep=0.5)
        again = OnlineJointlyDiagonal(mixture, demixing, gains.double(), past=past)
        assert again.leave(psd, 10, keep=0.5).frames == 15


class TestFaults:
    def test_silence_before_between_and_after(self, mixture: np.ndarray) -> None:
        quiet = np.zeros((2, 4000), np.float32)
        signal = np.concatenate([quiet, mixture[:, :10000], quiet, mixture[:, 10000:], quiet], 1)
        separator = small()
        sources = run(separator, signal, [999])
        np.testing.assert_allclose(sources.sum(0)[separator.latency :], signal[0], atol=2e-6)

    def test_a_channel_that_dies_halfway(self, mixture: np.ndarray) -> None:
        signal = mixture.copy()
        signal[1, 12000:] = 0
        separator = small()
        sources = run(separator, signal, [999])
        assert np.isfinite(sources).all()
        np.testing.assert_allclose(sources.sum(0)[separator.latency :], signal[0], atol=1e-4)

    def test_a_bad_chunk_is_refused_and_the_stream_goes_on(self, mixture: np.ndarray) -> None:
        separator, other = small(), small()
        bad = mixture[:, :500].copy()
        bad[0, 7] = np.nan
        parts = [separator.push(mixture[:, :5000])]
        with pytest.raises(InputError, match="NaN or infinite"):
            separator.push(bad)
        with pytest.raises(InputError, match=r"expected chunks"):
            separator.push(mixture[0])
        parts.append(separator.push(mixture[:, 5000:9000]))
        torch.testing.assert_close(torch.cat(parts, -1), other.push(mixture[:, :9000]))

    def test_views_that_run_backwards_are_taken(self, mixture: np.ndarray) -> None:
        expected = small().push(mixture[:, ::-1].copy())
        assert torch.equal(small().push(mixture[:, ::-1]), expected)

    def test_a_fit_that_diverges_is_made_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        method = get_method("fastmnmf2").with_options(source="sliding nmf", n_bases=2, warmup=1)
        fit = OnlineFit(method, 2, Schedule(10, 20, 20.0, n_start=1))
        blocks = random_mixture(5, 2, 40)[0].split(5, dim=-1)
        fit.push(blocks[0])
        assert not torch.equal(*fit.push(blocks[1]))
        monkeypatch.setattr(OnlineFit, "_go_on", lambda *_: fail())
        assert torch.equal(*fit.push(blocks[2]))
        fit.push(blocks[3])
        assert not torch.equal(*fit.push(blocks[4]))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"n_channels": 1}, "2 to 16 channels"),
            ({"reference_channel": 4}, "reference channel 4"),
            ({"reference_channel": 0.5}, "reference_channel must be a whole number, got 0.5"),
            ({"hop": 100, "n_fft": 256}, "must divide"),
            ({"block": 0}, "block must be at least 1, got 0"),
            ({"block": 1.5}, "block must be a whole number, got 1.5"),
            ({"n_sources": 0}, "n_sources must be at least 1, got 0"),
            ({"n_channels": 2.5}, "n_channels must be a whole number, got 2.5"),
            ({"sample_rate": 999}, "the sample rate must be 1000 Hz or more: 999"),
            ({"window": np.inf}, "window must be a positive number of seconds, got inf"),
            ({"n_iter": 0}, "n_iter must be at least 1, got 0"),
            ({"n_fft": "512"}, "n_fft must be a whole number, got '512'"),
            ({"seed": 2**70}, "the seed is too large"),
            ({"method": None}, "unknown method None"),
            ({"source": "free"}, "source cannot be changed"),
            ({"first": 5.0}, "first must be above 0 and at most window=4, got 5.0"),
            ({"memory": 0}, "memory must be positive, got 0"),
            ({"method": "mnmf"}, "cannot be fitted to a stream"),
            ({"method": "magic"}, "unknown method"),
            ({"colour": 1}, "no option 'colour'"),
            ({"update": "em"}, "unknown update 'em'"),
            ({"start": "magic"}, "unknown start 'magic'"),
            ({"start": "network"}, "without a network"),
            ({"n_fft": 0}, "n_fft must be even"),
            ({"n_bases": 0}, "n_bases must be at least 1"),
            ({"warmup": -1}, "warmup cannot be negative"),
            ({"n_sources": 3, "start": "noise floor"}, "is for two sources, not 3"),
            ({"spatial": "rank-1"}, "has no rank-1 model"),
            ({"fits": "sources + 1"}, "fits cannot be changed"),
            (
                {"memmory": 1},
                "no option 'memmory'; did you mean 'memory'[?] it has sample_rate, .*",
            ),
            ({"dof": 5.0}, "dof cannot be changed"),
            ({"gate": True}, "gate cannot be changed"),
            ({"free_steps": 5}, "free_steps cannot be changed"),
            ({"spatial_steps": 2}, "spatial_steps cannot be changed"),
            ({"gain_update": "me"}, "gain_update cannot be changed"),
            ({"dtype": torch.float16}, "dtype must be torch.float32"),
            ({"reverberation": "ar"}, "without a model of the reverberation"),
        ],
    )
    def test_options_that_make_no_sense(self, options: dict, message: str) -> None:
        with pytest.raises(InputError, match=message):
            OnlineSeparator(**{"sample_rate": RATE, "n_channels": 4, **options})

    @pytest.mark.parametrize(
        "options",
        [
            {"spatial": "jointly diagonal", "update": "iss", "n_bases": 2, "warmup": 1},
            {"start": "rank-1", "fast_start": True, "walkers": True},
        ],
    )
    def test_options_that_pass(self, mixture: np.ndarray, options: dict) -> None:
        sources = small(**options).push(mixture)
        assert bool(torch.isfinite(sources).all())
        assert not torch.equal(sources, small().push(mixture))


def test_whole_numbers_of_any_type_are_integers(mixture: np.ndarray) -> None:
    sizes = {"n_fft": 256, "hop": 64, "block": 3, "n_iter": 1, "seed": 0, "n_sources": 2}
    fields = {"sample_rate": RATE, "n_channels": 2, "reference_channel": 1, **sizes}
    seconds = {"window": 0.5, "first": 0.2}
    expected, found = (
        OnlineSeparator(**{name: kind(value) for name, value in fields.items()}, **seconds)
        for kind in (int, np.float64)
    )
    assert torch.equal(found.push(mixture), expected.push(mixture))


def fail() -> None:
    raise InputError("diverged")


def pipe(content: bytes, *options: object) -> Result:
    sizes = ["--window", "512", "--option", "window=0.5", "--option", "first=0.2"]
    arguments = ["stream", "--rate", "16000", "--channels", "2", *sizes, *map(str, options)]
    return CliRunner().invoke(app, arguments, input=content)


class TestCommand:
    @pytest.mark.parametrize(
        ("pcm", "kind", "scale"), [("s16le", "<i2", 32768), ("f32le", "<f4", 1)]
    )
    def test_raw_samples_in_and_out(
        self, mixture: np.ndarray, pcm: str, kind: str, scale: int
    ) -> None:
        signal = np.rint(mixture / np.abs(mixture).max() * 0.5 * scale * 100) / 100
        content = signal.T.astype(kind)
        done = pipe(content.tobytes(), "--format", pcm)
        assert done.exit_code == 0
        assert "latency: 896 samples, 56 ms" in done.stderr
        sources = np.frombuffer(done.stdout_bytes, kind).reshape(-1, 2).astype(float)
        assert len(sources) == len(content) + 896
        # The rounding of two sources.
        np.testing.assert_allclose(
            sources.sum(1)[896:], content[:, 0], atol=1.01 if pcm == "s16le" else 1e-5
        )

    @pytest.mark.parametrize(
        ("tail", "message"),
        [(b"\0\0\0", "ends within a sample: 3 bytes"), (b"\0\0\xc0\x7f" * 2, "NaN")],
    )
    def test_what_came_before_a_fault_is_written(
        self, mixture: np.ndarray, tail: bytes, message: str
    ) -> None:
        signal = mixture[:, :8192].T.astype("<f4").tobytes()
        done = pipe(signal + tail, "--format", "f32le")
        assert done.exit_code == 1
        assert "error: " in done.stderr
        assert message in done.stderr
        assert len(done.stdout_bytes) == len(signal) + 896 * 8

    def test_usage_errors(self) -> None:
        for options in (["--channels", "1"], ["--channels", "2", "-O", "memory=-1"]):
            result = CliRunner().invoke(app, ["stream", "--rate", "16000", *options])
            assert result.exit_code == 2

    def test_integers_read_as_floats_are_refused_without_a_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            done = pipe(b"\1\0\x80\x7f" * 2000, "--format", "f32le")  # a signalling NaN
        assert done.exit_code == 1
        assert "error: the chunk holds NaN" in done.stderr

    @pytest.mark.parametrize(("closed", "name"), [("<&-", "input"), (">&-", "output")])
    def test_closed_pipes_are_errors_of_usage(self, closed: str, name: str) -> None:
        command = f'"$0" -m fca stream -r 16000 -c 4 {closed}'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable], input="", capture_output=True, text=True
        )
        assert done.returncode == 2
        assert f"standard {name} is closed" in done.stderr


def test_integers_are_refused() -> None:
    separator = OnlineSeparator(16000, n_channels=2, n_sources=2)
    with pytest.raises(InputError, match=r"got torch\.int16: divide those of 16 bits by 32768"):
        separator.push(torch.ones(2, 100, dtype=torch.int16))
