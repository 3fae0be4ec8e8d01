"""Who speaks when: activities of separated sources, and RTTM files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fca.errors import InputError
from fca.files import write_text


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


def write_rttm(path: Path, segments: Iterable[Segment], name: str) -> None:
    """Write segments of the recording ``name`` as RTTM (NIST 2009), in order of time.

    The file appears under its name only when it is complete.
    """
    lines = [
        f"SPEAKER {name} 1 {s.start:.3f} {s.duration:.3f} <NA> <NA> {s.speaker} <NA> <NA>\n"
        for s in sorted(segments, key=lambda s: (s.start, s.speaker))
    ]
    write_text(path, "".join(lines))


def read_rttm(path: str | Path) -> list[Segment]:
    """Segments of an RTTM file, in its order.

    Raises
    ------
    InputError
        If it cannot be read, has a line that is none of RTTM, or names nobody.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    fields = [(number, line.split()) for number, line in enumerate(lines, start=1)]
    spoken = [_segment(path, n, words) for n, words in fields if words[:1] == ["SPEAKER"]]
    if not spoken:
        raise InputError(f"{path}: no line of RTTM begins with SPEAKER")
    return spoken


def _segment(path: str | Path, number: int, words: list[str]) -> Segment:
    try:
        segment = Segment(words[7], float(words[3]), float(words[4]))
    except (IndexError, ValueError):
        raise InputError(f"{path}, line {number}: not 'SPEAKER FILE 1 START SECONDS ...'") from None
    if not (0 <= segment.start < float("inf") and 0 < segment.duration < float("inf")):
        raise InputError(f"{path}, line {number}: not a stretch of time")
    return segment
