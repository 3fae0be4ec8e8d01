"""Train and measure every experiment of a folder, and write the table.

    python -m recipes.prior.ablate OUT --speech DIR --rooms FILE --valid-rooms FILE --mixtures SET

Finished experiments are not repeated. `DIR` has the folders `train` and `valid`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fca.files import write_text
from recipes import program
from recipes.prior.evaluate import evaluate_all

CONFIGS = Path(__file__).with_name("configs") / "ablation"
COLUMNS = (
    "parameters",
    *(f"{name}, {kind}" for name in ("ELBO", "KL", "IS") for kind in ("dry", "reverberant")),
    "ceiling",
    "with the true PSD",
)


def table(results: dict[str, Any]) -> str:
    """Markdown, one row per prior."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | {_row(figures)} |" for name, figures in results.items()]
    return "\n".join(lines) + "\n"


def _row(figures: dict[str, Any]) -> str:
    kinds = [figures["dry"], figures["reverberant"]]
    cells = [f"{figures['parameters'] / 1e6:.1f} M"]
    for key, digits in (("elbo_per_bin", 2), ("kl_per_frame", 0), ("is_per_bin", 2)):
        cells += [f"{kind[key]:.{digits}f}" for kind in kinds]
    cells += [decibels(figures["ceiling"]), decibels(figures["true_power"])]
    return " | ".join(cells)


def decibels(value: dict[str, float]) -> str:
    """Mean with the half-width of its interval."""
    return f"{value['mean']:.1f} ± {value['interval']:.1f}"


def main(
    output: Annotated[Path, typer.Argument(help="folder for the runs and results.json")],
    speech: Annotated[Path, typer.Option(help="folder with train and valid")],
    rooms: Annotated[Path, typer.Option(help="bank of room responses")],
    valid_rooms: Annotated[Path, typer.Option(help="another bank")],
    mixtures: Annotated[Path, typer.Option(help="evaluation set of recipes.benchmark.data")],
    configs: Annotated[Path, typer.Option(help="folder of experiments")] = CONFIGS,
) -> None:
    """Run the ablations."""
    paths = sorted(configs.glob("*.yaml"))
    for path in paths:
        run = output / path.stem
        if not (run / "prior").is_dir():
            settings = [f"data.train={speech / 'train'}", f"data.valid={speech / 'valid'}"]
            settings += [f"data.rooms={rooms}", f"data.valid_rooms={valid_rooms}", f"output={run}"]
            command = [sys.executable, "-m", "recipes.prior.train", str(path), *settings]
            subprocess.run(command, check=True)
    priors = {path.stem: str(output / path.stem / "prior") for path in paths}
    results = evaluate_all(priors, speech / "valid", valid_rooms, mixtures, output / "results.json")
    write_text(output / "table.md", table(results))
    typer.echo(json.dumps({name: row["ceiling"]["mean"] for name, row in results.items()}))


if __name__ == "__main__":
    program.run(main)
