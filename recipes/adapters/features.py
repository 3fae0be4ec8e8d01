"""Log-mel features of each talker: the separator as a layer between torchaudio's transforms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor, nn

import fca
from fca import audio
from fca.errors import InputError
from fca.methods import DEFAULT_METHOD
from recipes import program
from recipes.adapters.options import Iterations, MethodName, Window


def main(
    path: Annotated[Path, typer.Argument(help="multichannel recording")],
    method: MethodName = DEFAULT_METHOD,
    n_iter: Iterations = None,
    n_fft: Window = None,
) -> Tensor:
    """Log-mel features of each talker."""
    try:
        from torchaudio import transforms
    except (ImportError, OSError) as error:  # OSError: made for another version of torch
        raise InputError(f"torchaudio cannot be used here: {error}") from None
    waves, rate = audio.read(path)
    features = nn.Sequential(
        transforms.Resample(rate, 16000),
        fca.SeparatorModule(method, n_sources=2, n_iter=n_iter, n_fft=n_fft),
        transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=80),
        transforms.AmplitudeToDB(),
    )
    mel: Tensor = features(Tensor(waves))
    print(tuple(mel.shape), "(talkers, bands, frames)")
    return mel


if __name__ == "__main__":
    program.run(main)
