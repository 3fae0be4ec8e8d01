"""Audio files: what goes out comes back, and bad files give one clear line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fca import audio
from fca.errors import InputError
from fca.pieces import Reader, Writer

RATE = 16000


@pytest.fixture
def noise() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((3, 4000)).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path, noise: np.ndarray) -> Path:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise.T, RATE, subtype="PCM_16")
    return path


def mono_files(folder: Path, waveforms: list[np.ndarray], rates: list[int]) -> list[Path]:
    paths = [folder / f"{k}.wav" for k in range(len(waveforms))]
    for path, waveform, rate in zip(paths, waveforms, rates, strict=True):
        soundfile.write(path, waveform, rate, subtype="FLOAT")
    return paths


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may become longer, as if the disk were full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("suffix", "step"), [(".wav", 0.0), (".flac", 2.0**-23)])
def test_what_is_written_is_read_back(
    tmp_path: Path, noise: np.ndarray, suffix: str, step: float
) -> None:
    audio.write(tmp_path / f"x{suffix}", noise, RATE)
    waveform, rate = audio.read(tmp_path / f"x{suffix}")
    assert rate == RATE
    assert waveform.shape == noise.shape
    assert waveform.dtype == np.float32
    assert np.abs(waveform - noise).max() <= step


def test_float_wav_keeps_samples_beyond_full_scale(tmp_path: Path, noise: np.ndarray) -> None:
    audio.write(tmp_path / "loud.wav", 100 * noise, RATE)
    np.testing.assert_array_equal(audio.read(tmp_path / "loud.wav")[0], 100 * noise)


@pytest.mark.parametrize("kind", ["at once", "wav", "flac", "wav16"])
def test_names_that_are_not_utf_8(tmp_path: Path, noise: np.ndarray, kind: str) -> None:
    folder = tmp_path / os.fsdecode(b"f\xfe")
    path = folder / os.fsdecode(b"a\xff.flac" if kind == "flac" else b"a\xff.wav")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system has no such names")
    if kind == "at once":
        audio.write(path, noise, RATE)
    else:
        with Writer(path, RATE, *noise.shape, pcm16=kind == "wav16") as writer:
            writer.write(0, noise)
    assert audio.read(path)[0].shape == noise.shape
    assert Reader(path).n_samples == noise.shape[1]
    with pytest.raises(InputError, match="f%FE/b%FF: no such file"):
        audio.read(folder / os.fsdecode(b"b\xff"))


@pytest.mark.parametrize("waveform", [np.full((2, 10), 1.5), np.zeros((9, 10))])
def test_flac_refuses_what_it_cannot_hold(tmp_path: Path, waveform: np.ndarray) -> None:
    assert not audio.fits_flac(waveform)
    with pytest.raises(InputError, match=r"write \.wav"):
        audio.write(tmp_path / "x.flac", waveform, RATE)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_failed_write(tmp_path: Path, noise: np.ndarray) -> None:
    with pytest.raises(InputError, match="NaN"):
        audio.write(tmp_path / "x.wav", noise * np.nan, RATE)
    with pytest.raises(InputError, match=r"\.wav or \.flac"):
        audio.write(tmp_path / "x.mp3", noise, RATE)
    with pytest.raises(OSError, match="cannot be written"):
        audio.write(tmp_path / "no such folder" / "x.wav", noise, RATE)
    assert list(tmp_path.iterdir()) == []


def test_one_file_per_channel_equals_one_file(tmp_path: Path, noise: np.ndarray) -> None:
    waveform, rate = audio.read(mono_files(tmp_path, list(noise), [RATE] * 3))
    assert rate == RATE
    np.testing.assert_array_equal(waveform, noise)


@pytest.mark.parametrize(
    ("lengths", "rates", "message"),
    [
        ((4000, 2399), (RATE, RATE), "4000 samples, but .* has 2399"),
        ((4000, 4000), (RATE, 8000), "8000 Hz, but .* has 16000 Hz"),
        ((4000, 2000), (RATE, 8000), "8000 Hz, but .* has 16000 Hz"),
    ],
)
def test_files_of_one_recording_must_agree(
    tmp_path: Path,
    noise: np.ndarray,
    lengths: tuple[int, int],
    rates: tuple[int, int],
    message: str,
) -> None:
    waveforms = [channel[:n] for channel, n in zip(noise, lengths, strict=False)]
    with pytest.raises(InputError, match=message):
        audio.read(mono_files(tmp_path, waveforms, list(rates)))


def test_files_that_are_a_little_longer_are_cut(tmp_path: Path, noise: np.ndarray) -> None:
    waveforms = [noise[0], noise[1, :2400], noise[2, :3000]]
    paths = mono_files(tmp_path, waveforms, [RATE] * 3)
    np.testing.assert_array_equal(audio.read(paths)[0], noise[:, :2400])
    reader = Reader(paths)
    assert (reader.n_channels, reader.n_samples) == (3, 2400)
    assert reader.remarks == ["cut to the shortest file, by up to 1600 samples"]
    pieces = list(reader.pieces([(0, 1000), (1000, 2400)]))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), noise[:, :2400])


def test_files_of_one_recording_have_one_channel_each(wav: Path) -> None:
    with pytest.raises(InputError, match="3 channels where one per file"):
        audio.read([wav, wav])


def test_a_recording_needs_a_file() -> None:
    with pytest.raises(InputError, match="at least one file"):
        audio.read([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"this is not audio\n" * 100, "cannot be read as audio"),
        (None, "no such file"),
    ],
)
def test_files_that_are_not_audio(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        audio.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a file"):
        audio.read(tmp_path)


def test_a_file_without_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.zeros((0, 2)), RATE)
    with pytest.raises(InputError, match="holds no samples"):
        audio.read(tmp_path / "x.wav")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite(tmp_path: Path, noise: np.ndarray, bad: float) -> None:
    noise[1, 17] = bad
    soundfile.write(tmp_path / "x.wav", noise.T, RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="NaN or infinite"):
        audio.read(tmp_path / "x.wav")


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000])
def test_resampling_there_and_back_keeps_a_tone(rate: int) -> None:
    time = np.arange(RATE + 1) / RATE
    tone = np.stack([np.sin(2 * np.pi * f * time) for f in (440, 1000)]).astype(np.float32)
    there = audio.resample(tone, RATE, rate)
    back = audio.resample(there, rate, RATE)[:, : tone.shape[1]]
    assert there.shape == (2, -(-tone.shape[1] * rate // RATE))
    # Away from the ends, where the filter sees the tone begin and stop; -80 dB.
    assert np.abs(back - tone)[:, 500:-500].max() < 1e-4


def test_resampling_keeps_leading_dimensions(noise: np.ndarray) -> None:
    assert audio.resample(noise[None], RATE, RATE).shape == (1, 3, 4000)
    assert audio.resample(noise[None], RATE, 8000).shape == (1, 3, 2000)
    with pytest.raises(InputError, match="must be positive"):
        audio.resample(noise, RATE, 0)


class TestPieces:
    """Reading and writing a recording piece by piece."""

    SPANS = ((0, 1000), (700, 1700), (1700, 1800), (3000, 4000))

    @pytest.mark.parametrize("files", ["one", "one per channel"])
    def test_pieces_are_parts_of_the_whole(
        self, tmp_path: Path, noise: np.ndarray, files: str
    ) -> None:
        audio.write(tmp_path / "x.flac", noise, RATE)
        channels = mono_files(tmp_path, list(noise), [RATE] * 3)
        source = channels if files == "one per channel" else tmp_path / "x.flac"
        reader, (whole, _) = Reader(source), audio.read(source)
        assert (reader.n_channels, reader.n_samples, reader.sample_rate) == (3, 4000, RATE)
        for (start, stop), piece in zip(self.SPANS, reader.pieces(self.SPANS), strict=True):
            np.testing.assert_array_equal(piece, whole[:, start:stop])

    def test_what_is_wrong_anywhere_is_found_first(self, tmp_path: Path, noise: np.ndarray) -> None:
        noise[1, -1] = np.nan
        soundfile.write(tmp_path / "x.wav", noise.T, RATE, subtype="FLOAT")
        with pytest.raises(InputError, match="NaN or infinite"):
            Reader(tmp_path / "x.wav")
        paths = mono_files(tmp_path, [noise[0], noise[0, 2000:]], [RATE] * 2)
        with pytest.raises(InputError, match="2000"):
            Reader(paths)

    @pytest.mark.parametrize(
        ("gain", "suffix", "written"), [(1, "wav", "wav"), (1, "flac", "flac"), (9, "flac", "wav")]
    )
    def test_written_pieces_are_one_file(
        self, tmp_path: Path, noise: np.ndarray, gain: float, suffix: str, written: str
    ) -> None:
        with Writer(tmp_path / f"x.{suffix}", RATE, 3, 4000) as writer:
            for start, stop in ((500, 1500), (1500, 1700), (3000, 3500)):
                writer.write(start, gain * noise[:, start:stop])
            assert not (tmp_path / f"x.{suffix}").exists()
        assert [path.name for path in tmp_path.iterdir()] == [f"x.{written}"]
        assert writer.path == tmp_path / f"x.{written}"
        noise[:, :500], noise[:, 1700:3000], noise[:, 3500:] = 0, 0, 0
        step = 2.0**-23 if written == "flac" else 0.0
        assert np.abs(audio.read(writer.path)[0] - gain * noise).max() <= step

    @pytest.mark.parametrize(("gain", "floats"), [(0.2, False), (20.0, True)])
    def test_16_bits_unless_they_clip(
        self, tmp_path: Path, noise: np.ndarray, gain: float, floats: bool
    ) -> None:
        wave = gain * noise / np.abs(noise).max()
        with Writer(tmp_path / "x.wav", RATE, *noise.shape, pcm16=True) as writer:
            writer.write(0, wave)
        assert [path.name for path in tmp_path.iterdir()] == ["x.wav"]
        assert writer.floats == floats
        assert soundfile.info(writer.path).subtype == ("FLOAT" if floats else "PCM_16")
        limit = 1e-6 if floats else 2.0**-15
        assert np.abs(audio.read(writer.path)[0] - wave).max() <= limit

    def test_nothing_is_left_of_an_interrupted_file(
        self, tmp_path: Path, noise: np.ndarray
    ) -> None:
        with (
            pytest.raises(InputError, match="NaN"),
            Writer(tmp_path / "x.wav", RATE, 3, 4000) as writer,
        ):
            writer.write(0, noise)
            writer.write(0, noise * np.nan)
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_is_told(self, tmp_path: Path, noise: np.ndarray) -> None:
        with (
            pytest.raises(OSError, match=r"x\.wav: cannot be written"),
            Writer(tmp_path / "no such folder" / "x.wav", RATE, 3, 4000),
        ):
            raise AssertionError
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["x.wav", "x.flac"])
    @pytest.mark.parametrize("in_pieces", [False, True])
    def test_why_a_file_cannot_be_written_is_told(
        self, tmp_path: Path, noise: np.ndarray, name: str, in_pieces: bool
    ) -> None:
        path = tmp_path / name
        with (
            file_size_limit(20_000),
            pytest.raises(OSError, match=rf"^{path}: cannot be written \(File too large\)$"),
        ):
            if in_pieces:
                with Writer(path, RATE, *noise.shape) as writer:
                    writer.write(0, noise)
            else:
                audio.write(path, noise, RATE)
        assert list(tmp_path.iterdir()) == []

    def test_beyond_four_gigabytes_wav_is_rf64(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path / "x.wav", RATE, 8, 200_000_000)
        assert writer._format == "RF64"
