"""AMI (Carletta et al. 2005): real meetings, eight far-field microphones, no separated references.

MEETING/audio/MEETING.Array1-0N.wav, one file per microphone, and RTTM files MEETING.rttm of the
user's, who speaks when.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fca.errors import InputError
from fca.files import write_text
from fca.simulate.stored import MANIFEST
from recipes.corpora.layout import Row, folder_of, named_speech

WHAT = "the folder amicorpus, with MEETING/audio/MEETING.Array1-01.wav"


@dataclass(frozen=True)
class Ami:
    """Where it is and what is taken.

    Attributes
    ----------
    corpus : folder with one folder per meeting
    rttms : folder that is searched for MEETING.rttm
    meetings : which
    channels : how many microphones of the array, from the first
    talkers : their number in each meeting; None to find it
    speech, valid_speech : folders of clean speech, from elsewhere; training needs them
    """

    corpus: str
    rttms: str
    meetings: Sequence[str] = ()
    array: str = "Array1"
    channels: int = 8
    talkers: int | None = 4
    speech: str | None = None
    valid_speech: str | None = None

    def check(self) -> None:
        self._rows()

    def clean_speech(self, folder: Path) -> tuple[Path, Path] | None:
        return named_speech(self.speech, self.valid_speech)

    def index(self, folder: Path, seed: int, jobs: int) -> None:
        write_text(folder / MANIFEST, "".join(json.dumps(row) + "\n" for row in self._rows()))

    def _rows(self) -> list[Row]:
        corpus = folder_of(self.corpus, WHAT)
        rttms = folder_of(self.rttms, "the folder of the reference RTTM files", "rttms")
        return [self._row(corpus, rttms, meeting) for meeting in self.meetings]

    def _row(self, corpus: Path, rttms: Path, meeting: str) -> Row:
        audio = corpus / meeting / "audio"
        files = [audio / f"{meeting}.{self.array}-{n + 1:02d}.wav" for n in range(self.channels)]
        found = sorted(rttms.rglob(f"{meeting}.rttm"))
        if missing := [file for file in files if not file.is_file()]:
            raise InputError(f"{missing[0]}: no such file; data.corpus names {WHAT}")
        if not found:
            raise InputError(f"{rttms}: no {meeting}.rttm there")
        return {
            "id": meeting,
            "condition": "meetings",
            "talkers": self.talkers,
            "files": [str(file.resolve()) for file in files],
            "rttm": str(found[0].resolve()),
        }
