"""The whole benchmark in one command: mixtures, scores, figure.

    python -m recipes.benchmark -o OUT --quick
    python -m recipes.benchmark -o OUT --speech DIR --noise DIR --measured FILE.npz

The quick version makes its mixtures from the shipped utterances. Stages that are complete are not
repeated: OUT/set, OUT/quality.md and .json, OUT/figure.svg and .png.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recipes import program
from recipes.benchmark import figure, quality
from recipes.benchmark.common import ROOT, Only, Override, Quick, UserConfig, settings
from recipes.benchmark.data import Corpora, build, conditions

EXCERPTS = ROOT / "tests" / "data"


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    speech: Annotated[Path | None, typer.Option(help="folder of speech of the sets")] = None,
    noise: Annotated[Path | None, typer.Option(help="folder of noise; else white")] = None,
    measured: Annotated[Path | None, typer.Option(help="measured responses, .npz")] = None,
    name: Annotated[str | None, typer.Option("--name", help="set of sets.yaml")] = None,
    config: UserConfig = None,
    quick: Quick = False,
    override: Override = None,
    only: Only = None,
    seed: int = 0,
    jobs: int = 1,
    threads: int = 1,
) -> None:
    """Make the set, score every entry on it, draw the figure."""
    if speech is None and not quick:
        raise typer.BadParameter("give a folder with --speech, or --quick")
    chosen = settings("quality", config, quick, override or [])
    corpora = Corpora(speech or EXCERPTS, noise, measured)
    kinds = conditions(name or ("quick" if speech is None else "full"))
    folder = output / (name or "set")
    build(kinds, corpora, folder, seed=seed, jobs=jobs)
    quality.measure(folder, output, chosen, only or [], seed=seed, jobs=jobs, threads=threads)
    pictures = [output / "figure.svg", output / "figure.png"]
    figure.make(output / "quality.json", pictures, next(iter(kinds)))


if __name__ == "__main__":
    program.run(main)
