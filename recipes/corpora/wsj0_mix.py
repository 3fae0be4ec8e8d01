"""Spatialised WSJ0-2mix and WSJ0-3mix (Wang, Le Roux & Hershey 2018), as MERL's scripts write them.

{2,3}speakers_{reverb,anechoic}/wav{16k,8k}/{min,max}/{tr,cv,tt}/{mix,s1,s2[,s3]}/NAME.wav, all with
eight channels; NAME is UTTERANCE_SNR_UTTERANCE_SNR[_UTTERANCE_SNR].
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fca.errors import InputError
from recipes.corpora.layout import (
    CONDITIONS,
    Channels,
    Row,
    Source,
    folder_of,
    named_speech,
    thin,
    write_set,
)

WHAT = "the folder that spatialize_wsj0_mix.m wrote to, with 2speakers_reverb or 3speakers_reverb"


@dataclass(frozen=True)
class Wsj0Mix:
    """Where it is and what is taken.

    Attributes
    ----------
    corpus : folder with `2speakers_reverb` or `3speakers_reverb`
    talkers : 2 or 3
    acoustics, rate, length, part : names of the folders below
    channels : how many of the eight microphones, from the first, or which, from 0
    items : at most so many mixtures, equally spaced; None for all
    speech, valid_speech : folders of clean speech, such as two of WSJ0's; training needs them
    """

    corpus: str
    talkers: int = 2
    acoustics: str = "reverb"
    rate: str = "16k"
    length: str = "min"
    part: str = "tt"
    channels: Channels = 8
    items: int | None = None
    speech: str | None = None
    valid_speech: str | None = None

    def check(self) -> None:
        self._sources()

    def clean_speech(self, folder: Path) -> tuple[Path, Path] | None:
        return named_speech(self.speech, self.valid_speech)

    def index(self, folder: Path, seed: int, jobs: int) -> None:
        asked: Row = {"corpus": "wsj0-mix", "acoustics": self.acoustics, "length": self.length}
        asked |= {"part": self.part, "rate": self.rate, "talkers": self.talkers}
        write_set(folder, thin(self._sources(), self.items), self.channels, asked)

    def _sources(self) -> list[Source]:
        if self.talkers not in CONDITIONS:
            raise InputError(f"there are mixtures of 2 and 3 talkers, not of {self.talkers}")
        mixtures = sorted((self._folder(self.acoustics) / "mix").glob("*.wav"))
        if not mixtures:
            folder_of(self.corpus, WHAT)
            raise InputError(f"{self._folder(self.acoustics)}/mix: no mixtures; {WHAT} is needed")
        return [self._source(path) for path in mixtures]

    def _source(self, mixture: Path) -> Source:
        def talkers(acoustics: str) -> list[list[Path]]:
            places = [self._folder(acoustics) / f"s{n + 1}" for n in range(self.talkers)]
            return [[place / mixture.name] for place in places]

        direct = talkers("anechoic")
        return Source(
            id=mixture.stem,
            condition=CONDITIONS[self.talkers],
            speakers=[utterance[:3] for utterance in mixture.stem.split("_")[::2]],
            mixture=mixture,
            images=talkers(self.acoustics),
            dry=direct if direct[0][0].is_file() else (),
        )

    def _folder(self, acoustics: str) -> Path:
        kind = f"{self.talkers}speakers_{acoustics}"
        return Path(self.corpus) / kind / f"wav{self.rate}" / self.length / self.part
