"""How many talkers are found where one to four speak all the time: a confusion table.

python -m recipes.benchmark.data count --sets recipes/meeting/sets.yaml --speech DIR -o SET
python -m recipes.meeting.count SET -o OUT.md [--method fastmnmf2] [--iterations 20]
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fca.blocks import MOST_TALKERS, BlockSeparator
from fca.files import write_json, write_text
from fca.separator import Separator
from fca.simulate.stored import load
from recipes import program
from recipes.benchmark.common import describe, markdown, surroundings


def count(recording: Path, separator: BlockSeparator) -> int:
    """Number of talkers found in a recording."""
    return max(len(block.sources) for block in separator(recording))


def table(rows: list[dict[str, Any]]) -> str:
    """Recordings by how many talkers there are (rows) and were found (columns)."""
    pairs = Counter((row["talkers"], row["found"]) for row in rows)
    true = sorted({row["talkers"] for row in rows})
    found = range(max(row["found"] for row in rows) + 1)
    lines = [[str(n), *(str(pairs[n, k]) for k in found)] for n in true]
    return markdown(["talkers", *(f"found {k}" for k in found)], lines)


def main(
    folder: Annotated[Path, typer.Argument(help="set made by recipes.benchmark.data")],
    output: Annotated[Path, typer.Option("--output", "-o", help="table to write (.md)")],
    method: str = "fastmnmf2",
    iterations: int = 20,
    seed: int = 0,
) -> None:
    """Count the talkers of every mixture of a set."""
    torch.set_num_threads(1)
    separator = Separator(method, MOST_TALKERS, n_iter=iterations, seed=seed)
    items = load(folder)
    rows = []
    for item in items:
        found = count(item.file("mixture"), BlockSeparator(separator, count=True))
        rows.append({"id": item.id, "talkers": item.n_talkers, "found": found})
        typer.echo(f"{item.id}: {item.n_talkers} talkers, {found} found")
    right = sum(row["talkers"] == row["found"] for row in rows)
    facts = surroundings()
    text = (
        f"# Number of talkers\n\n`--sources auto` with {method}, {iterations} iterations, seed "
        f"{seed}: right for {right} of {len(rows)} recordings.\n{describe(facts)}\n\n{table(rows)}"
    )
    write_text(output, text)
    write_json(output.with_suffix(".json"), {"surroundings": facts, "rows": rows})


if __name__ == "__main__":
    program.run(main)
