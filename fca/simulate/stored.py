"""Sets of simulated mixtures on disk, as :mod:`fca.simulate.sets` writes them.

A set is a folder with one subfolder per mixture (float WAV) and ``manifest.jsonl``, in which each
line is a JSON object with all that was drawn for a mixture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fca import audio
from fca.errors import InputError
from fca.files import read_text

__all__ = ["MANIFEST", "PARTS", "ROW", "Item", "load", "read_rows"]

PARTS = ("mixture", "images", "early", "dry")
MANIFEST = "manifest.jsonl"
ROW = "row.json"
"""In the folder of a mixture: its line of the manifest."""


@dataclass(frozen=True)
class Item:
    """One mixture of a set, whose waveforms are read on request.

    Its parts are ``mixture`` (channels, samples), ``images`` and ``early`` (talkers, channels,
    samples) and ``dry`` (talkers, samples).
    """

    folder: Path
    row: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Name that is unique within the set."""
        return str(self.row["id"])

    @property
    def condition(self) -> str:
        """Name of the kind of mixture."""
        return str(self.row["condition"])

    @property
    def n_talkers(self) -> int:
        """Number of talkers."""
        return len(self.row["talkers"])

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return int(self.row["sample_rate"])

    def file(self, part: str) -> Path:
        """Where one of `PARTS` lies."""
        return self.folder / f"{part}.wav"

    def read(self, part: str) -> NDArray[np.float32]:
        """Read one of `PARTS`."""
        waveform = audio.read(self.file(part))[0]
        if part in ("images", "early"):
            return waveform.reshape(self.n_talkers, -1, waveform.shape[-1])
        return waveform

    def references(self, channel: int = 0) -> NDArray[np.float32]:
        """Reverberant images (talkers, samples) at one channel: the default references."""
        return self.read("images")[:, channel]


def load(folder: str | Path) -> list[Item]:
    """All mixtures of a set in the manifest's order.

    Raises
    ------
    InputError
        If there is no manifest, or it holds something else.
    """
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise InputError(f"{manifest}: no such file; make the set with `fca simulate`")
    return [Item(Path(folder) / row["id"], row) for row in read_rows(manifest)]


def read_rows(manifest: Path) -> list[dict[str, Any]]:
    """Objects with an id, one a line; blank lines are passed over.

    Raises
    ------
    InputError
        If the file holds something else.
    """
    lines = read_text(manifest).splitlines()
    try:
        rows = [json.loads(line) for line in lines if line.strip()]
    except ValueError as error:
        raise InputError(f"{manifest}: not JSON lines ({error})") from None
    if not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
        raise InputError(f"{manifest}: each line needs an object with an id that is text")
    return rows
