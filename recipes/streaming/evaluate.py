"""Streaming beside offline separation: improvement in every part of the signal, and CPU time.

    python -m recipes.streaming.evaluate SET_FOLDER -o OUT [--parts 4] [--items K]

Scores are appended to OUT/scores.jsonl as they come, and a rerun of the same code continues there;
then OUT/streaming.md and OUT/streaming.json are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

import fca
from fca.evaluation.metrics import evaluate, summarise
from fca.simulate.stored import Item, load
from recipes import program
from recipes.benchmark.common import (
    Log,
    Settings,
    code_version,
    describe,
    markdown,
    surroundings,
    write_json,
    write_text,
)

Array = NDArray[np.floating[Any]]
Separate = Callable[..., Array]
"""Sources of a mixture (M, samples), given its rate, the number of talkers and a seed."""

CHUNK_SECONDS = 0.1


def online(mixture: Array, rate: int, n_sources: int, seed: int, **options: Any) -> Array:
    """Sources of a stream in chunks of 0.1 s, without the delay."""
    separator = fca.OnlineSeparator(rate, len(mixture), n_sources, seed=seed, **options)
    chunks = torch.split(torch.from_numpy(mixture), round(CHUNK_SECONDS * rate), dim=-1)
    sources = torch.cat([*map(separator.push, chunks), separator.flush()], dim=-1)
    return sources[:, separator.latency :].numpy()


def offline(method: str, **options: Any) -> Separate:
    """A method that sees the whole recording."""
    return lambda mixture, rate, n_sources, seed: fca.separate(
        mixture, rate, method=method, n_sources=n_sources, seed=seed, **options
    ).sources.numpy()


ENTRIES: dict[str, Separate] = {
    "streaming, 224 ms": online,
    "streaming, 128 ms": lambda x, rate, n, seed: online(x, rate, n, seed, block=1),
    "FastMNMF2, same window": offline("fastmnmf2", n_fft=2048),
    "FastMNMF2": offline("fastmnmf2"),
    "AuxIVA, same window": offline("auxiva", n_fft=2048),
}


def score(separate: Separate, item: Item, n_parts: int, seed: int = 0) -> Settings:
    """Mean SDR improvement of every part of an item, its talkers matched part by part."""
    mixture, references = item.read("mixture"), item.references()
    began = time.process_time()
    estimates = separate(mixture, item.sample_rate, item.n_talkers, seed)
    seconds = time.process_time() - began
    bounds = np.linspace(0, mixture.shape[1], n_parts + 1).astype(int)
    improvement, orders = [], []
    for start, end in pairwise(bounds):
        part = slice(start, end)
        scores = evaluate(
            references[:, part],
            estimates[:, part],
            item.sample_rate,
            mixture=mixture[0, part],
            metrics=["sdr"],
        )
        improvement.append(float(scores.improvement["sdr"].mean()))
        orders.append(scores.permutation)
    return {
        "improvement": improvement,
        "orders": orders,
        "cpu": seconds / (mixture.shape[1] / item.sample_rate),
    }


def table(rows: list[Settings]) -> str:
    """Markdown table: improvement in every part of the signal, swaps and CPU time."""
    lines = []
    for name in ENTRIES:
        chosen = [row for row in rows if row["key"]["entry"] == name]
        parts = zip(*(row["improvement"] for row in chosen), strict=True)
        swaps = sum(a != b for r in chosen for a, b in pairwise(r["orders"]))
        cpu = np.mean([row["cpu"] for row in chosen])
        cells = [str(summarise([[value] for value in part])) for part in parts]
        lines.append([name, *cells, str(swaps), f"{cpu:.2f}"])
    n_parts = len(rows[0]["improvement"])
    header = ["", *(f"part {k + 1} of {n_parts}" for k in range(n_parts)), "swaps", "CPU s / s"]
    return markdown(header, lines)


def main(
    folder: Annotated[Path, typer.Argument(help="an evaluation set")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the results")],
    parts: Annotated[int, typer.Option(help="parts of equal length that are scored apart")] = 4,
    items: Annotated[int | None, typer.Option(help="only the first so many mixtures")] = None,
    seed: int = 0,
) -> None:
    """Score the streaming separator and offline methods."""
    torch.set_num_threads(1)
    chosen = load(folder)[:items]
    log, version = Log(output / "scores.jsonl"), code_version()
    rows = []
    for name, separate in ENTRIES.items():
        for item in chosen:
            key = {"entry": name, "item": item.id, "made": item.row["recipe"], "parts": parts}
            key |= {"seed": seed, "code": version}
            rows.append(log.find(key) or log.add(key, score(separate, item, parts, seed)))
    facts = surroundings()
    caption = (
        f"SDR improvement in dB, mean ± 95 % interval over {len(chosen)} mixtures, in {parts} "
        "parts of equal length; swaps of talkers between parts; CPU time of one thread per second "
        f"of sound; seed {seed}. {describe(facts)} Code {version}.\n"
    )
    write_text(output / "streaming.md", f"# Streaming\n\n{table(rows)}\n{caption}")
    write_json(output / "streaming.json", {"surroundings": facts, "rows": rows})


if __name__ == "__main__":
    program.run(main)
