"""Log-mel features of each talker: the separator as a layer between torchaudio's transforms."""

from __future__ import annotations

import sys

import torchaudio
from torch import Tensor, nn

import fca
from fca import audio


def main(path: str, **options: int | str) -> Tensor:
    waves, rate = audio.read(path)
    features = nn.Sequential(
        torchaudio.transforms.Resample(rate, 16000),
        fca.SeparatorModule(n_sources=2, **options),
        torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=80),
        torchaudio.transforms.AmplitudeToDB(),
    )
    mel: Tensor = features(Tensor(waves))
    print(tuple(mel.shape), "(talkers, bands, frames)")
    return mel


if __name__ == "__main__":
    main(*sys.argv[1:])
