"""What came out: scores of every method on every recording, and their tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fca.errors import InputError
from fca.evaluation.diarization import diarization_errors
from fca.evaluation.metrics import check_metrics, summarise
from fca.evaluation.pairing import REFERENCES, find_pairs
from fca.evaluation.report import LABELS, summary_cell
from fca.evaluation.scores import score
from fca.files import write_json, write_text
from fca.simulate.stored import Item, load
from recipes.benchmark.common import Log, describe, markdown, surroundings
from recipes.benchmark.tables import over
from recipes.corpora.recipe import Recipe

Row = dict[str, Any]
DIARIZATION = ("DER", "missed", "false alarm", "confusion")


def evaluate(recipe: Recipe) -> str:
    """Score what is separated and is not scored yet; writes `results.md` and `results.json`."""
    log, items = Log(recipe.place("scores.jsonl")), load(recipe.place("set"))
    real = all("files" in item.row for item in items)
    if not real:
        check_metrics(recipe.metrics, recipe.protocol)
    rows: list[Row] = []
    for name in recipe.fitted_methods():
        rows += _of_meetings(recipe, name, items, log) if real else _of_set(recipe, name, log)
    if not rows:
        raise InputError(f"{recipe.place('separated')}: nothing is separated yet")
    facts = surroundings()
    tables = diarization_table(rows) if real else separation_tables(rows, recipe.yardstick)
    text = f"{_caption(recipe, items, real)}\n{describe(facts)}\n\n{tables}"
    write_json(recipe.place("results.json"), {"surroundings": facts, "rows": rows})
    write_text(recipe.place("results.md"), text)
    return text


def separation_tables(rows: Sequence[Row], yardstick: str | None) -> str:
    """One table per condition: scores, improvements, and SI-SDR over that of the yardstick."""
    parts = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        chosen = [row for row in rows if row["condition"] == condition]
        names = list(chosen[0]["scores"])
        methods = list(dict.fromkeys(row["key"]["method"] for row in chosen))
        compared = yardstick if "si_sdr" in names and yardstick in methods else None
        first = [row for row in chosen if row["key"]["method"] == methods[0]]
        lines = [["mixture", *_cells(first, names, "mixture"), *[""] * (compared is not None)]]
        for method in methods:
            own = [row for row in chosen if row["key"]["method"] == method]
            gain = [] if compared is None else [_gain(own, chosen, compared)]
            lines.append([method, *_cells(own, names, "scores"), *gain])
        header = ["", *(LABELS[name] for name in names)]
        header += [] if compared is None else [f"SI-SDR over {compared}"]
        parts.append(f"## {condition} ({len(first)} mixtures)\n\n{markdown(header, lines)}")
    return "\n".join(parts)


def diarization_table(rows: Sequence[Row]) -> str:
    """Diarization error rate and its parts in per cent of the time spoken in all recordings."""
    lines = []
    for method in dict.fromkeys(row["key"]["method"] for row in rows):
        errors = [row["diarization"] for row in rows if row["key"]["method"] == method]
        spoken = sum(error["seconds"] for error in errors)
        shares = [sum(e[part] * e["seconds"] for e in errors) / spoken for part in DIARIZATION]
        lines.append([method, str(len(errors)), *(f"{100 * share:.1f}" for share in shares)])
    return markdown(["%", "meetings", *DIARIZATION], lines)


def _of_set(recipe: Recipe, method: str, log: Log) -> list[Row]:
    """Scores of a method on mixtures that have references."""
    separated, rows = recipe.place("separated", method), []
    pairs, problems = find_pairs(
        separated, recipe.place("set"), reference=recipe.reference, channel=recipe.channel
    )
    for pair in pairs:
        key = _key(method, separated / pair.name) | {
            "metrics": list(recipe.metrics),
            "protocol": recipe.protocol,
            "reference": recipe.reference,
        }
        rows.append(
            log.find(key) or log.add(key, score(pair, pair.read(), recipe.metrics, recipe.protocol))
        )
    if problems:
        print(f"{method}: {len(problems)} not separated")
    return rows


def _of_meetings(recipe: Recipe, method: str, items: Sequence[Item], log: Log) -> list[Row]:
    """Diarization errors of a method on recordings without separated references."""
    rows = []
    for item in items:
        found = recipe.place("separated", method, item.id)
        if not (found / "separation.json").is_file():
            print(f"{method}: {item.id} is not separated")
            continue
        key, reference = _key(method, found), Path(item.row["rttm"])
        if (row := log.find(key)) is None:
            errors = diarization_errors(reference, found / "activity.rttm")
            row = log.add(key, {"condition": item.condition, "diarization": errors})
        rows.append(row)
    return rows


def _key(method: str, folder: Path) -> Row:
    """What a score belongs to: a method, a recording, and how it was separated."""
    made = json.loads((folder / "separation.json").read_text("utf-8"))
    return {"method": method, "item": folder.name, "made": made["settings"]}


def _cells(rows: Sequence[Row], names: Sequence[str], kind: str) -> list[str]:
    """Means and intervals of the scores, or of those of the mixtures, where these are known."""
    known = [kind == "scores" or all(name in row["improvement"] for row in rows) for name in names]
    return [
        summary_cell(summarise([_values(row, name, kind) for row in rows])) if there else ""
        for name, there in zip(names, known, strict=True)
    ]


def _values(row: Row, name: str, kind: str) -> Any:
    scores = _numbers(row["scores"], name)
    with np.errstate(invalid="ignore"):
        return scores - _numbers(row["improvement"], name) if kind == "mixture" else scores


def _numbers(values: Row, name: str) -> Any:
    return np.array(values[name], dtype=float)


def _gain(own: Sequence[Row], rows: Sequence[Row], yardstick: str) -> str:
    """SI-SDR over that of the yardstick; nothing for itself."""
    others = [row for row in rows if row["key"]["method"] == yardstick]
    gain = over(own, others, lambda row: _numbers(row["scores"], "si_sdr"))
    return "" if own[0]["key"]["method"] == yardstick else summary_cell(gain)


def _caption(recipe: Recipe, items: Sequence[Item], real: bool) -> str:
    title = f"# {recipe.layout}: {len(items)} recordings\n\n"
    if real:
        return f"{title}No collar; overlapped speech counts (pyannote.metrics)."
    first = items[0].row
    return (
        f"{title}{first['channels']} channels at {first['sample_rate']} Hz. Reference: "
        f"{recipe.reference}, {REFERENCES[recipe.reference]}, at channel {recipe.channel}; SDR by "
        f"{recipe.protocol}. Mean over mixtures ± 95 % confidence interval; seed {recipe.seed}."
    )
