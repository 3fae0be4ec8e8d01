"""Recordings of any length, read and written piece by piece: more of :mod:`fca.audio`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from fca.audio import (
    MAX_FLAC_CHANNELS,
    AnyPath,
    Output,
    Waveform,
    check_alike,
    check_finite,
    check_samples,
    check_suffix,
    native,
    open_sound,
)
from fca.completeness import check_decoded
from fca.errors import InputError
from fca.files import make_temporary, rename

__all__ = ["Reader", "Writer"]

# A WAV holds no more; what goes beyond is called RF64.
_MAX_WAV_BYTES = 0xFFFF0000
_CHUNK = 1 << 20


class Reader:
    """A recording of any length, checked whole and read in pieces, so that memory is bounded.

    Parameters
    ----------
    source : path, or sequence of paths
        As for :func:`fca.audio.read`.

    Attributes
    ----------
    n_channels, n_samples : int
    sample_rate : int
        In Hz.
    remarks : list of str
        What was done to make one recording of the files.

    Raises
    ------
    InputError
        For whatever :func:`fca.audio.read` refuses, which is found by decoding everything once.
    """

    def __init__(self, source: AnyPath | Sequence[AnyPath]) -> None:
        single = isinstance(source, str | os.PathLike)
        self._paths = [Path(source)] if single else [Path(p) for p in source]  # type: ignore[arg-type,union-attr]
        if not self._paths:
            raise InputError("a recording needs at least one file")
        shapes = [_scan(path) for path in self._paths]
        self.n_channels, self.n_samples, self.sample_rate = shapes[0]
        self.remarks: list[str] = []
        if not single:
            self.n_channels = len(shapes)
            self.n_samples, self.sample_rate, self.remarks = check_alike(self._paths, shapes)

    def pieces(self, spans: Iterable[tuple[int, int]]) -> Iterator[Waveform]:
        """Samples ``[start, stop)`` of spans that begin in order and may overlap.

        Files are decoded from the front once and never sought in, which not all formats do exactly.
        """
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open_sound(path)) for path in self._paths]
            kept, at = np.zeros((self.n_channels, 0), np.float32), 0
            for start, end in spans:
                stop = min(end, self.n_samples)
                while at + kept.shape[1] < start:
                    at += kept.shape[1]
                    kept = _decode(files, min(_CHUNK, start - at))
                kept, at = kept[:, start - at :], start
                missing = max(0, stop - start - kept.shape[1])
                kept = np.concatenate([kept, _decode(files, missing)], axis=1)
                yield kept[:, : stop - start]


class Writer:
    """Writes a file in pieces; it appears under its name only when all is there.

    A context manager: left by an exception, it leaves nothing behind. What is not written between
    two pieces, or after the last, is silence. :meth:`complete` does all that can fail but for the
    name, so that earlier files may be removed only then.

    Parameters
    ----------
    path : path
        .wav, or .flac: 24-bit FLAC unless it would clip, and then a .wav of the same name.
    sample_rate : int
        In Hz.
    n_channels, n_samples : int
        Size of the file when it is finished.
    pcm16 : bool
        Write a .wav of 16-bit integers, as Kaldi reads them, unless these would clip.

    Attributes
    ----------
    path : Path
        The file that was written, known when it is complete.
    floats : bool
        Whether it is of 32-bit floats, known then, too.
    """

    def __init__(
        self,
        path: AnyPath,
        sample_rate: int,
        n_channels: int,
        n_samples: int,
        pcm16: bool = False,
    ) -> None:
        self.path = Path(path)
        self.floats = True
        self._pcm16 = pcm16
        check_suffix(self.path)
        self._rate, self._n_channels, self._n_samples = sample_rate, n_channels, n_samples
        self._at, self._peak = 0, 0.0
        self._temporaries: list[Path] = []
        self._complete = False
        size = 4 * n_channels * n_samples
        self._format = "WAV" if size < _MAX_WAV_BYTES else "RF64"

    def __enter__(self) -> Writer:
        try:
            self._file = self._open("FLOAT", self._format)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.complete()
                rename(self._temporaries[-1], self.path)
            else:
                self._file.close()
        finally:
            self._remove()

    def complete(self) -> None:
        """Write all that is missing, if only silence; nothing can be written after that.

        Raises
        ------
        OSError
            If the file cannot be written, or somebody has removed what was written so far.
        """
        if self._complete:
            return
        with contextlib.closing(self._file):
            self._silence(self._n_samples)
        self._check_there()
        self._convert()
        self._check_there()
        self._complete = True

    def _check_there(self) -> None:
        if not self._temporaries[-1].exists():
            raise OSError(f"{self.path}: cannot be written (its temporary file is gone)")

    def write(self, start: int, waveform: Waveform) -> None:
        """Put ``(channels, samples)`` or ``(samples,)`` at sample ``start``, not before the last.

        Raises
        ------
        InputError
            If a sample is NaN or infinite.
        OSError
            If the file cannot be written.
        """
        waveform = np.atleast_2d(waveform)
        check_finite(self.path, waveform)
        self._peak = max(self._peak, float(np.abs(waveform).max(initial=0.0)))
        self._silence(start)
        self._append(waveform)

    def _append(self, waveform: Waveform) -> None:
        self._file.write(waveform.T)
        self._at += waveform.shape[1]

    def _silence(self, stop: int) -> None:
        while self._at < stop:
            self._append(np.zeros((self._n_channels, min(_CHUNK, stop - self._at)), np.float32))

    def _open(self, subtype: str, kind: str) -> Output:
        """A new temporary file to write to."""
        temporary = make_temporary(self.path)
        self._temporaries.append(temporary)
        return Output(self.path, temporary, self._rate, self._n_channels, subtype, kind)

    def _remove(self) -> None:
        for temporary in self._temporaries:
            temporary.unlink(missing_ok=True)

    def _convert(self) -> None:
        """Go on with a file of integers where one is wanted that does not clip."""
        if self.path.suffix.lower() == ".flac":
            if self._peak <= 1 and self._n_channels <= MAX_FLAC_CHANNELS:
                return self._encode("PCM_24", "FLAC")
            self.path = self.path.with_suffix(".wav")
        elif self._pcm16 and self._peak <= 1:
            self._encode("PCM_16", self._format)

    def _encode(self, subtype: str, kind: str) -> None:
        """Make a file of integers out of the float file."""
        self.floats = False
        with contextlib.closing(self._open(subtype, kind)) as file:
            for piece in soundfile.blocks(native(self._temporaries[0]), _CHUNK, dtype="float32"):
                file.write(piece)


def _scan(path: Path) -> tuple[int, int, int]:
    """Channels, samples and rate of a file, all of which is decoded and checked."""
    with open_sound(path) as file:
        count = 0
        while len(chunk := file.read(_CHUNK // file.channels, dtype="float32", always_2d=True)):
            check_samples(path, chunk.T, count)
            count += len(chunk)
        check_decoded(path, file, count)
        if count == 0:
            check_samples(path, chunk.T)
        return int(file.channels), count, int(file.samplerate)


def _decode(files: Sequence[soundfile.SoundFile], count: int) -> Waveform:
    """The next samples of all files, (channels, count); they were there when it was checked."""
    parts = [file.read(count, dtype="float32", always_2d=True).T for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.shape[1] < count:
            raise InputError(f"{os.fsdecode(file.name)}: changed while it was read")
    return np.concatenate(parts)
