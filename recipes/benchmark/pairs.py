"""Differences between entries on the same mixtures, which the spread over mixtures hides.

    python -m recipes.benchmark.pairs RESULTS/quality.json -o RESULTS/pairs.md --pair 'A > B' [...]

For every pair of entries: the mean difference in SDR improvement (dB) with its 95 % interval, in
how many mixtures the first is better, and its time relative to the second; over all conditions
whose names have the same last part (after a hyphen), then in each condition.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fca.errors import InputError
from fca.files import write_text
from recipes import program
from recipes.benchmark.common import markdown
from recipes.benchmark.tables import over, paired, read

Rows = list[dict[str, Any]]


def difference(rows: Rows, first: str, second: str) -> list[str]:
    """One line for a pair of entries, over the mixtures that both have."""
    own, others = ([row for row in rows if row["entry"] == name] for name in (first, second))
    gain, both = over(own, others, _gains), paired(own, others)
    better = sum(float((_gains(ours) - _gains(base)).mean()) > 0 for ours, base in both)
    seconds = [sum(row["seconds"] or math.nan for row in some) for some in zip(*both, strict=True)]
    return [
        f"{gain.mean:.1f} ± {gain.interval:.1f}",
        f"{better} of {len(both)}",
        f"{seconds[0] / seconds[1]:.1f}",
    ]


def _gains(row: dict[str, Any]) -> NDArray[np.float64]:
    return np.array(row["improvement"]["sdr"], dtype=float)


def page(results: Path, pairs: list[tuple[str, str]]) -> str:
    """Tables of the pairs, from a `quality.json`.

    Raises
    ------
    InputError
        If that cannot be read, or has no such entry.
    """
    content = read(results)
    for name in {name for pair in pairs for name in pair} - set(content["entries"]):
        raise InputError(f"{results}: no entry {name!r}; there are {list(content['entries'])}")
    facts, rows = content["surroundings"], content["rows"]
    parts = [
        f"# Paired differences on `{facts['set']}`\n\nSDR improvement in dB, mean over mixtures ± "
        f"95 % confidence interval; seed {facts['seed']}, {facts['date']}, code {facts['code']}.\n"
    ]
    for title, some in _groups(rows).items():
        lines = [[f"{a} over {b}", *difference(some, a, b)] for a, b in pairs]
        table = markdown(["", "difference", "better in", "time, ×"], lines)
        parts.append(f"### {title}\n\n{table}")
    return "\n".join(parts)


def _groups(rows: Rows) -> dict[str, Rows]:
    """Rows of conditions that end alike, and of each condition."""
    groups: dict[str, Rows] = {}
    conditions: dict[str, Rows] = {}
    for row in rows:
        name = row["condition"]
        groups.setdefault(f"all {name.rpartition('-')[2]}", []).append(row)
        conditions.setdefault(name, []).append(row)
    return groups | conditions


def main(
    results: Annotated[Path, typer.Argument(help="quality.json")],
    output: Annotated[Path, typer.Option("--output", "-o", help="page to write")],
    pair: Annotated[list[str], typer.Option(help="two entries, as 'A > B'; repeatable")],
) -> None:
    """Differences between entries on the same mixtures."""
    split = [tuple(name.strip() for name in text.split(">")) for text in pair]
    if any(len(names) != 2 for names in split):
        raise InputError("a pair is two names with > between them")
    write_text(output, page(results, [(names[0], names[1]) for names in split]))


if __name__ == "__main__":
    program.run(main)
