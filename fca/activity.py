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

    def segments(self, names: Iterable[str]) -> list[Segment]:
        """Stretches in which the talkers of these names speak, in order of time."""
        if not len(self._residual):
            return []
        return segments(activities(self.power, self.frame_seconds), names, self.frame_seconds)


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

    Turns that last no time are passed over. Lines that cannot be understood, and turns that begin
    before the recording, are refused, unless they are about other recordings.

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
    lines = _read_lines(path)
    if name is not None and (exact or len({line.recording for line in lines} - {None}) > 1):
        lines = [line for line in lines if line.recording in (None, _word(name))]
    _refuse_invalid(lines)
    if not lines:
        raise InputError(f"{path}: nothing is said of a recording called {name}")
    return _segments(path, lines)


def other_recording(path: str | Path, name: str) -> str | None:
    """The recording that an RTTM file is about if it is the only one and has another name."""
    named = {line.recording for line in _read_lines(path)} - {None}
    return None if len(named) != 1 or _word(name) in named else named.pop()


def check_rttm(path: str | Path) -> None:
    """Refuse an RTTM file that is of no use, whatever the recording.

    Raises
    ------
    InputError
        If it cannot be read, if nobody speaks in it, or if a line is invalid and it cannot be known
        which recording it is about.
    """
    lines = _read_lines(path)
    useful = any(line.segment for line in lines)
    _refuse_invalid(line for line in lines if line.recording is None or not useful)
    _segments(path, lines)


@dataclass(frozen=True)
class _Line:
    """What a line of RTTM says.

    Attributes
    ----------
    recording : str or None
        Which recording it is about; None if that cannot be known.
    segment : Segment or None
        None if it lasts no time, or the line is invalid.
    problem : str
        Why it is invalid; otherwise empty.
    """

    recording: str | None
    segment: Segment | None = None
    problem: str = ""


def _read_lines(path: str | Path) -> list[_Line]:
    """Lines of a file that begin with SPEAKER, of which there has to be one."""
    numbered = enumerate(read_text(Path(path)).splitlines(), start=1)
    fields = [(number, line.split()) for number, line in numbered]
    found = [_line(f"{path}, line {n}: ", words) for n, words in fields if words[:1] == ["SPEAKER"]]
    if not found:
        raise InputError(f"{path}: no line of RTTM begins with SPEAKER")
    return found


def _refuse_invalid(lines: Iterable[_Line]) -> None:
    for line in lines:
        if line.problem:
            raise InputError(line.problem)


def _segments(path: str | Path, lines: Iterable[_Line]) -> list[Segment]:
    found = [line.segment for line in lines if line.segment is not None]
    if not found:
        raise InputError(f"{path}: nobody speaks for any time")
    return found


def _word(name: str) -> str:
    return "_".join(name.split())


def _line(where: str, words: list[str]) -> _Line:
    """A line of ten fields; some files have only the first eight.

    More fields come from a name with spaces, and which field is which cannot be known. Fewer come
    from a line that was cut, maybe within the name of the recording.
    """
    recording = words[1] if 3 <= len(words) <= 10 else None
    try:
        _, _, _, start, duration, _, _, speaker, *rest = words
        begin, seconds = float(start), float(duration)
        if len(rest) > 2:
            raise ValueError(rest)
    except ValueError:
        return _Line(recording, None, f"{where}not 'SPEAKER FILE 1 START SECONDS ...'")
    if speaker == "<NA>":
        return _Line(recording, None, f"{where}no speaker")
    if not (abs(begin) < float("inf") and 0 <= seconds < float("inf")):
        return _Line(recording, None, f"{where}not a stretch of time")
    if begin < 0:
        return _Line(recording, None, f"{where}begins before the recording, at {begin:g} s")
    return _Line(recording, Segment(speaker, begin, seconds) if seconds > 0 else None)
