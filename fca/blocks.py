"""Recordings of any length: blocks with overlap, the same talker in the same track in all of them.

A block is separated like a recording of its own, so that memory is bounded by the block, and its
sources are given to tracks (:mod:`fca.tracks`): by how well they continue what a track held in the
overlap, and by where they are heard from, which brings back a talker who was silent for minutes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fca.errors import InputError
from fca.frontend import SAMPLE_RATE
from fca.inference.iterate import Callback, Progress
from fca.pieces import Reader
from fca.separator import Separation, Separator
from fca.tracks import Tracks, gather

BLOCK_SECONDS = 30.0
CHANNEL_SECONDS = 160.0
"""Most seconds of a block times microphones, unless its length is given: 20 s of eight."""
OVERLAP = 1 / 6
"""Share of a block that it has in common with the next."""
MOST_TALKERS = 6
"""Sources that are fitted to a block where the number of talkers is to be found."""

Signals = dict[str, Tensor]
"""Named waveforms (..., samples)."""


@dataclass(frozen=True)
class Block:
    """A separated stretch of a recording, its sources sorted into K tracks.

    Attributes
    ----------
    start, stop : int
        Samples of the recording that it covers.
    sources : Tensor
        Tracks at the reference channel, (K, samples); silent where nobody belongs to one.
    residual : Tensor
        What the tracks leave of the mixture there, (samples,).
    track : list of int
        Those that the sources of the separation belong to, -1 for none.
    separation : Separation or None
        What was found; None where separation was impossible.
    problem : str
        Why it was, otherwise empty.
    """

    start: int
    stop: int
    sources: Tensor
    residual: Tensor
    track: list[int]
    separation: Separation | None
    problem: str
    _n_channels: int

    def images(self) -> Tensor:
        """Tracks at all microphones, (K, channels, samples)."""
        n_tracks, n_samples = self.sources.shape
        if self.separation is None:
            return self.sources.new_zeros(n_tracks, self._n_channels, n_samples)
        return gather(self.separation.images(), self.track, n_tracks)


class BlockSeparator:
    """Separates recordings of any length, in blocks.

    Parameters
    ----------
    separator : Separator
        For the blocks.
    block_seconds : float, optional
        Longest block; by default :data:`BLOCK_SECONDS`, or less with many microphones. A recording
        that is no longer is one block, and its separation exactly that of ``separator``.
    count : bool
        Find the number of talkers: of as many sources as the separator has, or as there are
        microphones if these are fewer, those count that are heard (:func:`fca.tracks.heard`), and
        those from one place as one. Otherwise there are as many tracks as the separator has
        sources.

    Raises
    ------
    InputError
        If a block has no room for a few windows.
    """

    def __init__(
        self, separator: Separator, block_seconds: float | None = None, count: bool = False
    ) -> None:
        least = 4 * separator.stft.n_fft / SAMPLE_RATE
        if block_seconds is not None and not least <= block_seconds < math.inf:
            raise InputError(f"blocks of {block_seconds:g} s: {least:g} s are needed at least")
        self.separator = separator
        self.block_seconds = block_seconds
        self.count = count

    def __call__(
        self,
        recording: str | Path | Sequence[Path] | Reader,
        callbacks: Sequence[Callback] = (),
    ) -> Iterator[Block]:
        """Blocks of a recording, in order; :func:`stitch` joins them.

        Raises
        ------
        InputError
            For a recording that cannot be read, or of which no block can be separated.
        """
        reader = recording if isinstance(recording, Reader) else Reader(recording)
        seconds = self.block_seconds or min(BLOCK_SECONDS, CHANNEL_SECONDS / reader.n_channels)
        spans = block_spans(reader.n_samples, round(seconds * reader.sample_rate))
        separator = self._fitting(reader.n_channels)
        tracks = Tracks(None if self.count else self.separator.n_sources)
        n_failed = 0
        for index, waveform in enumerate(reader.pieces(spans)):
            told = [_overall(callback, index, len(spans)) for callback in callbacks]
            mixture = torch.from_numpy(waveform)
            try:
                separation = separator(mixture, reader.sample_rate, told)
            except InputError as error:
                n_failed += 1
                if n_failed == len(spans):
                    raise
                yield self._silent(spans[index], mixture, len(tracks), str(error))
                continue
            alone = len(spans) == 1 and not self.count
            track = self._assign(None if alone else tracks, mixture, separation, spans[index][0])
            yield self._block(spans[index], mixture, separation, track, len(tracks))
            del separation  # the model is as large as the block and must not outlive it

    def _fitting(self, n_channels: int) -> Separator:
        """The separator with as many sources as are tried on a recording."""
        if not self.count or self.separator.n_sources <= n_channels:
            return self.separator
        separator = copy.copy(self.separator)
        separator.n_sources = n_channels
        return separator

    def _assign(
        self, tracks: Tracks | None, mixture: Tensor, separation: Separation, start: int
    ) -> list[int]:
        """Track of each source; a separator that knows how many there are is believed."""
        if tracks is None:
            return list(range(len(separation.sources)))
        sources, residual = separation.sources.detach().cpu(), separation.residual.detach().cpu()
        return tracks.assign(start, mixture.to(sources), sources, residual, separation.sample_rate)

    def _block(
        self,
        span: tuple[int, int],
        mixture: Tensor,
        separation: Separation,
        track: list[int],
        n_known: int,
    ) -> Block:
        n_tracks = self._n_tracks(n_known)
        sources = gather(separation.sources, track, n_tracks)
        reference = mixture[self.separator.reference_channel].to(sources)
        residual = reference - sources.sum(0)
        return Block(*span, sources, residual, track, separation, "", len(mixture))

    def _silent(self, span: tuple[int, int], mixture: Tensor, n_known: int, problem: str) -> Block:
        sources = mixture.new_zeros(self._n_tracks(n_known), mixture.shape[1])
        channel = self.separator.reference_channel
        residual = mixture[channel] if channel < len(mixture) else mixture[0]
        return Block(*span, sources, residual, [], None, problem, len(mixture))

    def _n_tracks(self, n_known: int) -> int:
        return n_known if self.count else self.separator.n_sources


def block_spans(n_samples: int, longest: int) -> list[tuple[int, int]]:
    """Blocks [start, stop) of equal length that overlap by :data:`OVERLAP` of it."""
    shift = longest * (1 - OVERLAP)
    count = 1 + max(0, math.ceil((n_samples - longest) / shift))
    length = math.ceil(n_samples / (1 + (count - 1) * (1 - OVERLAP)))
    step = (n_samples - length) / max(1, count - 1)
    starts = [round(k * step) for k in range(count)]
    return [(start, start + length) for start in starts]


def stitch(
    blocks: Iterable[Block], signals: Callable[[Block], Signals]
) -> Iterator[tuple[int, Signals]]:
    """Waveforms of a recording, piece by piece: where blocks overlap, one fades into the next.

    The two gains sum to one, for both blocks estimate the same waveform.

    Parameters
    ----------
    blocks : iterable of Block
        In order.
    signals : callable
        The waveforms wanted of a block, by name. A name that appears later was silent before.

    Yields
    ------
    start : int
        First sample of the piece.
    signals : dict
        Waveforms (..., samples) of it.
    """
    held: Signals = {}
    at = 0
    for block in blocks:
        start, new = block.start, signals(block)
        del block  # and its model, before the next is made
        if held:
            shift = start - at
            yield at, {name: x[..., :shift] for name, x in held.items()}
            new = {name: _fade(held, name, x, shift) for name, x in new.items()}
        held, at = new, start
    yield at, held


def _fade(held: Signals, name: str, new: Tensor, shift: int) -> Tensor:
    """``new``, into which what was held from sample ``shift`` on fades."""
    old = held[name][..., shift:] if name in held else new[..., : new.shape[-1] - shift] * 0
    size = old.shape[-1]
    rise = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(size).to(new) + 0.5) / size)
    return torch.cat([old * (1 - rise) + new[..., :size] * rise, new[..., size:]], dim=-1)


def _overall(callback: Callback, index: int, n_blocks: int) -> Callback:
    """The callback, told how far the whole recording is."""

    def tell(progress: Progress) -> bool | None:
        done = index * progress.n_iter + progress.iteration
        return callback(Progress(done, n_blocks * progress.n_iter, progress.cost))

    return tell
