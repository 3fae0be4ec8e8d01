"""Separate lhotse cuts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fca
from fca.adapters.lhotse import separate_cuts
from fca.extras import require
from fca.methods import DEFAULT_METHOD
from recipes import program
from recipes.adapters.options import Iterations, MethodName, Window


def main(
    manifest: Annotated[Path, typer.Argument(help="cuts", exists=True, dir_okay=False)],
    folder: Annotated[Path, typer.Argument(help="folder to write")],
    method: MethodName = DEFAULT_METHOD,
    n_iter: Iterations = None,
    n_fft: Window = None,
) -> None:
    """Separate lhotse cuts."""
    lhotse = require("lhotse", "lhotse", "cuts need")
    separator = fca.Separator(method, n_sources=2, n_iter=n_iter, n_fft=n_fft)
    talkers = separate_cuts(lhotse.CutSet.from_file(manifest), folder, separator)
    talkers.to_file(folder / "cuts.jsonl.gz")


if __name__ == "__main__":
    program.run(main)
