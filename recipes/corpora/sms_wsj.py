"""SMS-WSJ (Drude et al. 2019): two talkers, six microphones, 8 kHz; `sms_wsj.json` lists all files.

{"datasets": {PART: {ID: {"speaker_id": [...], "audio_path": {"observation": FILE, "speech_source",
"original_source", "speech_reverberation_early", "speech_reverberation_tail": [FILE, ...]}}}}}
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fca.errors import InputError
from fca.files import write_text
from recipes.corpora.layout import CONDITIONS, Channels, Row, Source, folder_of, thin, write_set

WHAT = "the folder with sms_wsj.json"


@dataclass(frozen=True)
class SmsWsj:
    """Where it is and what is taken.

    Attributes
    ----------
    corpus : folder with `sms_wsj.json`; the files that it lists may have moved there with it
    train, valid, test : parts to train, to validate and to test on
    channels : how many of the six microphones, from the first, or which, from 0
    items : at most so many mixtures, equally spaced; None for all
    """

    corpus: str
    train: str = "train_si284"
    valid: str = "cv_dev93"
    test: str = "test_eval92"
    channels: Channels = 3
    items: int | None = None

    def check(self) -> None:
        self._source(*next(iter(self._part(self.test).items())))

    def clean_speech(self, folder: Path) -> tuple[Path, Path]:
        return self._manifest(folder, self.train), self._manifest(folder, self.valid)

    def index(self, folder: Path, seed: int, jobs: int) -> None:
        chosen = thin(list(self._part(self.test).items()), self.items)
        sources = [(place, self._source(*example)) for place, example in chosen]
        write_set(folder, sources, self.channels, {"corpus": "sms-wsj", "part": self.test})

    def _source(self, name: str, example: Row) -> Source:
        paths, speakers = example["audio_path"], example["speaker_id"]
        if "speech_reverberation_tail" not in paths:
            raise InputError(f"{name}: no images; SMS-WSJ has to be made with write_all=True")
        early = self._locate(paths["speech_reverberation_early"])
        tail = self._locate(paths["speech_reverberation_tail"])
        return Source(
            id=name,
            condition=CONDITIONS[len(speakers)],
            speakers=speakers,
            mixture=self._locate([paths["observation"]])[0],
            images=list(zip(early, tail, strict=True)),
            early=[[file] for file in early],
            dry=[[file] for file in self._locate(paths["speech_source"])],
        )

    def _manifest(self, folder: Path, part: str) -> Path:
        """List of the utterances that the mixtures of a part are made of, each once."""
        spoken: dict[str, str] = {}
        for example in self._part(part).values():
            paths = example["audio_path"]
            files = paths.get("original_source", paths["speech_source"])
            spoken |= dict(zip(files, example["speaker_id"], strict=True))
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["path", "speaker"])
        table.writerows(zip(map(str, self._locate(list(spoken))), spoken.values(), strict=True))
        write_text(folder / f"{part}.csv", text.getvalue())
        return folder / f"{part}.csv"

    def _part(self, name: str) -> dict[str, Row]:
        examples: dict[str, Row] | None = _database(
            folder_of(self.corpus, WHAT) / "sms_wsj.json"
        ).get(name)
        if not examples:
            raise InputError(f"{self.corpus}/sms_wsj.json: has no part {name!r}")
        return examples

    def _locate(self, files: Sequence[str]) -> list[Path]:
        """Files where the database says, or where they lie if the corpus was moved."""
        return [_moved(Path(self.corpus), Path(file)) for file in files]


def _moved(corpus: Path, file: Path) -> Path:
    """The file itself, or what ends like it below the corpus."""
    if file.is_absolute() and file.is_file():
        return file.resolve()
    for start in range(len(file.parts)):
        below = corpus.joinpath(*file.parts[start:])
        if not file.parts[start].startswith("/") and below.is_file():
            return below.resolve()
    return corpus / file


@functools.lru_cache(maxsize=1)
def _database(path: Path) -> dict[str, Any]:
    """Parts of the database, which is large."""
    try:
        parts = json.loads(path.read_text("utf-8"))["datasets"]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; data.corpus names {WHAT}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: not the database of SMS-WSJ") from None
    return dict(parts)
