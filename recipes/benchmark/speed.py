"""Time and memory of every method against the same method of other toolkits.

    python -m recipes.benchmark.speed -o OUT [--quick] [--only NAME ...]

Each measurement is a process of its own with a fixed number of threads. All compute the same:
as many sources as microphones, identity start, the same window and number of iterations, short-time
Fourier transforms included. Short ones are repeated in their process; rounds alternate between
toolkits; and the fastest of each counts.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fca.errors import InputError
from recipes import program
from recipes.benchmark.common import (
    Entry,
    Log,
    Only,
    Override,
    Quick,
    Settings,
    UserConfig,
    Waveform,
    code_version,
    describe,
    entries,
    markdown,
    settings,
    surroundings,
    thread_environment,
    write_json,
    write_text,
)

RATE = 16000
ENOUGH = 1.0
"""Seconds for which a measurement is repeated."""
BROKEN_OFF = ("LinAlgError", "singular matrices")
"""What the standard error of a separation that broke off holds: of a peer, and of ours."""


@dataclass(frozen=True)
class Size:
    """What is separated, and with how many threads; the shift is a quarter of the window."""

    channels: int
    seconds: float
    threads: int
    n_iter: int
    n_fft: int


@dataclass(frozen=True)
class Cost:
    """Wall-clock and processor seconds, and peak memory above that before the separation (MB)."""

    seconds: float
    processor: float
    memory: float


def sample(channels: int, seconds: float) -> Waveform:
    """As many modulated noises as channels, instantaneously mixed (channels, samples)."""
    rng = np.random.default_rng(0)
    samples = round(seconds * RATE)
    knots = rng.uniform(0, 1, (channels, max(2, round(4 * seconds)))) ** 4
    grid = np.linspace(0, knots.shape[1] - 1, samples)
    envelopes = np.stack([np.interp(grid, np.arange(len(row)), row) for row in knots])
    sources = envelopes * rng.standard_normal((channels, samples))
    waveform: Waveform = (rng.standard_normal((channels, channels)) @ sources).astype(np.float32)
    return 0.05 * waveform


def measure(entry: Entry, size: Size, timeout: float) -> Cost | None:
    """Cost of one separation in its own process; None if it breaks off or outlasts `timeout`."""
    task = json.dumps({"entry": asdict(entry), "size": asdict(size)})
    command = [sys.executable, "-m", "recipes.benchmark.speed", "--worker", task]
    environment = thread_environment(size.threads)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0 and any(words in done.stderr for words in BROKEN_OFF):
        return None
    if done.returncode != 0:
        reason = (done.stderr.splitlines() or ["?"])[-1].removeprefix("error: ")
        raise InputError(f"{entry.name} failed: {reason}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def work(task: str) -> Cost:
    """What the process of a measurement does."""
    import torch

    content = json.loads(task)
    entry, size = Entry(**content["entry"]), Size(**content["size"])
    torch.set_num_threads(size.threads)
    once = dataclasses.replace(entry, options={**entry.options, "n_iter": 1})
    once.separate(sample(size.channels, 1.0), RATE, size.channels, 0)  # imports, plans, caches
    mixture = sample(size.channels, size.seconds)
    before = _resident()
    costs = [_one_separation(entry, mixture, before)]
    while sum(cost.seconds for cost in costs) < ENOUGH:
        costs.append(_one_separation(entry, mixture, before))
    return dataclasses.replace(min(costs, key=_seconds), memory=costs[0].memory)


def _one_separation(entry: Entry, mixture: Waveform, before: float) -> Cost:
    """Cost of one separation, with `before` MB in use before the first."""
    began, began_processor = time.perf_counter(), time.process_time()
    entry.separate(mixture, RATE, len(mixture), 0)
    seconds, processor = time.perf_counter() - began, time.process_time() - began_processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Cost(seconds, processor, peak - before)


def _seconds(cost: Cost) -> float:
    return cost.seconds


def _resident() -> float:
    """Memory in use (MB); `ru_maxrss` knows the peak only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True)
class Match:
    """One of our methods and the peers that do the same."""

    ours: Entry
    peers: list[Entry]

    def sized(self, size: Size) -> list[Entry]:
        """All competitors with the settings of `size`, ours from the peers' start."""
        start = {} if self.ours.method == "cacgmm" else {"start": "identity"}
        same = {"n_iter": size.n_iter, "n_fft": size.n_fft, "hop": size.n_fft // 4}
        return [
            dataclasses.replace(self.ours, options={**self.ours.options, **same, **start}),
            *(dataclasses.replace(p, options={**p.options, **same}) for p in self.peers),
        ]


def matches(chosen: Settings, only: Sequence[str]) -> list[Match]:
    """Our methods that have a counterpart, with it."""
    from recipes.benchmark.peers import PEERS

    found = entries(chosen)
    peers = [entry for entry in found if entry.kind == "peer"]
    pairs = [
        Match(e, [p for p in peers if PEERS[p.method].counterpart == e.method])
        for e in found
        if e.kind == "method"
    ]
    return [m for m in pairs if m.peers and (not only or m.ours.name in only)]


def competing(match: Match, size: Size, chosen: Settings) -> list[Entry]:
    """Competitors that are measured at a size."""
    largest = chosen.get("largest") or {}
    return [entry for entry in match.sized(size) if fits(size, largest.get(entry.name, {}))]


def fits(size: Size, largest: Mapping[str, float]) -> bool:
    """Whether a size is within the `channels` and `seconds` that are still measured."""
    return all(getattr(size, name) <= limit for name, limit in largest.items())


def compare(match: Match, size: Size, chosen: Settings) -> dict[str, Any]:
    """The cheapest of some alternating rounds for each competitor; None for one too slow."""
    costs: dict[str, list[Cost]] = {entry.name: [] for entry in match.sized(size)}
    competitors = competing(match, size, chosen)
    for _ in range(chosen["rounds"] if len(competitors) > 1 else 0):
        for entry in list(competitors):
            cost = measure(entry, size, chosen["timeout"])
            if cost is None:
                competitors.remove(entry)
            else:
                costs[entry.name].append(cost)
    return {
        name: asdict(min(found, key=_seconds)) if found else None for name, found in costs.items()
    }


def run(chosen: Settings, only: Sequence[str], log: Log) -> list[Settings]:
    """All measurements, told one by one on the standard error; those in the log are kept."""
    rows, version = [], code_version()
    competitors = matches(chosen, only)
    for numbers in itertools.product(chosen["channels"], chosen["seconds"], chosen["threads"]):
        size = Size(*numbers, chosen["n_iter"], chosen["n_fft"])
        for match in competitors:
            found = [[entry.name, dict(entry.options)] for entry in competing(match, size, chosen)]
            key = {"method": match.ours.name, "size": asdict(size), "entries": found}
            key |= {"rounds": chosen["rounds"], "timeout": chosen["timeout"], "code": version}
            row = log.find(key)
            if row is None:
                row = log.add(key, {"costs": compare(match, size, chosen)})
            rows.append(row)
            typer.echo(f"{match.ours.name}: {' | '.join(_line(row))}", err=True)
    return rows


def table(rows: list[Settings]) -> str:
    """One Markdown table per method: seconds and memory of each toolkit, ratios to ours."""
    parts = []
    for method in dict.fromkeys(row["key"]["method"] for row in rows):
        chosen = [r for r in rows if r["key"]["method"] == method and any(r["costs"].values())]
        if not chosen:
            continue
        names = list(chosen[0]["costs"])
        header = ["channels × length, threads", "fca"]
        header += [label for name in names[1:] for label in (name, "ratio")]
        parts.append(f"### {method}\n\n{markdown(header, map(_line, chosen))}")
    return "\n".join(parts)


def _line(row: Settings) -> list[str]:
    size = row["key"]["size"]
    ours, *peers = row["costs"].values()
    cells = [f"{size['channels']} × {size['seconds']:g} s, {size['threads']}", _cell(ours)]
    for peer in peers:
        ratio = f"**{peer['seconds'] / ours['seconds']:.1f}**" if ours and peer else ""
        cells += [_cell(peer), ratio]
    return cells


def _cell(cost: dict[str, float] | None) -> str:
    return f"{cost['seconds']:.2f} s, {cost['memory']:.0f} MB" if cost else "no result"


def main(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="folder to write")] = None,
    config: UserConfig = None,
    quick: Quick = False,
    override: Override = None,
    only: Only = None,
    worker: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time every method against its counterparts."""
    if worker is not None:
        typer.echo(json.dumps(asdict(work(worker))))
        return
    if output is None:
        raise typer.BadParameter("give a folder with --output")
    chosen = settings("speed", config, quick, override or [])
    rows = run(chosen, only or [], Log(output / "speed.jsonl"))
    facts = surroundings()
    text = (
        f"# Speed\n\n{chosen['n_iter']} iterations from the same start, as many sources as "
        f"microphones, window {chosen['n_fft']}, shift a quarter, 16 kHz; best of "
        f"{chosen['rounds']} alternating rounds of {ENOUGH:g} s. The ratio is the peer's time over "
        "ours; memory is the peak above that before the call. Without result: not measured at this "
        f"size, broken off, or longer than {chosen['timeout']:g} s.\n"
        f"{describe(facts)}\n\n{table(rows)}"
    )
    write_text(output / "speed.md", text)
    write_json(output / "speed.json", {"surroundings": facts, "rows": rows})
    typer.echo(text)


if __name__ == "__main__":
    program.run(main)
