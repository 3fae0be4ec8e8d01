"""The files of the talkers of one recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fca import audio
from fca.separation import Separation


def write_talkers(files: Sequence[Path], separate: Callable[[], Separation]) -> None:
    """Separate and write one file per talker, unless all are there."""
    if all(file.is_file() for file in files):
        return
    result = separate()
    for file, source in zip(files, result.sources.cpu().numpy(), strict=True):
        audio.write(file, source, result.sample_rate)
