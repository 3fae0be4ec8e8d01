"""Separation of successive stretches of a recording, their sources assigned to tracks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from fca.activity import Segment, on_frames
from fca.frontend import SAMPLE_RATE, analysed_length, working_channels
from fca.inference.iterate import Callback
from fca.permutation import best_assignment
from fca.separation import Separation
from fca.separator import Separator
from fca.source.gated import NotToldApart
from fca.tracks import Tracks

ALIKE = "speakers whose turns are the same are told apart by where they are heard from"
"""Remark on a block in which they are."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of a recording to be separated."""

    start: int
    stop: int
    mixture: Tensor
    sample_rate: int
    callbacks: Sequence[Callback]
    of_several: bool

    def channel(self, own: int) -> int:
        """Microphone of the tracks: ``own``, or another if that fails in this stretch."""
        if not self.of_several or own >= len(self.mixture):
            return own
        working = working_channels(self.mixture, self.sample_rate)
        return own if own in working or not working else working[0]

    def heard_by(self, separator: Separator) -> Separator:
        """The separator, at another microphone if its own fails in this stretch."""
        channel = self.channel(separator.reference_channel)
        if channel == separator.reference_channel:
            return separator
        other = copy.copy(separator)
        other.reference_channel = channel
        return other


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """A separation with the track of each source, or what there is to say instead."""

    separation: Separation | None = None
    track: list[int] = field(default_factory=list)
    sharing: list[int] = field(default_factory=list)
    problem: str = ""
    remark: str = ""


class Sorter(Protocol):
    """Separates the stretches of a recording, in any order, and sorts them into tracks, in theirs.

    Stretches may be separated in several threads at a time.
    """

    def names(self) -> list[str]:
        """Names of the tracks so far."""

    def sharing(self, stretch: Stretch) -> list[int]:
        """Tracks of all who may speak in a stretch."""

    def separate(self, stretch: Stretch) -> Sorted:
        """The separation of a stretch, and what is known of tracks without other stretches."""

    def assign(self, stretch: Stretch, found: Sorted) -> Sorted:
        """The same with the track of each source."""


class Guided:
    """Assigns the sources to tracks by who is known to speak.

    Speakers whose turns are the same in a stretch are assigned by where they were heard before.
    """

    def __init__(self, separator: Separator, guide: Sequence[Segment], speakers: list[str]) -> None:
        self._separator = separator
        self._guide = guide
        self._speakers = speakers
        self._tracks = Tracks()

    def names(self) -> list[str]:
        return self._speakers

    def sharing(self, stretch: Stretch) -> list[int]:
        spoken = {segment.speaker for segment in self._spoken(stretch)}
        return [track for track, name in enumerate(self._speakers) if name in spoken]

    def _spoken(self, stretch: Stretch) -> list[Segment]:
        begin, end = stretch.start / stretch.sample_rate, stretch.stop / stretch.sample_rate
        return [turn for turn in self._guide if turn.start < end and turn.end > begin]

    def separate(self, stretch: Stretch) -> Sorted:
        track = self.sharing(stretch)
        if not track:
            return Sorted()
        separator, rate = stretch.heard_by(self._separator), stretch.sample_rate
        activity = self._activity(stretch, track)
        try:
            found = separator.guided(stretch.mixture, activity, rate, stretch.callbacks)
            return Sorted(separation=found, track=track)
        except NotToldApart:
            separator = copy.copy(separator)
            separator.n_sources = len(track)
            found = separator(stretch.mixture, rate, stretch.callbacks)
            return Sorted(separation=found, track=track, remark=ALIKE)

    def assign(self, stretch: Stretch, found: Sorted) -> Sorted:
        if found.separation is None:
            return found
        track, heard = found.track, _heard(stretch, found.separation)
        if found.remark == ALIKE:
            track = self._matched(stretch, heard, track)
        self._tracks.tell(stretch.start, *heard, track, stretch.sample_rate)
        return replace(found, track=track)

    def _activity(self, stretch: Stretch, track: list[int]) -> Tensor:
        """Activities of speakers on the frames of the separator, (N, T)."""
        rate, stft = stretch.sample_rate, self._separator.stft
        length = analysed_length(stretch.mixture.shape[1], rate, stft)
        frames = np.arange(length // stft.hop + 1)
        times = stretch.start / rate + frames * stft.hop / SAMPLE_RATE
        speakers = [self._speakers[k] for k in track]
        return torch.from_numpy(on_frames(self._spoken(stretch), speakers, times))

    def _matched(
        self, stretch: Stretch, heard: tuple[Tensor, Tensor], track: list[int]
    ) -> list[int]:
        """Of these tracks the one of each source, by where it is heard from."""
        alike = self._tracks.resemblance(stretch.start, *heard, stretch.sample_rate)
        known = pad(alike, (0, len(self._speakers) - alike.shape[1]))
        sources_of = best_assignment(known[:, track])
        return [track[k] for k in sources_of.argsort().tolist()]


class Matched:
    """Assigns the sources to tracks by matching them with what was heard in earlier blocks.

    Where there is nothing to match, the separator's sources are the tracks: in a recording of a
    single block, if the number of talkers is given, and always if there is one.
    """

    def __init__(self, separator: Separator, limit: int | None, alone: bool) -> None:
        self._separator = separator
        self._limit = limit
        self._believed = limit == 1 or (alone and limit is not None)
        self._tracks = Tracks(limit)

    def names(self) -> list[str]:
        count = len(self._tracks) if self._limit is None else self._limit
        return [f"source{n}" for n in range(1, count + 1)]

    def sharing(self, stretch: Stretch) -> list[int]:
        return list(range(len(self.names())))

    def separate(self, stretch: Stretch) -> Sorted:
        separator = stretch.heard_by(self._separator)
        found = separator(stretch.mixture, stretch.sample_rate, stretch.callbacks)
        return Sorted(separation=found)

    def assign(self, stretch: Stretch, found: Sorted) -> Sorted:
        separation = found.separation
        if separation is None:
            return found
        if self._believed:
            return replace(found, track=list(range(len(separation.sources))))
        heard, residual = _heard(stretch, separation), separation.residual.detach().cpu()
        track = self._tracks.assign(stretch.start, *heard, residual, stretch.sample_rate)
        return replace(found, track=track)


def _heard(stretch: Stretch, found: Separation) -> tuple[Tensor, Tensor]:
    """What tracks are told by: the mixture (M, samples) and the sources (N, samples)."""
    sources = found.sources.detach().cpu()
    return stretch.mixture.to(sources), sources
