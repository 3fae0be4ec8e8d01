"""What a command writes for a recording, and whether it is already there."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fca import __version__, audio
from fca.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from fca.cli.inputs import Recording
    from fca.inference.iterate import Callback
    from fca.separator import Separation, Separator

Record = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The results of one run of the command.

    Attributes
    ----------
    kind : str
        What the records and pictures are called.
    folder : Path
        Each recording has a subfolder of its own name there.
    settings : mapping
        What the user chose, to tell whether earlier results answer the same request.
    signals : callable
        Names and waveforms that are written of a result.
    suffix : {".wav", ".flac"}
        Of the audio files.
    plot : bool
        Draw a picture, too.
    overwrite : bool
        Replace earlier results.
    """

    kind: str
    folder: Path
    settings: Mapping[str, Any]
    signals: Callable[[Separation], dict[str, Tensor]]
    suffix: str = ".wav"
    plot: bool = False
    overwrite: bool = False

    def make(self, recording: Recording, separator: Separator, callback: Callback) -> Record:
        """Separate a recording and write its results, or find them finished.

        Returns
        -------
        dict
            The content of the record, with the status "done" or "skipped".

        Raises
        ------
        InputError
            If it cannot be separated, or its folder holds results of something else.
        OSError
            If a file cannot be written.
        """
        folder = self.folder / recording.name
        earlier = _load(folder / self._record)
        if earlier and not self.overwrite and self._answers(earlier, recording, folder):
            return {**earlier, "status": "skipped"}
        mixture, rate = audio.read(recording.files if recording.files[1:] else recording.files[0])
        result = separator(mixture, rate, [callback])
        folder.mkdir(parents=True, exist_ok=True)
        _remove(folder, self._record, earlier)
        files, notes = self._write(folder, result, mixture)
        record = {
            "status": "done",
            "input": _paths(recording),
            "output": str(folder),
            "files": files,
            "notes": _resampling(rate) + notes,
            "settings": self._request(),
            **_description(result, mixture.shape),
        }
        _save(folder / self._record, record)
        return record

    @property
    def _record(self) -> str:
        return f"{self.kind}.json"

    def _request(self) -> Record:
        return {**self.settings, "suffix": self.suffix, "plot": self.plot}

    def _answers(self, earlier: Record, recording: Recording, folder: Path) -> bool:
        """Whether earlier results are complete; refuse to replace those of something else."""
        for key, wanted in (("input", _paths(recording)), ("settings", self._request())):
            if earlier.get(key) != wanted:
                raise InputError(
                    f"{folder} holds results of other {key}; choose --overwrite or another --out"
                )
        return all((folder / name).is_file() for name in earlier["files"])

    def _write(
        self, folder: Path, result: Separation, mixture: audio.Waveform
    ) -> tuple[list[str], list[str]]:
        files, notes = [], []
        for name, signal in self.signals(result).items():
            files.append(self._write_audio(folder, name, signal, result.sample_rate))
            if not files[-1].endswith(self.suffix):
                notes.append(f"{files[-1]}: not {self.suffix}, which would clip or has no room")
        if self.plot:
            files.append(f"{self.kind}.png")
            _draw(folder / files[-1], result, mixture)
        return files, notes

    def _write_audio(self, folder: Path, name: str, signal: Tensor, rate: int) -> str:
        waveform = signal.detach().cpu().float().reshape(-1, signal.shape[-1]).numpy()
        suffix = self.suffix if self.suffix == ".wav" or audio.fits_flac(waveform) else ".wav"
        audio.write(folder / (name + suffix), waveform, rate)
        return name + suffix


def _description(result: Separation, shape: tuple[int, ...]) -> Record:
    return {
        "version": __version__,
        "method": result.method.name,
        "n_sources": len(result.sources),
        "reference_channel": result.reference_channel,
        "iterations": result.cost[-1][0],
        "cost": result.cost,
        "channels": shape[0],
        "samples": shape[1],
        "sample_rate": result.sample_rate,
        "duration": shape[1] / result.sample_rate,
        "seconds": result.seconds,
    }


def _resampling(rate: int) -> list[str]:
    from fca.frontend import SAMPLE_RATE

    if rate == SAMPLE_RATE:
        return []
    lost = f", which leaves out what is above {SAMPLE_RATE // 2} Hz" if rate > SAMPLE_RATE else ""
    return [f"resampled from {rate} to {SAMPLE_RATE} Hz and back{lost}"]


def _draw(path: Path, result: Separation, mixture: audio.Waveform) -> None:
    from fca import plot

    sources = result.sources.detach().cpu().numpy()
    reference = mixture[result.reference_channel]
    plot.save(plot.plot_separation(reference, sources, result.sample_rate), path)


def _paths(recording: Recording) -> list[str]:
    return [str(file.resolve()) for file in recording.files]


def _load(path: Path) -> Record | None:
    """Record of finished work; None where there is none or it is not ours."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), list) else None


def _remove(folder: Path, record: str, earlier: Record | None) -> None:
    """Remove earlier results, their record first, so that no record describes other files."""
    if earlier is not None:
        for name in (record, *earlier["files"]):
            (folder / Path(name).name).unlink(missing_ok=True)


def _save(path: Path, record: Record) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
