"""Average two trained denoisers of the same sizes: between what each was trained last on.

    python -m recipes.denoiser.average FIRST SECOND -o OUT

One trained on clean speech and one trained on from it by the mixtures' bound give a network that
keeps most of what both have learned (Wortsman et al. 2022, robust fine-tuning of zero-shot models).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fca.errors import InputError
from fca.neural.denoiser import Denoiser
from recipes import program


def average(first: Denoiser, second: Denoiser, share: float = 0.5) -> Denoiser:
    """``first`` with ``share`` of the weights of ``second`` mixed in, in place.

    Raises
    ------
    InputError
        If the two are not of the same sizes for the same prior.
    """
    if first.config != second.config:
        raise InputError("only denoisers of the same sizes and prior can be averaged")
    ours, theirs = first.state_dict(), second.state_dict()
    first.load_state_dict({key: ours[key].lerp(theirs[key], share) for key in ours})
    return first


def main(
    first: Annotated[str, typer.Argument(help="denoiser: name or folder")],
    second: Annotated[str, typer.Argument(help="another")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    share: Annotated[float, typer.Option(help="of the second")] = 0.5,
) -> None:
    """Average two denoisers."""
    networks = Denoiser.from_pretrained(first), Denoiser.from_pretrained(second)
    average(*networks, share).save_pretrained(output)


if __name__ == "__main__":
    program.run(main)
