"""Build an evaluation set of the configuration from folders of speech, noise and responses.

    python -m recipes.benchmark.data test --speech DIR --noise DIR --measured FILE.npz -o OUT

The set is made as by `fca simulate`; see :mod:`fca.simulate.sets`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fca.errors import InputError
from fca.simulate.sets import Condition, Corpora, build
from fca.simulate.stored import Item, load
from recipes import config, program

__all__ = ["SETS", "Condition", "Corpora", "Item", "build", "conditions", "load"]

SETS = Path(__file__).with_name("sets.yaml")


def conditions(name: str, path: Path = SETS) -> dict[str, Condition]:
    """Conditions of a set of the configuration, with its defaults filled in."""
    sets = config.load(path)
    defaults = sets.pop("defaults", {})
    if name not in sets:
        raise InputError(f"{path}: no set {name!r}; there are {sorted(sets)}")
    return {
        key: config.build(Condition, defaults | values, f"{name}.{key}.")
        for key, values in sets[name].items()
    }


def main(
    name: Annotated[str, typer.Argument(help="a set of the configuration")],
    speech: Annotated[Path, typer.Option(help="folder of speech, one folder per speaker")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    noise: Annotated[Path | None, typer.Option(help="folder of noise; else white")] = None,
    measured: Annotated[Path | None, typer.Option(help="measured responses, .npz")] = None,
    sets: Annotated[Path, typer.Option(help="YAML with the sets")] = SETS,
    seed: int = 0,
    jobs: int = 1,
    sample_rate: int = 16000,
) -> None:
    """Build an evaluation set."""
    corpora = Corpora(speech, noise, measured, sample_rate)
    items = build(conditions(name, sets), corpora, output, seed=seed, jobs=jobs)
    typer.echo(f"{len(items)} mixtures in {output}")


if __name__ == "__main__":
    program.run(main)
