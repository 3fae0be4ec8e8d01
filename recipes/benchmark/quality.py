"""How well every method separates an evaluation set: improvement and real-time factor.

    python -m recipes.benchmark.quality SET_FOLDER -o OUT [--quick] [--only NAME ...]

The reference is the image at the first microphone, or what `quality.reference` of the configuration
names: `early` is the image without late reverberation.

Scores are appended to OUT/scores.jsonl as they come, and a rerun of the same code continues there;
then OUT/quality.md and OUT/quality.json are written.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fca.errors import InputError
from fca.files import write_text
from fca.simulate.stored import Item, load
from recipes import program
from recipes.benchmark.common import (
    Entry,
    Log,
    Only,
    Override,
    Quick,
    Settings,
    UserConfig,
    code_version,
    describe,
    entries,
    settings,
    surroundings,
    thread_environment,
)
from recipes.benchmark.scoring import REFERENCES, Terms, lost, score
from recipes.benchmark.tables import compact, failures, table

Task = tuple[Settings, Entry, Item]


def run(
    competitors: list[Entry],
    items: list[Item],
    log: Log,
    terms: Terms,
    *,
    jobs: int = 1,
    threads: int = 1,
) -> list[Settings]:
    """Results of all competitors on all items; those in the log already are taken from there.

    Entries take turns on each mixture, so that all meet the machine in the same state.
    """
    version = code_version()
    pairs = [(entry, item) for item in items for entry in competitors if entry.fits(item)]
    circumstances = {**asdict(terms), "threads": threads, "jobs": jobs, "code": version}
    wanted = [(_key(entry, item, circumstances), entry, item) for entry, item in pairs]
    os.environ.update(thread_environment(threads))  # inherited by processes that start afresh
    missing = [task for task in wanted if log.find(task[0]) is None]
    unfinished = _submit(missing, log, jobs, terms)
    while unfinished:  # a process died: those that may have been in it go one by one
        suspects, rest = unfinished[: jobs + 1], unfinished[jobs + 1 :]
        for task in suspects:
            if _submit([task], log, 1, terms):
                log.add(task[0], lost(task[1], task[2], "the process died"))
        unfinished = _submit(rest, log, jobs, terms)
    return [row for key, _, _ in wanted if (row := log.find(key)) is not None]


def _submit(tasks: list[Task], log: Log, jobs: int, terms: Terms) -> list[Task]:
    """Score in parallel; returns, in order, the tasks without result because a process died."""
    if not tasks:
        return []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        futures = {pool.submit(score, e, item, terms): (k, e, item) for k, e, item in tasks}
        for future in as_completed(futures):
            if not isinstance(future.exception(), BrokenProcessPool):
                log.add(futures[future][0], future.result())
    return [t for f, t in futures.items() if isinstance(f.exception(), BrokenProcessPool)]


def _key(entry: Entry, item: Item, circumstances: Settings) -> Settings:
    """What a score belongs to."""
    return {
        "entry": entry.name,
        "method": entry.method,
        "options": dict(entry.options),
        "weights": entry.weights(),
        "item": item.id,
        "made": item.row["recipe"],
        **circumstances,
    }


def select(items: Sequence[Item], chosen: Settings) -> list[Item]:
    """The items of a configuration: so many of each condition, of some conditions or of all.

    Raises
    ------
    InputError
        If there are none.
    """
    wanted = chosen.get("conditions")
    found = [
        item
        for item in items
        if item.row["recipe"]["index"] < chosen["items"]
        and (wanted is None or item.condition in wanted)
    ]
    if not found:
        raise InputError(f"no mixtures of {wanted or 'any condition'} in the set")
    return found


def measure(
    folder: Path,
    output: Path,
    chosen: Settings,
    only: Sequence[str] = (),
    *,
    seed: int = 0,
    jobs: int = 1,
    threads: int = 1,
    echo: Callable[[str], None] = typer.echo,
) -> None:
    """Score the entries of a configuration on a set and write its tables."""
    competitors = entries(chosen, only)
    items = select(load(folder), chosen)
    terms = Terms(seed, chosen.get("reference", "images"), chosen.get("timeout", 900))
    log = Log(output / "scores.jsonl")
    rows = run(competitors, items, log, terms, jobs=jobs, threads=threads)
    facts = surroundings() | {
        "code": code_version(),
        "set": folder.name,
        "seed": seed,
        "reference": terms.reference,
        "threads": threads,
        "jobs": jobs,
    }
    yardstick = chosen.get("yardstick")
    text = _caption(facts, yardstick) + table(rows, competitors, yardstick) + failures(rows)
    write_text(output / "quality.md", text)
    write_text(output / "quality.json", compact(facts, competitors, rows))
    echo(text)


def _caption(facts: Settings, yardstick: str | None) -> str:
    compared = f" Last column: SI-SDR over that of {yardstick} on the same mixtures."
    return (
        f"# Separation quality on `{facts['set']}`\n\n"
        f"Improvement over the mixture (dB) against {REFERENCES[facts['reference']]} at the first "
        "microphone: mean over mixtures ± 95 % confidence interval. RTF is the time taken over the "
        f"mixture's duration with {facts['threads']} thread(s), {facts['jobs']} at a time; seed "
        f"{facts['seed']}. Ceilings, without RTF, know the talkers' spectra."
        f"{compared if yardstick else ''}\n"
        f"{describe(facts)} Code {facts['code']}.\n\n"
    )


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
    """Score every method, peer and ceiling on an evaluation set."""
    chosen = settings("quality", config, quick, override or [])
    measure(folder, output, chosen, only or [], seed=seed, jobs=jobs, threads=threads)


if __name__ == "__main__":
    program.run(main)
