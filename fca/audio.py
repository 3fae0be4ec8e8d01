"""Audio files in and out, and resampling: with ``fca.pieces`` all that touches sound files.

Files are (time, channels); everything handed over here is ``(channels, samples)`` float32.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from fca.completeness import check_complete, check_decoded
from fca.errors import InputError, printable, whole
from fca.files import replacing

__all__ = [
    "MIN_RATE",
    "SUFFIXES",
    "check_rate",
    "encode_flac",
    "fit_length",
    "fits_flac",
    "read",
    "resample",
    "write",
]

Waveform: TypeAlias = NDArray[np.float32]
AnyPath: TypeAlias = "str | os.PathLike[str]"

SUFFIXES = frozenset(
    [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".au", ".w64", ".rf64"]
)
"""File name endings, in lower case, that are taken for audio when a folder is searched."""

MIN_RATE = 1000
"""Lowest sample rate (Hz); room simulation fails below it, and no speech is left."""
_SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_24"}
MAX_FLAC_CHANNELS = 8
TOLERANCE = 0.1
"""Most seconds by which the files of one recording may differ, as those of several recorders do."""


def read(source: AnyPath | Sequence[AnyPath]) -> tuple[Waveform, int]:
    """Read a recording.

    Parameters
    ----------
    source : path, or sequence of paths
        One file with all channels, or one single-channel file per microphone. Of these, the
        longer ones are cut to the shortest if they are within :data:`TOLERANCE` of it.

    Returns
    -------
    waveform : (channels, samples), float32
    sample_rate : int
        In Hz.

    Raises
    ------
    InputError
        If a file is missing, empty, not audio, or holds NaN or infinite samples; if it is
        truncated, or goes on after what its header claims, as far as
        :mod:`fca.completeness` can tell; if the files of one recording have more than one channel
        each, or differ in rate or further in length.
    """
    if isinstance(source, str | os.PathLike):
        return _read_file(Path(source))
    paths = [Path(path) for path in source]
    if not paths:
        raise InputError("a recording needs at least one file")
    return _stack_channels(paths, [_read_file(path) for path in paths])


def check_rate(rate: float) -> None:
    """Raise :class:`InputError` for sample rates that are no whole number, or too low."""
    if whole("sample_rate", rate) < MIN_RATE:
        raise InputError(f"the sample rate must be {MIN_RATE} Hz or more: {rate}")


def resample(waveform: Waveform, rate: int, new_rate: int) -> Waveform:
    """Resample ``(..., samples)`` from ``rate`` to ``new_rate`` (Hz) with soxr's best filter.

    The result has ``ceil(samples * new_rate / rate)`` samples, so that going there and back never
    loses the end of a recording.

    Raises
    ------
    InputError
        If a rate is not positive.
    """
    if rate <= 0 or new_rate <= 0:
        raise InputError(f"sample rates must be positive, got {rate} and {new_rate} Hz")
    if rate == new_rate:
        return waveform
    flat = waveform.reshape(-1, waveform.shape[-1]).T
    resampled = soxr.resample(np.ascontiguousarray(flat), rate, new_rate, quality="VHQ").T
    length = -(-waveform.shape[-1] * new_rate // rate)
    return fit_length(resampled, length).reshape(*waveform.shape[:-1], length)


def fit_length(waveform: Waveform, length: int) -> Waveform:
    """Cut ``(..., samples)`` at its end, or append zeros, to ``length`` samples."""
    missing = max(0, length - waveform.shape[-1])
    padding = [(0, 0)] * (waveform.ndim - 1) + [(0, missing)]
    return np.ascontiguousarray(np.pad(waveform[..., :length], padding))


def fits_flac(waveform: Waveform) -> bool:
    """Whether FLAC can hold ``(channels, samples)`` without clipping and in one file."""
    return bool(np.abs(waveform).max(initial=0.0) <= 1) and len(waveform) <= MAX_FLAC_CHANNELS


def write(path: AnyPath, waveform: Waveform, sample_rate: int) -> None:
    """Write ``(channels, samples)`` or ``(samples,)`` as 32-bit float WAV or 24-bit FLAC.

    The suffix of ``path`` decides which. The file appears under its name only when it is complete.

    Raises
    ------
    InputError
        If the suffix is neither .wav nor .flac, a sample is NaN or infinite, or FLAC would clip.
    OSError
        If the file cannot be written.
    """
    path, waveform = Path(path), np.atleast_2d(waveform)
    check_suffix(path)
    check_finite(path, waveform)
    if path.suffix.lower() == ".flac" and not fits_flac(waveform):
        raise InputError(
            f"{path}: FLAC holds up to {MAX_FLAC_CHANNELS} channels within ±1, got "
            f"{len(waveform)} and a peak of {np.abs(waveform).max():.3g}; write .wav"
        )
    suffix = path.suffix.lower()
    shape = (sample_rate, len(waveform), _SUBTYPES[suffix], suffix[1:].upper())
    with replacing(path) as temporary, contextlib.closing(Output(path, temporary, *shape)) as file:
        file.write(waveform.T)


def encode_flac(waveform: Waveform, sample_rate: int) -> bytes:
    """16-bit FLAC of ``(channels, samples)`` or ``(samples,)`` within ±1, to embed in a page."""
    buffer = io.BytesIO()
    samples = np.atleast_2d(waveform).T
    soundfile.write(buffer, samples, sample_rate, subtype="PCM_16", format="FLAC")
    return buffer.getvalue()


class Output:
    """Sound file that is being written.

    Parameters
    ----------
    path : Path
        Its name in messages.
    temporary : Path
        Where it is written.
    sample_rate, n_channels, subtype, kind
        As soundfile takes them.

    Raises
    ------
    OSError
        If it cannot be written, which closing may find, too; the message says why.
    """

    def __init__(
        self,
        path: Path,
        temporary: Path,
        sample_rate: int,
        n_channels: int,
        subtype: str,
        kind: str,
    ) -> None:
        self._path = path
        self._failures: list[Exception] = []
        shape = {"samplerate": sample_rate, "channels": n_channels}
        with self._told(), contextlib.ExitStack() as stack:
            self._stream = stack.enter_context(_Stream(temporary, self._failures))
            self._file = soundfile.SoundFile(
                self._stream, "w", **shape, subtype=subtype, format=kind
            )
            stack.pop_all()

    def write(self, samples: NDArray[Any]) -> None:
        """Append (samples, channels)."""
        with self._told():
            self._file.write(np.ascontiguousarray(samples))

    def close(self) -> None:
        """Write what is held back; a file that is closed already stays so."""
        if self._stream.closed:
            return
        with self._told(), self._stream:
            self._file.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the library as errors of the system; the first one is the reason."""
        try:
            yield
        except (soundfile.LibsndfileError, AssertionError, OSError) as error:
            self._failures.append(error)
        if self._failures:
            first = self._failures[0]
            reason = first.strerror if isinstance(first, OSError) else _reason(first)
            raise OSError(printable(f"{self._path}: cannot be written ({reason})")) from first


class _Stream(io.FileIO):
    """File for soundfile to write to, which does not say why it failed; the stream remembers."""

    def __init__(self, path: Path, failures: list[Exception]) -> None:
        super().__init__(path, "w+")
        self._failures = failures

    def write(self, data: Any) -> int:
        """Write all of the data; return how many bytes of it were written."""
        count = 0
        try:
            while count < len(data):
                count += super().write(data[count:])
        except OSError as error:
            self._failures.append(error)
        return count


def check_suffix(path: Path) -> None:
    if path.suffix.lower() not in _SUBTYPES:
        raise InputError(f"{path}: audio is written as .wav or .flac")


def check_finite(path: Path, waveform: Waveform) -> None:
    if not np.isfinite(waveform).all():
        raise InputError(f"{path}: not written, the waveform holds NaN or infinite samples")


def _read_file(path: Path) -> tuple[Waveform, int]:
    with open_sound(path) as file:
        waveform = file.read(dtype="float32", always_2d=True).T
        sample_rate = int(file.samplerate)
        check_decoded(path, file, waveform.shape[1])
    check_samples(path, waveform)
    return np.ascontiguousarray(waveform), sample_rate


def native(path: Path) -> bytes | str:
    """A path as soundfile takes it: names that are not UTF-8 only as bytes, where there are any."""
    return os.fsencode(path) if os.name == "posix" else str(path)


@contextlib.contextmanager
def open_sound(path: Path) -> Iterator[soundfile.SoundFile]:
    """File to read from, with one line for what is wrong with it."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    try:
        with soundfile.SoundFile(native(path)) as file:
            check_complete(path, file)
            yield file
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless .raw
        raise InputError(f"{path}: cannot be read as audio ({_reason(error)})") from None


def check_samples(path: Path, waveform: Waveform, start: int = 0) -> None:
    """Refuse (channels, samples) that nothing can be made of; they begin at sample ``start``."""
    if waveform.shape[-1] == 0:
        raise InputError(f"{path}: holds no samples")
    finite = np.isfinite(waveform)
    if not finite.all():
        channel, sample = np.argwhere(~finite)[0]
        raise InputError(
            f"{path}: holds NaN or infinite samples, of channel {channel} from sample "
            f"{start + sample} on"
        )


def _stack_channels(paths: list[Path], files: list[tuple[Waveform, int]]) -> tuple[Waveform, int]:
    length, rate, _ = check_alike(paths, [(*waveform.shape, rate) for waveform, rate in files])
    return np.concatenate([waveform[:, :length] for waveform, _ in files]), rate


def check_alike(
    paths: list[Path], shapes: list[tuple[int, int, int]]
) -> tuple[int, int, list[str]]:
    """Samples and rate of a recording of files (channels, samples, rate), and what to remark.

    The files have one channel each, equal rates and lengths within :data:`TOLERANCE`.
    """
    lengths, rate = [samples for _, samples, _ in shapes], shapes[0][2]
    shortest = min(lengths)
    for path, (channels, _, its_rate) in zip(paths, shapes, strict=True):
        if channels != 1:
            raise InputError(f"{path}: {channels} channels where one per file is expected")
        if its_rate != rate:
            raise InputError(f"{path}: {its_rate} Hz, but {paths[0]} has {rate} Hz")
    for path, samples in zip(paths, lengths, strict=True):
        if samples - shortest > TOLERANCE * rate:
            other = paths[lengths.index(shortest)]
            raise InputError(f"{path}: {samples} samples, but {other} has {shortest}")
    cut = max(lengths) - shortest
    return shortest, rate, [f"cut to the shortest file, by up to {cut} samples"] if cut else []


def _reason(error: Exception) -> str:
    """Library's message without the path that it repeats."""
    text = getattr(error, "error_string", "") or str(error)
    return text.removeprefix("Error : ").strip().rstrip(".")
