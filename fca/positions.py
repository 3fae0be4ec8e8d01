"""Where the microphones of an array are, from what people write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fca.errors import InputError
from fca.files import read_text

__all__ = ["SPEED_OF_SOUND", "parse_positions", "read_positions"]

SPEED_OF_SOUND = 343.0
"""In m/s, at 20 °C."""


def parse_positions(text: str) -> NDArray[np.float64]:
    """Positions of microphones, one ``x, y[, z]`` in metres a line.

    Lines may be parted by semicolons and numbers by spaces; empty lines, lines that begin with #
    and a line of the names ``x, y, z`` are passed over. A JSON list of lists does as well.

    Returns
    -------
    (M, 3)
        In the order of the channels; z is 0 where it is not given.

    Raises
    ------
    InputError
        If that is not what the text holds.
    """
    rows = _json(text) if text.lstrip().startswith("[") else _lines(text)
    sizes = {len(row) for row in rows}
    if sizes != {2} and sizes != {3}:
        raise InputError("positions of microphones are x, y or x, y, z in metres, one a line")
    found = np.zeros((len(rows), 3))
    found[:, : sizes.pop()] = rows
    if not np.isfinite(found).all():
        raise InputError("positions of microphones must be finite numbers")
    return found


def read_positions(path: Path) -> NDArray[np.float64]:
    """:func:`parse_positions` of a file.

    Raises
    ------
    InputError
        If it cannot be read, or holds something else.
    """
    text = read_text(path)
    try:
        return parse_positions(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _json(text: str) -> list[list[float]]:
    try:
        rows: Any = json.loads(text)
        return [[float(value) for value in row] for row in rows]
    except (TypeError, ValueError) as error:
        raise InputError(f"no list of positions ({error})") from None


def _lines(text: str) -> list[list[float]]:
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    cells = [line.replace(",", " ").split() for line in lines if line and not line.startswith("#")]
    if cells and [cell.lower() for cell in cells[0]] in (["x", "y"], ["x", "y", "z"]):
        del cells[0]
    try:
        return [[float(cell) for cell in row] for row in cells]
    except ValueError as error:
        raise InputError(f"no position of a microphone ({error})") from None
