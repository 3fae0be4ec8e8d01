"""LibriSpeech (Panayotov et al. 2015), put into simulated rooms by :mod:`fca.simulate.sets`.

LibriSpeech/{train-clean-100,dev-clean,test-clean,...}/SPEAKER/CHAPTER/*.flac
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fca.errors import InputError
from fca.simulate.sets import Condition, Corpora, build
from recipes import config
from recipes.corpora.layout import folder_of

WHAT = "the folder LibriSpeech with train-clean-100, dev-clean and test-clean"


@dataclass(frozen=True)
class LibriSpeech:
    """Where it is and what is made of it.

    Attributes
    ----------
    corpus : folder with the parts
    train, valid, test : parts to train, to validate and to test on
    noise : folder of recordings of noise; white without
    conditions : name of a condition -> fields of :class:`fca.simulate.sets.Condition`
    """

    corpus: str
    train: str = "train-clean-100"
    valid: str = "dev-clean"
    test: str = "test-clean"
    noise: str | None = None
    conditions: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def check(self) -> None:
        self._part(self.test)

    def clean_speech(self, folder: Path) -> tuple[Path, Path]:
        return self._part(self.train), self._part(self.valid)

    def index(self, folder: Path, seed: int, jobs: int) -> None:
        kinds = {
            name: config.build(Condition, {"speech": [self.test], **asked}, f"conditions.{name}.")
            for name, asked in self.conditions.items()
        }
        noise = None if self.noise is None else Path(self.noise)
        build(kinds, Corpora(Path(self.corpus), noise), folder, seed=seed, jobs=jobs)

    def _part(self, name: str) -> Path:
        folder = folder_of(self.corpus, WHAT) / name
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; data.corpus names {WHAT}")
        return folder
