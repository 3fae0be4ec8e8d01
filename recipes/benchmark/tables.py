"""Scores as tables for people and as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fca.errors import InputError
from fca.evaluation.metrics import Summary, summarise
from recipes.benchmark.common import Entry, Settings, markdown
from recipes.benchmark.scoring import METRICS

_PARTS = ("surroundings", "entries", "rows")
_SCORES = ("entry", "condition", "improvement")


def table(rows: list[Settings], competitors: list[Entry], yardstick: str | None = None) -> str:
    """One Markdown table per condition: mean and 95 % interval, and the real-time factor.

    With a `yardstick`, the name of an entry, the SI-SDR over its own on the same mixtures, too.
    """
    parts = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        chosen = [row for row in rows if row["condition"] == condition]
        measured = yardstick if any(row["entry"] == yardstick for row in chosen) else None
        present = {row["entry"] for row in chosen}
        lines = [_line(e.name, chosen, measured) for e in competitors if e.name in present]
        count = len({row["key"]["item"] for row in chosen})
        header = ["", *METRICS.values(), "RTF"] + ["over yardstick"] * (measured is not None)
        parts.append(f"### {condition} ({count} mixtures)\n\n{markdown(header, lines)}")
    return "\n".join(parts)


def failures(rows: Sequence[Settings]) -> str:
    """What broke off, and why; nothing if nothing did."""
    lines = [f"- {r['entry']}, {r['key']['item']}: {r['error']}\n" for r in rows if "error" in r]
    return f"\n### Broke off\n\n{''.join(lines)}" if lines else ""


def compact(facts: Settings, competitors: Sequence[Entry], rows: Sequence[Settings]) -> str:
    """JSON of a benchmark, one line per score."""
    described = {
        e.name: {"kind": e.kind, "method": e.method, "options": dict(e.options)}
        for e in competitors
    }
    lines = ",\n".join(json.dumps(_short(row)) for row in rows)
    head = json.dumps({"surroundings": facts, "entries": described}, indent=1)
    return f'{head[:-2]},\n "rows": [\n{lines}\n]}}\n'


def read(path: Path) -> dict[str, Any]:
    """What :func:`compact` has written.

    Raises
    ------
    InputError
        If there is no such file, or it holds something else.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        for part, names in [(content, _PARTS), *((row, _SCORES) for row in content["rows"])]:
            if absent := [name for name in names if name not in part]:
                raise ValueError(f"without {', '.join(absent)}")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: no results of the benchmark ({error})") from None
    return content


def real_time_factor(rows: Sequence[Settings]) -> float:
    """Mean time over duration; NaN where none was taken."""
    factors = [row["seconds"] / row["duration"] for row in rows if row["seconds"] is not None]
    return float(np.mean(factors)) if factors else float("nan")


def over(
    own: Sequence[Settings], others: Sequence[Settings], decibels: Callable[[Settings], Any]
) -> Summary:
    """How far rows are over others, mixture by mixture."""
    return summarise([decibels(ours) - decibels(base) for ours, base in paired(own, others)])


def paired(own: Sequence[Settings], others: Sequence[Settings]) -> list[tuple[Settings, Settings]]:
    """Rows, each with the other one of the same mixture, where there is one."""
    theirs = {_item(row): row for row in others}
    return [(row, theirs[_item(row)]) for row in own if _item(row) in theirs]


def _item(row: Settings) -> str:
    """The mixture of a row; those of `quality.json` have no key."""
    item: str = row["item"] if "item" in row else row["key"]["item"]
    return item


def _short(row: Settings) -> Settings:
    improvement = {
        name: [round(v, 3) if isinstance(v, float) else v for v in values]
        for name, values in row["improvement"].items()
    }
    seconds = None if row["seconds"] is None else round(row["seconds"], 3)
    kept = {"entry": row["entry"], "condition": row["condition"], "item": row["key"]["item"]}
    kept |= {"duration": row["duration"], "seconds": seconds, "improvement": improvement}
    return kept | ({"error": row["error"]} if "error" in row else {})


def _line(name: str, rows: Sequence[Settings], yardstick: str | None) -> list[str]:
    own = [row for row in rows if row["entry"] == name]
    summaries = [summarise([row["improvement"][metric] for row in own]) for metric in METRICS]
    factor = real_time_factor(own)
    line = [name, *map(_cell, summaries), "" if np.isnan(factor) else f"{factor:.2f}"]
    if yardstick is not None:
        others = [row for row in rows if row["entry"] == yardstick]
        line.append("" if name == yardstick else _cell(over(own, others, _decibels)))
    return line


def _decibels(row: Settings) -> Any:
    return np.array(row["improvement"]["si_sdr"], dtype=float)


def _cell(summary: Summary) -> str:
    lost = f" ({summary.excluded} left out)" if summary.excluded else ""
    return f"{summary}{lost}"
