"""Banks and other folders that are made once and read by many trainings."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fca.errors import InputError
from fca.files import write_json


@contextlib.contextmanager
def arrays(path: Path, what: str) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Those of an .npz file; an :class:`InputError` says that it is not `what` if they fail."""
    try:
        with np.load(path, allow_pickle=False) as found:
            yield found
    except (OSError, EOFError, KeyError, ValueError, TypeError, BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not {what} ({error})") from None


def check_made_with(record: Path, made_with: dict[str, Any]) -> None:
    """Refuse to continue a folder that was made with other options than its record says."""
    known = json.loads(record.read_text("utf-8")) if record.is_file() else made_with
    if known != made_with:
        raise InputError(f"{record.parent}: made with {known}, not {made_with}")
    write_json(record, made_with)
