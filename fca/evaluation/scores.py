"""Scores of recordings as plain numbers, and their summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fca.evaluation.diarization import diarization_errors
from fca.evaluation.metrics import Summary, evaluate, summarise
from fca.evaluation.pairing import Pair, Signals

__all__ = ["finite_json", "score", "summarise_rows"]

Row = dict[str, Any]


def score(pair: Pair, signals: Signals, metrics: Sequence[str], protocol: str) -> Row:
    """Scores of one recording as plain numbers, with one list entry per talker."""
    found = evaluate(
        signals.references,
        signals.estimates,
        signals.sample_rate,
        mixture=signals.mixture,
        metrics=metrics,
        protocol=protocol,
    )
    row = {
        "id": pair.name,
        "condition": pair.condition,
        "duration": signals.references.shape[1] / signals.sample_rate,
        "permutation": found.permutation,
        "scores": {name: values.tolist() for name, values in found.values.items()},
        "improvement": {name: values.tolist() for name, values in found.improvement.items()},
    }
    if pair.activities:
        row["diarization"] = diarization_errors(*pair.activities)
    return row


def summarise_rows(rows: Sequence[Row]) -> dict[str, dict[str, Summary]]:
    """Condition -> name -> mean and interval; "sdr" is a score, "sdr improvement" its improvement.

    All recordings together come first, as "all".
    """
    groups = {"all": list(rows)}
    for row in rows:
        groups.setdefault(row["condition"], []).append(row)
    groups["all"] = list(rows)
    return {name: _summaries(group) for name, group in groups.items()}


def _summaries(rows: Sequence[Row]) -> dict[str, Summary]:
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, values in row["scores"].items():
            columns.setdefault(name, []).append(values)
        for name, values in row["improvement"].items():
            columns.setdefault(f"{name} improvement", []).append(values)
        if "diarization" in row:
            columns.setdefault("DER", []).append([row["diarization"]["DER"]])
    return {name: summarise(values) for name, values in columns.items()}


def finite_json(value: Any) -> Any:
    """``value`` for strict JSON: undefined becomes null, infinite scores "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {key: finite_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
