"""Separate lhotse cuts."""

from __future__ import annotations

import sys

from lhotse import CutSet

import fca
from fca.adapters.lhotse import separate_cuts


def main(manifest: str, folder: str, **options: int | str) -> None:
    separator = fca.Separator(n_sources=2, **options)
    talkers = separate_cuts(CutSet.from_file(manifest), folder, separator)
    talkers.to_file(f"{folder}/cuts.jsonl.gz")


if __name__ == "__main__":
    main(*sys.argv[1:])
