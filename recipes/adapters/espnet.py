"""Separate what a ``wav.scp`` of Kaldi or ESPnet lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fca
from fca.adapters.kaldi import separate_scp
from fca.methods import DEFAULT_METHOD
from recipes import program
from recipes.adapters.options import Iterations, MethodName, Window


def main(
    wav_scp: Annotated[Path, typer.Argument(help="lines of an id and a path")],
    folder: Annotated[Path, typer.Argument(help="folder to write")],
    method: MethodName = DEFAULT_METHOD,
    n_iter: Iterations = None,
    n_fft: Window = None,
) -> None:
    """Separate what a wav.scp of Kaldi or ESPnet lists."""
    separator = fca.Separator(method, n_sources=2, n_iter=n_iter, n_fft=n_fft)
    for path in separate_scp(wav_scp, folder, separator):
        print(path)


if __name__ == "__main__":
    program.run(main)
