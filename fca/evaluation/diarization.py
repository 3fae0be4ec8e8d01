"""Diarization error rate. Needs pyannote.metrics (the extra ``diarize``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fca.errors import InputError
from fca.extras import require

__all__ = ["diarization_errors", "require_pyannote"]

_PARTS = {"missed detection": "missed", "false alarm": "false alarm", "confusion": "confusion"}


def diarization_errors(reference: Path, estimate: Path, collar: float = 0.0) -> dict[str, float]:
    """Diarization error rate and its parts, relative to the time spoken (NIST 2009).

    Overlapped speech counts. Talkers are matched by the assignment of least confusion.

    Parameters
    ----------
    reference, estimate : RTTM files of one recording each
    collar : seconds around reference boundaries that are not scored, half on either side

    Returns
    -------
    dict
        "DER", "missed", "false alarm", "confusion" (fractions) and "seconds" spoken. Where nobody
        speaks in the reference the fractions are NaN.

    Raises
    ------
    InputError
        If a file is not RTTM of a single recording, or pyannote.metrics is not installed.
    """
    require_pyannote()
    from pyannote.core import Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    truth, guess = _annotation(reference), _annotation(estimate)
    everything = truth.get_timeline().union(guess.get_timeline()).extent()
    metric = DiarizationErrorRate(collar=collar)
    parts = metric(truth, guess, uem=Timeline([everything]), detailed=True)
    spoken = float(parts["total"])
    share = {ours: float(parts[theirs]) for theirs, ours in _PARTS.items()}
    shares = {name: t / spoken if spoken else float("nan") for name, t in share.items()}
    return {"DER": sum(shares.values()), **shares, "seconds": spoken}


def require_pyannote() -> None:
    """Raise :class:`InputError` if pyannote.metrics is not installed."""
    for module in ("pyannote.database", "pyannote.metrics.diarization"):
        require(module, "diarize", "DER needs")


def _annotation(path: Path) -> Any:
    """Annotation of the only recording in an RTTM file; in an empty file nobody speaks.

    Turns of one speaker that overlap are one.
    """
    from pyannote.core import Annotation
    from pyannote.database import util

    load: Any = util.load_rttm
    try:
        recordings = load(path) if path.read_text("utf-8").strip() else {"": Annotation()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as RTTM ({error})") from None
    if len(recordings) != 1:
        raise InputError(f"{path}: RTTM of {len(recordings)} recordings where one is expected")
    (annotation,) = recordings.values()
    return annotation.support()
