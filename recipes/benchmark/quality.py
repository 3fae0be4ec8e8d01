"""How well every method separates an evaluation set: improvement and real-time factor.

    python -m recipes.benchmark.quality SET_FOLDER -o OUT [--quick] [--only NAME ...]

The reference is the image at the first microphone, or what `quality.reference` of the configuration
names: `early` is the image without late reverberation.

Scores are appended to OUT/scores.jsonl as they come, and a rerun continues there; then
OUT/quality.md and OUT/quality.json are written.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fca.errors import InputError
from fca.metrics import Summary, evaluate, summarise
from fca.simulated import Item, load
from recipes.benchmark.common import (
    Entry,
    Log,
    Only,
    Override,
    Quick,
    Settings,
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

REFERENCES = {"images": "reverberant images", "early": "early images (50 ms)"}
METRICS = {"sdr": "SDRi", "sir": "SIRi", "si_sdr": "SI-SDRi"}


def score(entry: Entry, item: Item, seed: int, reference: str = "images") -> Settings:
    """Separate one mixture and score it against a part of the item at channel 0.

    A source that came out NaN or infinite counts as silent, as do all of a run that broke off on
    a singular matrix.
    """
    mixture, references = item.read("mixture"), item.read(reference)[:, 0]
    began = time.perf_counter()
    try:
        estimates = entry.separate(mixture, item.sample_rate, item.n_talkers, seed)
    except np.linalg.LinAlgError:
        estimates = np.zeros_like(references)
    seconds = time.perf_counter() - began
    finite = np.isfinite(estimates).all(axis=-1, keepdims=True)
    estimates = np.where(finite, estimates, 0)
    scores = evaluate(
        references, estimates, item.sample_rate, mixture=mixture[0], metrics=list(METRICS)
    )
    return {
        "entry": entry.name,
        "condition": item.condition,
        "duration": mixture.shape[-1] / item.sample_rate,
        "seconds": seconds,
        "improvement": {name: values.tolist() for name, values in scores.improvement.items()},
    }


def run(
    competitors: list[Entry],
    items: list[Item],
    log: Log,
    *,
    seed: int,
    jobs: int,
    threads: int,
    reference: str = "images",
) -> list[Settings]:
    """Results of all competitors on all items; those in the log already are taken from there."""
    wanted = [
        (_key(entry, item, seed, reference), entry, item) for entry in competitors for item in items
    ]
    os.environ.update(thread_environment(threads))  # inherited by processes that start afresh
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        tasks = {
            pool.submit(score, entry, item, seed, reference): key
            for key, entry, item in wanted
            if log.find(key) is None
        }
        for task in as_completed(tasks):
            log.add(tasks[task], task.result())
    return [row for key, _, _ in wanted if (row := log.find(key)) is not None]


def _key(entry: Entry, item: Item, seed: int, reference: str = "images") -> Settings:
    """What a score belongs to."""
    other = {} if reference == "images" else {"reference": reference}
    return {
        **other,
        "entry": entry.name,
        "options": dict(entry.options),
        "item": item.id,
        "made": item.row["recipe"],
        "seed": seed,
    }


def table(rows: list[Settings], competitors: list[Entry]) -> str:
    """One Markdown table per condition: mean and 95 % interval, and the real-time factor."""
    parts = []
    for condition in dict.fromkeys(row["condition"] for row in rows):
        chosen = [row for row in rows if row["condition"] == condition]
        lines = [_line(entry.name, chosen) for entry in competitors]
        count = len({row["key"]["item"] for row in chosen})
        header = ["", *METRICS.values(), "RTF"]
        parts.append(f"### {condition} ({count} mixtures)\n\n{markdown(header, lines)}")
    return "\n".join(parts)


def _line(name: str, rows: Iterable[Settings]) -> list[str]:
    rows = [row for row in rows if row["entry"] == name]
    summaries = [summarise([row["improvement"][metric] for row in rows]) for metric in METRICS]
    factor = np.mean([row["seconds"] / row["duration"] for row in rows])
    return [name, *map(_cell, summaries), f"{factor:.2f}"]


def _cell(summary: Summary) -> str:
    lost = f" ({summary.excluded} left out)" if summary.excluded else ""
    return f"{summary}{lost}"


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
    log = Log(output / "scores.jsonl")
    reference = chosen.get("reference", "images")
    rows = run(competitors, items, log, seed=seed, jobs=jobs, threads=threads, reference=reference)
    facts = surroundings() | {"set": folder.name, "seed": seed, "threads": threads}
    text = (
        f"# Separation quality on `{folder.name}`\n\n"
        f"Improvement over the mixture (dB) against {REFERENCES[reference]} at the first "
        "microphone: mean over mixtures ± 95 % confidence interval. RTF is the time taken over the "
        f"mixture's duration with {threads} thread(s), {jobs} at a time; seed {seed}.\n"
        f"{describe(facts)}\n\n{table(rows, competitors)}"
    )
    write_text(output / "quality.md", text)
    write_json(output / "quality.json", {"surroundings": facts, "rows": rows})
    typer.echo(text)


if __name__ == "__main__":
    typer.run(main)
