"""Recordings of any length: overlapping blocks, with each talker in the same track throughout.

Each block is separated as if it were a recording of its own, so that memory is bounded by the
block. Its sources are then assigned to tracks (:mod:`fca.tracks`), by how well they continue what a
track held in the overlap and by where they are heard from. The latter recognises a talker even
after minutes of silence.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from fca.activity import Segment
from fca.allocator import release_freed_memory
from fca.errors import InputError, at_least_one
from fca.frontend import SAMPLE_RATE
from fca.inference.iterate import Callback, Progress
from fca.pieces import Reader
from fca.separation import Separation
from fca.separator import Separator
from fca.sorting import Guided, Matched, Sorted, Sorter, Stretch
from fca.tracks import gather
from fca.workers import in_order

BLOCK_SECONDS = 30.0
CHANNEL_SECONDS = 160.0
"""Most seconds times microphones in a block, unless its length is given: 20 s with eight
microphones."""
OVERLAP = 1 / 6
"""Fraction of a block that overlaps with the next one."""
MOST_TALKERS = 6
"""Sources that are fitted to a block when the talkers are counted."""

Signals = dict[str, Tensor]
"""Named waveforms (..., samples)."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A separated stretch of a recording, its sources sorted into K tracks.

    Attributes
    ----------
    start, stop : int
        First sample of the recording that it covers, and the one after its last.
    mixture : Tensor
        What was recorded, (channels, samples).
    sources : Tensor
        Tracks at the reference channel, (K, samples); silent where no source belongs to one, and
        equal parts of the mixture for all who may speak where separation was impossible.
    residual : Tensor
        The mixture there minus all tracks, (samples,).
    track : list of int
        Track of each source of the separation, -1 for none.
    separation : Separation or None
        The separation of the block; None where it was impossible, or nobody speaks.
    problem : str
        Why it was impossible; otherwise empty.
    remark : str
        What is to be said of the tracks of this block; otherwise empty.
    sharing : list of int
        Tracks that hold equal parts of the mixture, where separation was impossible.
    names : list of str
        Names of the tracks: source1, source2, ..., or the speakers of the guide.
    reference_channel : int
        Microphone of the tracks; not the separator's where that one is dead.
    """

    start: int
    stop: int
    mixture: Tensor
    sources: Tensor
    residual: Tensor
    track: list[int]
    separation: Separation | None
    problem: str
    remark: str
    sharing: list[int]
    names: list[str]
    reference_channel: int

    def images(self) -> Tensor:
        """Tracks at all microphones, (K, channels, samples)."""
        if self.separation is None:
            return equal_parts(self.mixture.to(self.sources), self.sharing, len(self.names))
        return gather(self.separation.images(), self.track, len(self.names))


class BlockSeparator:
    """Separates recordings of any length, in blocks.

    Parameters
    ----------
    separator : Separator
        Separates each block.
    block_seconds : float, optional
        Longest block; by default :data:`BLOCK_SECONDS`, or less with many microphones. A shorter
        recording is one block, and its separation is exactly that of ``separator``.
    count : bool
        Count the talkers: of as many sources as the separator has, but no more than microphones,
        those that are heard are talkers (:func:`fca.tracks.heard`), and those from one place are
        one talker. Without it there are as many tracks as the separator has sources.
    guide : sequence of Segment, optional
        Who speaks when; the speakers are the tracks.
    jobs : int
        Blocks that are separated at the same time, each in one thread; memory grows with them.

    Raises
    ------
    InputError
        If a block is too short for a few STFT windows.
    """

    def __init__(
        self,
        separator: Separator,
        block_seconds: float | None = None,
        count: bool = False,
        guide: Sequence[Segment] | None = None,
        jobs: int = 1,
    ) -> None:
        least = 4 * separator.stft.n_fft / SAMPLE_RATE
        if block_seconds is not None and not least <= block_seconds < math.inf:
            raise InputError(f"blocks of {block_seconds:g} s: {least:g} s are needed at least")
        self.separator = separator
        self.block_seconds = block_seconds
        self.count = count
        self.guide = guide
        self.jobs = at_least_one("jobs", jobs)
        self.speakers = list(dict.fromkeys(segment.speaker for segment in guide or ()))

    def __call__(
        self,
        recording: str | Path | Sequence[Path] | Reader,
        callbacks: Sequence[Callback] = (),
    ) -> Iterator[Block]:
        """Blocks of a recording, in order; :func:`stitch` joins them.

        Callbacks are told the progress through the whole recording, and do not end it.

        Raises
        ------
        InputError
            For a recording that cannot be read, or of which no block can be separated.
        """
        reader = recording if isinstance(recording, Reader) else Reader(recording)
        seconds = self.block_seconds or min(BLOCK_SECONDS, CHANNEL_SECONDS / reader.n_channels)
        spans = block_spans(reader.n_samples, round(seconds * reader.sample_rate))
        sort = self._sorter(reader.n_channels, alone=len(spans) == 1)
        overall, n_separated = _Overall(callbacks, len(spans)), 0
        errors: list[InputError] = []
        stretches = _stretches(reader, spans, overall)
        with contextlib.ExitStack() as stack:
            begun = in_order(sort.separate, stretches, min(self.jobs, len(spans)))
            stack.enter_context(contextlib.closing(begun))
            stack.callback(overall.stop)
            for stretch, separated in begun:
                try:
                    found = sort.assign(stretch, separated())
                    n_separated += found.separation is not None
                except InputError as error:
                    errors.append(error)
                    found = Sorted(sharing=sort.sharing(stretch), problem=str(error))
                if stretch.stop == spans[-1][1] and errors and not n_separated:
                    raise _commonest(errors)
                overall.finish(stretch.start)
                del separated  # or its model would stay until the next one is fitted
                yield self._block(stretch, sort.names(), found)
                del found

    def _sorter(self, n_channels: int, alone: bool) -> Sorter:
        if self.guide is not None:
            return Guided(self.separator, self.guide, self.speakers)
        separator = self.separator
        if self.count:
            separator = copy.copy(separator)
            separator.n_sources = min(separator.n_sources, n_channels)
        return Matched(separator, None if self.count else separator.n_sources, alone)

    def _block(
        self,
        stretch: Stretch,
        names: list[str],
        found: Sorted,
    ) -> Block:
        mixture, separation = stretch.mixture, found.separation
        if separation is None:
            channel = stretch.channel(self.separator.reference_channel)
            heard = mixture[channel if channel < len(mixture) else 0]
            reference = heard.to(self.separator.device, self.separator.dtype)
            sources = equal_parts(reference, found.sharing, len(names))
        else:
            channel = separation.reference_channel
            sources = gather(separation.sources, found.track, len(names))
            reference = mixture[channel].to(sources)
        return Block(
            start=stretch.start,
            stop=stretch.stop,
            mixture=mixture,
            sources=sources,
            residual=reference - sources.sum(0),
            track=found.track,
            separation=separation,
            problem=found.problem,
            remark=found.remark,
            sharing=found.sharing,
            names=names,
            reference_channel=channel,
        )


def _commonest(errors: Sequence[InputError]) -> InputError:
    """The error that occurred most often, the first of those that did equally."""
    messages = [str(error) for error in errors]
    return max(errors, key=lambda error: messages.count(str(error)))


def equal_parts(mixture: Tensor, track: Sequence[int], n_tracks: int) -> Tensor:
    """Tracks (K, ...) of which those named hold equal parts of a mixture (...)."""
    parts = mixture.new_zeros(n_tracks, *mixture.shape)
    parts[list(track)] = mixture / max(len(track), 1)
    return parts


def block_spans(n_samples: int, longest: int) -> list[tuple[int, int]]:
    """Blocks [start, stop) of equal length, which overlap by the fraction :data:`OVERLAP` of it."""
    shift = longest * (1 - OVERLAP)
    count = 1 + max(0, math.ceil((n_samples - longest) / shift))
    length = math.ceil(n_samples / (1 + (count - 1) * (1 - OVERLAP)))
    step = (n_samples - length) / max(1, count - 1)
    starts = [round(k * step) for k in range(count)]
    return [(start, start + length) for start in starts]


def stitch(
    blocks: Iterable[Block], signals: Callable[[Block], Signals]
) -> Iterator[tuple[int, Signals]]:
    """Waveforms of a recording, piece by piece; where blocks overlap, one fades into the next.

    The two gains sum to one, as both blocks estimate the same waveform.

    Parameters
    ----------
    blocks : iterable of Block
        Blocks in order.
    signals : callable
        Gives the waveforms wanted of a block, by name. One that appears later was silent before.

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
    """``new``, with a fade from what was held from sample ``shift`` on."""
    old = held[name][..., shift:] if name in held else new[..., : new.shape[-1] - shift] * 0
    size = old.shape[-1]
    rise = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(size).to(new) + 0.5) / size)
    return torch.cat([old * (1 - rise) + new[..., :size] * rise, new[..., size:]], dim=-1)


class _Overall:
    """Progress through a whole recording, of which several blocks may be on their way."""

    def __init__(self, callbacks: Sequence[Callback], n_blocks: int) -> None:
        self._callbacks, self._n_blocks = callbacks, n_blocks
        self._lock = Lock()
        self._done: dict[int, float] = {}
        self._n_finished, self._stopped = 0, False

    def of(self, start: int) -> Callback:
        """The callback of the block that begins at this sample."""

        def tell(progress: Progress) -> None:
            with self._lock:
                if self._stopped:
                    raise CancelledError
                self._done[start] = max(progress.share, self._done.get(start, 0.0))
                done = self._n_finished + sum(self._done.values())
                whole = replace(progress, share=done / self._n_blocks)
                for callback in self._callbacks:
                    callback(whole)

        return tell

    def finish(self, start: int) -> None:
        """Count that block as done."""
        with self._lock:
            self._done.pop(start, None)
            self._n_finished += 1

    def stop(self) -> None:
        """End all blocks that are on their way, at their next iteration."""
        self._stopped = True


def _stretches(
    reader: Reader, spans: Sequence[tuple[int, int]], overall: _Overall
) -> Iterator[Stretch]:
    for (start, stop), waveform in zip(spans, reader.pieces(spans), strict=True):
        release_freed_memory()
        mixture, told = torch.from_numpy(waveform), [overall.of(start)]
        yield Stretch(start, stop, mixture, reader.sample_rate, told, len(spans) > 1)
