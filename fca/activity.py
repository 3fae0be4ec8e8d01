"""Who speaks when: activities of separated talkers, and RTTM files.

An activity is the posterior probability u_kt that talker k speaks in frame t. It comes from a
Markov chain with two states (speech comes in turns, so that the state rarely changes), given how
far the talker's power is above noise and what may be left of the others. Nothing is learned, and so
no labels are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fca.errors import InputError
from fca.files import read_text, write_text

Array = NDArray[np.float64]

FRAME_SECONDS = 0.02
LEAKAGE_DB = -12.0
"""Level that the others may have in a track, relative to their own, unless more is known."""
DEPTH_DB = 25.0
"""A talker counts as silent about this far below their loudest second."""
SLOPE = 0.35
"""Log-odds of speech per decibel above leakage and noise."""
LEAST, MOST = -0.3, 2.0
"""Bounds of these log-odds in a frame: a low level says little, as speech has silent frames, a high
one says more, as pauses hardly have loud ones."""
STAY_ACTIVE, STAY_SILENT = 0.995, 0.995
"""Probabilities of staying in a state: turns and pauses of four seconds on average."""
SHORTEST_SECONDS = 0.2
MARGIN_SECONDS = 0.1
"""Time by which known segments are widened, as words fade out and labels are not exact."""


@dataclass(frozen=True)
class Segment:
    """A stretch of time in which a speaker talks.

    Attributes
    ----------
    speaker : str
    start, duration : float
        In seconds.
    """

    speaker: str
    start: float
    duration: float

    @property
    def end(self) -> float:
        """In seconds."""
        return self.start + self.duration


def activities(
    power: Array, frame_seconds: float = FRAME_SECONDS, leakage_db: Array | float = LEAKAGE_DB
) -> Array:
    """Posterior probabilities that talkers speak.

    Parameters
    ----------
    power : array
        Power of K talkers and of the residual in each frame, (K + 1, T).
    frame_seconds : float
        Time from one frame to the next. The constants of this module are for frames of
        :data:`FRAME_SECONDS`; longer frames carry more evidence each, and the state changes more
        often from one to the next.
    leakage_db : array or float
        Level (dB) that the others may have in a track, relative to their own: one for all, or
        (K, 1).

    Returns
    -------
    array
        u, (K, T).
    """
    sources, residual = power[:-1], power[-1]
    others = sources.sum(0) - sources
    width = min(round(1 / frame_seconds), power.shape[1])
    second = np.ones(width) / width
    loudest = np.array([np.convolve(row, second, "valid").max() for row in sources])
    floor = residual + _ratio(-DEPTH_DB) * loudest[:, None] + np.finfo(float).tiny
    level = 10 * np.log10(np.maximum(sources, floor * 1e-9) / (_ratio(leakage_db) * others + floor))
    steps = frame_seconds / FRAME_SECONDS
    odds = steps * np.clip(SLOPE * level, LEAST, MOST)
    return _smooth(odds, STAY_ACTIVE**steps, STAY_SILENT**steps)


def _smooth(odds: Array, stay_active: float, stay_silent: float) -> Array:
    """Posterior probabilities of the active state given log-odds (K, T), forward-backward."""
    forward, backward = odds.copy(), np.zeros_like(odds)
    forward[:, 0] += np.log((1 - stay_silent) / (1 - stay_active))
    for t in range(1, odds.shape[1]):
        before = np.exp(forward[:, t - 1])
        forward[:, t] += np.log(stay_active * before + 1 - stay_silent)
        forward[:, t] -= np.log((1 - stay_active) * before + stay_silent)
    for t in range(odds.shape[1] - 2, -1, -1):
        after = np.exp(odds[:, t + 1] + backward[:, t + 1])
        backward[:, t] = np.log(stay_active * after + 1 - stay_active)
        backward[:, t] -= np.log((1 - stay_silent) * after + stay_silent)
    posterior: Array = 1 / (1 + np.exp(-forward - backward))
    return posterior


def _ratio(decibels: Array | float) -> Any:
    return 10 ** (decibels / 10)


def segments(
    activity: Array, names: Iterable[str], frame_seconds: float = FRAME_SECONDS
) -> list[Segment]:
    """Stretches in which activities (K, T) are above one half, in order of time."""
    found, shortest = [], round(SHORTEST_SECONDS / frame_seconds)
    for name, row in zip(names, activity, strict=True):
        edges = np.flatnonzero(np.diff(row > 0.5, prepend=False, append=False))
        for begin, end in edges.reshape(-1, 2):
            if end - begin >= shortest:
                start, duration = begin * frame_seconds, (end - begin) * frame_seconds
                found.append(Segment(name, round(float(start), 3), round(float(duration), 3)))
    return sorted(found, key=lambda segment: (segment.start, segment.speaker))


def on_frames(spoken: Iterable[Segment], speakers: Sequence[str], times: Array) -> Array:
    """Whether each speaker talks within :data:`MARGIN_SECONDS` of each time, (speakers, times)."""
    active = np.zeros((len(speakers), len(times)))
    for segment in spoken:
        near = times > segment.start - MARGIN_SECONDS
        near &= times < segment.end + MARGIN_SECONDS
        active[speakers.index(segment.speaker), near] = 1
    return active


class Levels:
    """Powers of a recording's tracks and residual in frames, gathered from overlapping blocks.

    Parameters
    ----------
    n_samples, sample_rate : int
        Of the recording.

    Attributes
    ----------
    frame_seconds : float
        Length of a frame in seconds, a whole number of samples.
    """

    def __init__(self, n_samples: int, sample_rate: int) -> None:
        self._size = round(FRAME_SECONDS * sample_rate)
        self.frame_seconds = self._size / sample_rate
        self._residual = np.zeros(n_samples // self._size)
        self._sources: list[Array] = []
        self._stop = 0

    def add(self, start: int, sources: Array, residual: Array) -> None:
        """Add a block that starts at sample ``start``: (K, samples) and (samples,); K may grow.

        Its values count from the middle of its overlap with the block before.
        """
        first = -(-((start + self._stop) // 2 if self._stop > start else start) // self._size)
        last = (start + len(residual)) // self._size
        inside = slice(first * self._size - start, last * self._size - start)
        self._stop = start + len(residual)
        while len(self._sources) < len(sources):
            self._sources.append(np.zeros_like(self._residual))
        for kept, wave in zip([*self._sources, self._residual], [*sources, residual], strict=True):
            kept[first:last] = np.square(wave[inside].reshape(-1, self._size)).mean(1)

    @property
    def power(self) -> Array:
        """(K + 1, T), the residual last."""
        return np.stack([*self._sources, self._residual])


def write_rttm(path: Path, segments: Iterable[Segment], name: str) -> None:
    """Write segments of the recording ``name`` as RTTM (NIST 2009), in order of time.

    Spaces in names become underscores, as spaces separate the fields of RTTM. The file appears
    under its name only when it is complete.
    """
    lines = [
        f"SPEAKER {_word(name)} 1 {s.start:.3f} {s.duration:.3f} <NA> <NA> {_word(s.speaker)} "
        f"<NA> <NA>\n"
        for s in sorted(segments, key=lambda s: (s.start, s.speaker))
    ]
    write_text(path, "".join(lines))


def read_rttm(path: str | Path, name: str | None = None, *, exact: bool = False) -> list[Segment]:
    """Segments of an RTTM file, in its order.

    Parameters
    ----------
    path : path
    name : str, optional
        The recording whose segments are wanted, if the file covers several.
    exact : bool
        Insist on that name even if the file covers only one recording.

    Raises
    ------
    InputError
        If it cannot be read, has an invalid line, or has no segments of the recording.
    """
    lines = read_text(Path(path)).splitlines()
    fields = [(number, line.split()) for number, line in enumerate(lines, start=1)]
    spoken = [_segment(path, n, w) for n, w in fields if w[:1] == ["SPEAKER"]]
    if not spoken:
        raise InputError(f"{path}: no line of RTTM begins with SPEAKER")
    exact = exact or len({recording for recording, _ in spoken}) > 1
    wanted = [s for recording, s in spoken if name is None or not exact or recording == _word(name)]
    if not wanted:
        raise InputError(f"{path}: nothing is said of a recording called {name}")
    return wanted


def _word(name: str) -> str:
    return "_".join(name.split())


def _segment(path: str | Path, number: int, words: list[str]) -> tuple[str, Segment]:
    """Recording and segment of a line of ten fields; some files have only the first eight.

    More fields come from a name with spaces, and which field is which cannot be known.
    """
    try:
        _, recording, _, start, duration, _, _, speaker, *rest = words
        segment = Segment(speaker, float(start), float(duration))
        if len(rest) > 2:
            raise ValueError(rest)
    except ValueError:
        raise InputError(f"{path}, line {number}: not 'SPEAKER FILE 1 START SECONDS ...'") from None
    if segment.speaker == "<NA>":
        raise InputError(f"{path}, line {number}: no speaker")
    if not (0 <= segment.start < float("inf") and 0 < segment.duration < float("inf")):
        raise InputError(f"{path}, line {number}: not a stretch of time")
    return recording, segment
