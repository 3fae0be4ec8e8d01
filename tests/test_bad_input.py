"""What cannot be separated is refused in one line; what is merely odd has a defined result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MixtureMaker
from toy import CLASSICAL

import fca
from fca import audio
from fca.inference.start import STARTS, Start

RATE = 16000
FAST: dict[str, Any] = {"n_fft": 512, "n_iter": 5}
MNMF: dict[str, Any] = {"method": "fastmnmf2", **FAST}
METHODS_TRIED = ("auxiva", "overiva", "fastmnmf2", "mnmf", "fca", "cacgmm")
"""One method of every kind."""
each_kind = pytest.mark.parametrize("method", METHODS_TRIED)


@pytest.fixture(scope="module")
def short(make_mixture: MixtureMaker) -> np.ndarray:
    """Two talkers, three microphones, 1 s, 30 dB above noise."""
    return make_mixture(2, 3, seconds=1.0, snr_db=30).mixture


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def with_nan(value: float) -> np.ndarray:
    wave = noise(2, 8000)
    wave[1, 77] = value
    return wave


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (noise(8000), r"expected \(channels, samples\) or .*, got \(8000,\)"),
        (noise(1, 1, 2, 8000), r"expected \(channels, samples\)"),
        (noise(1, 8000), "at least two microphones"),
        (noise(0, 8000), r"expected \(channels, samples\)"),
        (noise(17, 8000), "17 channels, at most 16 are supported$"),
        (noise(8000, 2), r"8000 channels, at most 16 .*arrays are \(channels, samples\)"),
        (with_nan(float("nan")), "NaN or infinite samples"),
        (with_nan(float("-inf")), "NaN or infinite samples"),
        (np.zeros((2, 8000)), "the recording is silent"),
        (np.full((2, 8000), 0.25), "the recording is silent"),
        (noise(2, 511), "too short: 0.032 s, one window is 0.032 s"),
        (noise(2, 1), "too short"),
        (noise(2, 0), r"expected \(channels, samples\)"),
        (noise(2, 8000) * [[1], [0]], "only channel 0 carries a signal"),
        ((noise(2, 8000) * 1000).astype(np.int16), "expected floating-point samples, got .*int16"),
        (noise(2, 8000) + 0j, "expected floating-point samples, got .*complex128"),
        (
            noise(2, 3, 8000) * np.array([[1, 1, 1], [1, 0, 1]])[..., None],
            "different dead channels cannot share a batch",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(np.shape(value)),
)
def test_impossible_recordings_are_refused(mixture: np.ndarray, message: str) -> None:
    with pytest.raises(fca.InputError, match=message) as error:
        fca.separate(mixture, RATE, **MNMF)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "mixture",
    [[[0.0, "a"]], object(), None, "absent.wav"],
    ids=["text", "object", "None", "absent"],
)
def test_things_that_are_no_recordings_are_refused(mixture: Any) -> None:
    with pytest.raises(fca.InputError) as error:
        fca.separate(mixture, RATE, **MNMF)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ica"}, "unknown method 'ica'; choose from fdica"),
        ({"n_basis": 4}, "no option 'n_basis'; did you mean 'n_bases'[?] it has .*n_bases"),
        ({"start": "magic"}, "unknown start 'magic'; choose from identity"),
        ({"update": "em"}, "unknown update 'em'"),
        ({"device": "tpu9"}, "device 'tpu9' is not available here"),
        ({"dtype": torch.float16}, "dtype must be torch.float32 or torch.float64"),
        ({"method": "auxiva", "n_sources": 4}, "4 sources, 3 microphones"),
        ({"method": "overiva", "n_sources": 4}, "4 sources, 3 microphones"),
        ({"n_sources": 0}, "n_sources must be at least 1, got 0"),
        ({"n_sources": -1}, "n_sources must be at least 1, got -1"),
        ({"n_starts": 0}, "n_starts must be at least 1"),
        ({"n_iter": 0}, "at least one iteration is needed"),
        ({"n_bases": 0}, "n_bases must be at least 1, got 0"),
        ({"n_bases": 2.5}, "n_bases must be a whole number, got 2.5"),
        ({"reference_channel": 3}, "reference channel 3: the recording has channels 0 to 2"),
        ({"reference_channel": -1}, "reference channel -1"),
        ({"n_fft": 511}, "n_fft must be even and at least 4, got 511"),
        ({"n_fft": 2, "hop": 1}, "n_fft must be even and at least 4, got 2"),
        ({"hop": 300}, "hop must be from 1 to n_fft / 2"),
        ({"sample_rate": -8000}, "the sample rate must be 1000 Hz or more: -8000"),
        ({"sample_rate": 16}, "the sample rate must be 1000 Hz or more: 16"),
        ({"sample_rate": True}, "sample_rate must be a whole number, got True"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(
    short: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(fca.InputError, match=message) as error:
        fca.separate(short, **{"sample_rate": RATE, **MNMF, **options})
    assert "\n" not in str(error.value)


def test_what_cannot_be_squared_is_refused(short: np.ndarray) -> None:
    with pytest.raises(fca.InputError, match=r"samples as large as 3e\+19 cannot be squared"):
        fca.separate(short / abs(short).max() * np.float32(3e19), RATE, **MNMF)


def assert_separated(result: fca.Separation, mixture: np.ndarray, n_sources: int = 2) -> None:
    assert result.sources.shape == (n_sources, mixture.shape[1])
    assert torch.isfinite(result.sources).all()
    assert torch.isfinite(result.images()).all()
    total = (result.sources.sum(0) + result.residual).numpy()
    reference = mixture[result.reference_channel]
    np.testing.assert_allclose(total, reference, atol=1e-5 * np.abs(reference).max())
    assert result.sources.norm() > 0


@each_kind
def test_a_dead_channel_is_left_out(short: np.ndarray, method: str) -> None:
    broken = short * [[1], [0], [1]]
    result = fca.separate(broken, RATE, method=method, **FAST)
    assert result.remarks == ["channel 1 carries no signal"]
    assert_separated(result, broken)
    assert torch.all(result.images()[:, 1] == 0)
    alone = fca.separate(short[[0, 2]], RATE, method=method, **FAST)
    torch.testing.assert_close(result.sources, alone.sources)


def test_a_dead_reference_is_named(short: np.ndarray) -> None:
    with pytest.raises(fca.InputError, match="channel 1 carries no signal; choose one of 0, 2"):
        fca.separate(short * [[1], [0], [1]], RATE, reference_channel=1, **MNMF)


@each_kind
def test_duplicated_channels_are_harmless(short: np.ndarray, method: str) -> None:
    doubled = short[[0, 1, 1]] * [[1], [1], [-0.3]]
    result = fca.separate(doubled, RATE, method=method, **FAST)
    assert_separated(result, doubled)
    assert result.remarks == ["channel 2 is a copy of channel 1"]


def test_one_signal_at_all_microphones_is_refused(short: np.ndarray) -> None:
    """It cannot be separated, whatever a model makes of it; enhancement needs one channel only."""
    same = short[[0, 0]] * [[1.0], [0.5]]
    with pytest.raises(fca.InputError, match=r"^all channels carry the same signal, .* enhance$"):
        fca.separate(same, RATE, **MNMF)
    assert fca.enhance(same, RATE).remarks[0].startswith("all channels carry the same signal")


@each_kind
def test_an_offset_is_left_to_the_residual(short: np.ndarray, method: str) -> None:
    offset = np.array([[3.0], [-2.0], [0.5]])
    plain = fca.separate(short, RATE, method=method, **FAST)
    result = fca.separate(short + offset, RATE, method=method, **FAST)
    assert_separated(result, short + offset)
    level = plain.sources.square().mean().sqrt()
    assert (result.sources - plain.sources).square().mean().sqrt() < 0.1 * level
    assert abs(float(result.residual.mean()) - 3) < 0.01


@each_kind
@pytest.mark.parametrize("gain", [1e-6, 1e6])
def test_extreme_gains_are_harmless(short: np.ndarray, method: str, gain: float) -> None:
    loud = (gain * short).astype(np.float32)
    assert_separated(fca.separate(loud, RATE, method=method, **FAST), loud)


@pytest.mark.parametrize("method", CLASSICAL)
def test_digital_silence_inside_a_recording_is_harmless(short: np.ndarray, method: str) -> None:
    """Two thirds of the frames are zeros, before, between and after the talkers."""
    gap = np.zeros_like(short)
    padded = np.concatenate([gap, short[:, :8000], gap, short[:, 8000:]], axis=1)
    result = fca.separate(padded, RATE, method=method, n_fft=512)
    assert_separated(result, padded)
    # Nothing sounds where nothing sounded, a window apart from the edges, but for the mean.
    assert result.sources[:, : 16000 - 512].abs().max() < 1e-3 * np.abs(short).max()
    # No talker is lost: the weaker one is within 20 dB of the louder.
    power = result.sources.square().mean(-1)
    assert power[1] > 0.01 * power[0]


@each_kind
def test_missing_frequencies_are_harmless(short: np.ndarray, method: str) -> None:
    """An 8 kHz recording brought to 16 kHz has nothing in half of its bins."""
    spectrum = np.fft.rfft(short)
    spectrum[:, spectrum.shape[1] // 2 :] = 0
    band_limited = np.fft.irfft(spectrum, short.shape[1])
    assert_separated(fca.separate(band_limited, RATE, method=method, **FAST), band_limited)


@each_kind
def test_a_single_click_is_harmless(method: str) -> None:
    click = np.zeros((2, 8000))
    click[0, 4000], click[1, 4001] = 1.0, 0.5
    assert_separated(fca.separate(click, RATE, method=method, **FAST), click)


@pytest.mark.parametrize("n_channels", [2, 8, 16])
def test_arrays_of_two_to_sixteen_channels(n_channels: int) -> None:
    wave = noise(n_channels, 4000)
    result = fca.separate(wave, RATE, method="fastmnmf2", n_fft=256, n_iter=2)
    assert_separated(result, wave)


def test_more_sources_than_microphones(short: np.ndarray) -> None:
    for method in ("fastmnmf2", "fca", "cacgmm"):
        result = fca.separate(short[:2], RATE, method=method, n_sources=4, **FAST)
        assert_separated(result, short[:2], n_sources=4)


def test_one_window_is_enough() -> None:
    wave = noise(2, 512)
    assert_separated(fca.separate(wave, RATE, method="fastmnmf2", **FAST), wave)


def test_arrays_lists_and_tensors_of_any_layout(short: np.ndarray) -> None:
    expected = fca.separate(short, RATE, **MNMF).sources
    layouts: list[Callable[[np.ndarray], Any]] = [
        np.asfortranarray,
        lambda wave: wave.tolist(),
        lambda wave: torch.from_numpy(wave),
        lambda wave: torch.from_numpy(np.ascontiguousarray(wave.T)).T,
    ]
    for layout in layouts:
        torch.testing.assert_close(fca.separate(layout(short), RATE, **MNMF).sources, expected)


def test_the_mixture_is_not_written_to(short: np.ndarray) -> None:
    before = short.copy()
    result = fca.separate(short, RATE, **MNMF)
    result.sources.zero_()
    assert np.array_equal(short, before)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    path.write_bytes(b"no audio")
    with pytest.raises(fca.InputError) as error:
        fca.separate(path, **MNMF)
    assert "\n" not in str(error.value)


def test_matrices_that_cannot_be_inverted_get_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def singular(*_: object) -> Start:
        raise torch.linalg.LinAlgError("linalg.solve: the input matrix is singular")

    monkeypatch.setitem(STARTS, "identity", singular)
    with pytest.raises(fca.InputError, match="singular matrices: the model diverged"):
        fca.separate(torch.randn(2, 8000), 16000, method="auxiva", n_fft=512)


@pytest.mark.parametrize("method", ["overiva", "fastmnmf2", "mnmf"])
def test_a_copy_of_the_first_channel_is_borne(method: str) -> None:
    waves = torch.randn(4, 16000, generator=torch.Generator().manual_seed(0))
    waves[1] = waves[0]
    options = {} if method == "overiva" else {"start": "clustering"}
    result = fca.separate(waves, 16000, method=method, n_fft=512, n_iter=5, **options)
    assert torch.isfinite(result.sources).all()
    assert float(result.sources.abs().max()) < 3 * float(waves.abs().max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_sources": "auto"},
            r"got 'auto': talkers are counted by .*BlockSeparator\(.*count=True",
        ),
        ({"n_sources": "2"}, "n_sources must be a whole number, got '2'$"),
        ({"n_source": 2}, "no option 'n_source'; did you mean 'n_sources'[?] it has method, n_"),
        ({"n_sources": None}, "n_sources must be a whole number, got None"),
        ({"n_sources": 17}, "n_sources=17: at most 16"),
        ({"n_iter": "3"}, "n_iter must be a whole number, got '3'"),
        ({"n_iter": 2.5}, "n_iter must be a whole number, got 2.5"),
        ({"seed": None}, "seed must be a whole number, got None"),
        ({"n_refine": "many"}, "n_refine must be a whole number, got 'many'"),
        ({"method": None}, "unknown method None; choose from fdica"),
        ({"reference_channel": 0.5}, "reference_channel must be a whole number, got 0.5"),
        ({"n_fft": "512"}, "n_fft must be a whole number, got '512'"),
        ({"hop": 100.5}, "hop must be a whole number, got 100.5"),
        ({"spatial_steps": 1.5}, "spatial_steps must be a whole number, got 1.5"),
    ],
)
def test_numbers_that_are_none_get_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(fca.InputError, match=message):
        fca.Separator(**{"method": "auxiva", **options})


def test_whole_numbers_of_any_type_are_integers(short: np.ndarray) -> None:
    options = {**FAST, "n_sources": 2, "hop": 128, "seed": 0, "n_bases": 2, "warmup": 2}
    options |= {"reference_channel": 1, "spatial_steps": 1, "n_starts": 1, "n_refine": 0}
    expected = fca.separate(short, method="fastmnmf2", **options).sources
    for kind in (float, np.float64, np.int64):
        same = {name: kind(value) for name, value in options.items()}
        assert torch.equal(fca.separate(short, method="fastmnmf2", **same).sources, expected)
    refined = fca.Separator("deep-fca-fast", n_refine=2.0)  # type: ignore[arg-type]
    assert type(refined.n_refine) is int


def test_one_file_per_microphone_is_a_list(short: np.ndarray, tmp_path: Path) -> None:
    paths = [tmp_path / f"{channel}.wav" for channel in range(3)]
    for path, channel in zip(paths, short, strict=True):
        audio.write(path, channel.astype(np.float32), RATE)
    listed = fca.separate(paths, method="auxiva", **FAST)
    whole = fca.separate(short.astype(np.float32), RATE, method="auxiva", **FAST)
    torch.testing.assert_close(listed.sources, whole.sources)
    with pytest.raises(fca.InputError, match=r"3\.wav.*no such file"):
        fca.separate([*paths, tmp_path / "3.wav"], method="auxiva")
