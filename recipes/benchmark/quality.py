"""How well every method separates an evaluation set: improvement and real-time factor.

    python -m recipes.benchmark.quality SET_FOLDER -o OUT [--quick] [--only NAME ...]

Scores are appended to OUT/scores.jsonl as they come, and a rerun continues there; then
OUT/quality.md and OUT/quality.json are written.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fca.errors import InputError
from fca.metrics import Summary, evaluate, summarise
from recipes.benchmark.common import (
    Entry,
    Only,
    Override,
    Quick,
    UserConfig,
    describe,
    entries,
    markdown,
    settings,
    surroundings,
    thread_environment,
    write_json,
    write_text,
)
from recipes.benchmark.data import Item, load

Row = dict[str, Any]
METRICS = {"sdr": "SDRi", "sir": "SIRi", "si_sdr": "SI-SDRi"}


def score(entry: Entry, item: Item, seed: int) -> Row:
    """Separate one mixture and score it against the reverberant images at channel 0."""
    mixture, references = item.read("mixture"), item.references()
    began = time.perf_counter()
    estimates = entry.separate(mixture, item.sample_rate, item.n_talkers, seed)
    seconds = time.perf_counter() - began
    scores = evaluate(
        references, estimates, item.sample_rate, mixture=mixture[0], metrics=list(METRICS)
    )
    improvement = {name: values.tolist() for name, values in scores.improvement.items()}
    return key(entry, item, seed) | {
        "condition": item.condition,
        "duration": mixture.shape[-1] / item.sample_rate,
        "seconds": seconds,
        "improvement": improvement,
    }


def key(entry: Entry, item: Item, seed: int) -> Row:
    """What a score belongs to."""
    options = json.loads(json.dumps(dict(entry.options)))
    return {"entry": entry.name, "item": item.id, "options": options, "seed": seed}


def run(
    competitors: list[Entry], items: list[Item], log: Path, *, seed: int, jobs: int, threads: int
) -> list[Row]:
    """Rows of all competitors on all items; those in the log already are taken from there."""
    done = _read_log(log)
    wanted = {_name(key(e, i, seed)): (e, i) for e in competitors for i in items}
    missing = [pair for name, pair in wanted.items() if name not in done]
    os.environ.update(thread_environment(threads))  # inherited by processes that start afresh
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool, log.open("a") as file:
        tasks = {pool.submit(score, entry, item, seed): entry for entry, item in missing}
        for task in as_completed(tasks):
            row = task.result()
            done[_name(row)] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
    return [done[name] for name in wanted]


def table(rows: list[Row], competitors: list[Entry]) -> str:
    """One Markdown table per condition: mean and 95 % interval, and the real-time factor."""
    parts = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        chosen = [row for row in rows if row["condition"] == condition]
        lines = [_line(entry.name, chosen) for entry in competitors]
        count = len({row["item"] for row in chosen})
        header = ["", *METRICS.values(), "RTF"]
        parts.append(f"### {condition} ({count} mixtures)\n\n{markdown(header, lines)}")
    return "\n".join(parts)


def _line(name: str, rows: Iterable[Row]) -> list[str]:
    rows = [row for row in rows if row["entry"] == name]
    summaries = [summarise([row["improvement"][metric] for row in rows]) for metric in METRICS]
    factor = np.mean([row["seconds"] / row["duration"] for row in rows])
    return [name, *map(_cell, summaries), f"{factor:.2f}"]


def _cell(summary: Summary) -> str:
    lost = f" ({summary.excluded} left out)" if summary.excluded else ""
    return f"{summary}{lost}"


def _name(row: Row) -> str:
    return json.dumps([row[part] for part in ("entry", "item", "options", "seed")], sort_keys=True)


def _read_log(log: Path) -> dict[str, Row]:
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.is_file():
        return {}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {_name(row): row for row in rows}


def main(
    folder: Annotated[Path, typer.Argument(help="evaluation set")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    config: UserConfig = None,
    quick: Quick = False,
    override: Override = None,
    only: Only = None,
    seed: int = 0,
    jobs: int = 1,
    threads: int = 1,
) -> None:
    """Score every method and peer on an evaluation set."""
    try:
        chosen = settings("quality", config, quick, override or [])
        competitors = entries(chosen, only or [])
        items = load(folder)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    items = [item for item in items if item.row["recipe"]["index"] < chosen["items"]]
    log = output / "scores.jsonl"
    rows = run(competitors, items, log, seed=seed, jobs=jobs, threads=threads)
    facts = surroundings() | {"set": folder.name, "seed": seed, "threads": threads}
    text = (
        f"# Separation quality on `{folder.name}`\n\n"
        "Improvement over the mixture (dB) against reverberant images at the first microphone: "
        "mean over mixtures ± 95 % confidence interval. RTF is the time taken over the mixture's "
        f"duration with {threads} thread(s), {jobs} at a time; seed {seed}.\n"
        f"{describe(facts)}\n\n{table(rows, competitors)}"
    )
    write_text(output / "quality.md", text)
    write_json(output / "quality.json", {"surroundings": facts, "rows": rows})
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
