"""Separate what a ``wav.scp`` of Kaldi or ESPnet lists."""

from __future__ import annotations

import sys

import fca
from fca.adapters.kaldi import separate_scp


def main(wav_scp: str, folder: str, **options: int | str) -> None:
    separator = fca.Separator(n_sources=2, **options)
    for path in separate_scp(wav_scp, folder, separator):
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
