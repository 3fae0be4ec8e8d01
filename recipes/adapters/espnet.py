"""Separate what a ``wav.scp`` of Kaldi or ESPnet lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import fca
from fca.adapters.kaldi import separate_scp
from fca.methods import DEFAULT_METHOD
from recipes import program


def main(
    wav_scp: Annotated[Path, typer.Argument(help="lines of an id and a path")],
    folder: Annotated[Path, typer.Argument(help="folder to write")],
    method: Annotated[str, typer.Option(help="see: fca methods")] = DEFAULT_METHOD,
    n_iter: Annotated[int | None, typer.Option(help="iterations")] = None,
    n_fft: Annotated[int | None, typer.Option(help="window in samples")] = None,
) -> None:
    """Separate what a wav.scp of Kaldi or ESPnet lists."""
    separator = fca.Separator(method, n_sources=2, n_iter=n_iter, n_fft=n_fft)
    for path in separate_scp(wav_scp, folder, separator):
        print(path)


if __name__ == "__main__":
    program.run(main)
