"""What a command writes for a recording, and whether that is already there."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fca import __version__
from fca.activity import Levels, write_rttm
from fca.cli.claim import claimed, tidy
from fca.cli.fingerprints import fingerprints
from fca.cli.log import Log
from fca.direction import Directions
from fca.errors import InputError
from fca.files import write_json
from fca.pieces import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fca.blocks import Block, Signals
    from fca.cli.inputs import Recording
    from fca.cli.run import Course
    from fca.inference.iterate import Callback
    from fca.separator import Separator

Record = dict[str, Any]
CHANGED = "the input before it was changed"
HASHED = {"rttm": "turns", "weights": "network", "prior": "network"}
"""Settings that name a file, and those that hold the hash of what is in it."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """The results of one run of the command.

    Attributes
    ----------
    kind : str
        Name of the records and pictures.
    folder : Path
        Output folder, in which each recording has a subfolder of its own name.
    settings : mapping
        What the user chose, to tell whether earlier results answer the same request.
    signals : callable
        Gives the names and waveforms to write of a block.
    audio_format : {"wav", "wav16", "flac"}
        Format of the audio files.
    plot : bool
        Whether to draw a picture, too.
    overwrite : bool
        Whether to replace earlier results.
    course : Course
        How recordings are processed.
    """

    kind: str
    folder: Path
    settings: Mapping[str, Any]
    signals: Callable[[Block], Signals]
    course: Course
    audio_format: str = "wav"
    plot: bool = False
    overwrite: bool = False

    def make(self, recording: Recording, separator: Separator, callback: Callback) -> Record:
        """Separate a recording and write its results, unless they are already there.

        Returns
        -------
        dict
            The record, with the status "done" or "skipped".

        Raises
        ------
        InputError
            If it cannot be separated, or its folder holds results of another recording or of other
            settings, or another run works on it.
        OSError
            If a file cannot be written.
        """
        folder = self.folder / recording.name
        if finished := self._finished(recording, folder):
            tidy(folder)
            return finished
        content = fingerprints(recording.files)
        reader = Reader(recording.files if recording.files[1:] else recording.files[0])
        log = self._log(reader, separator.reference_channel)
        course = self.course.build(separator, recording.id)
        seconds = reader.n_samples / reader.sample_rate
        remarks = self.course.remarks(course, recording.id, seconds)
        blocks = log.follow(course(reader, [callback]))
        with claimed(folder), contextlib.closing(blocks):
            if finished := self._finished(recording, folder):  # by another run, meanwhile
                return finished
            files, notes = self._write(folder, blocks, reader)
            more, more_notes = self._write_more(folder, log, reader, recording.id)
            rate = reader.sample_rate
            record = {
                "status": "done",
                "input": _paths(recording),
                "contents": content,
                "output": str(folder),
                "files": files + more,
                "sizes": [(folder / name).stat().st_size for name in files + more],
                "notes": reader.remarks
                + _resampling(rate)
                + notes
                + more_notes
                + remarks
                + log.notes(rate),
                "settings": self._request(),
                **_description(separator, log, reader),
            }
            write_json(folder / self._record, record)
            (folder / self._unfinished).unlink(missing_ok=True)
        return record

    def _log(self, reader: Reader, reference: int) -> Log:
        """An empty log for a recording.

        Raises
        ------
        InputError
            If there are not as many positions as microphones.
        """
        course = self.course
        levels = Levels(reader.n_samples, reader.sample_rate) if course.diarize else None
        if course.array is None:
            return Log(levels, reference_channel=reference)
        directions = Directions(course.array)
        directions.check(reader.n_channels)
        return Log(levels, directions, reference_channel=reference)

    @property
    def _record(self) -> str:
        return f"{self.kind}.json"

    @property
    def _unfinished(self) -> str:
        """File that lists the files of a recording until its record is written.

        If a run is stopped in between, the next one finds them.
        """
        return f".{self.kind}.unfinished"

    def _request(self) -> Record:
        sixteen = {"pcm16": True} if self._pcm16 else {}
        return {**self.settings, "suffix": self._suffix, **sixteen, "plot": self.plot}

    @property
    def _suffix(self) -> str:
        return ".flac" if self.audio_format == "flac" else ".wav"

    @property
    def _pcm16(self) -> bool:
        return self.audio_format == "wav16"

    def _finished(self, recording: Recording, folder: Path) -> Record | None:
        """Record of earlier results that are not to be replaced; None if there is work to do."""
        earlier = _load(folder / self._record)
        if earlier and not self.overwrite and self._answers(earlier, recording, folder):
            return {**earlier, "status": "skipped"}
        return None

    def _answers(self, earlier: Record, recording: Recording, folder: Path) -> bool:
        """Whether earlier results are complete; refuse to replace those of another request."""
        origin = _other_input(earlier, recording)
        if origin and origin != CHANGED:
            raise InputError(
                f"{folder} holds results of {origin}; choose another --out, or --overwrite to "
                "replace them"
            )
        other = _differences(earlier.get("settings"), self._request())
        if other or origin:
            of = f"other settings ({other})" if other else origin
            raise InputError(f"{folder} holds results of {of}; choose --overwrite or another --out")
        return _complete(earlier, folder)

    def _write(
        self,
        folder: Path,
        blocks: Iterable[Block],
        reader: Reader,
    ) -> tuple[list[str], list[str]]:
        """Write the waveforms as they come.

        The files appear, and earlier ones are removed, only when all of them are complete.
        """
        from fca.blocks import stitch

        writers: dict[str, Writer] = {}
        length = reader.n_samples
        with contextlib.ExitStack() as stack:
            for start, pieces in stitch(blocks, self.signals):
                for name, signal in pieces.items():
                    waveform = signal.detach().cpu().float().reshape(-1, signal.shape[-1]).numpy()
                    if name not in writers:
                        path, shape = folder / f"{name}{self._suffix}", (len(waveform), length)
                        writer = Writer(path, reader.sample_rate, *shape, self._pcm16)
                        writers[name] = stack.enter_context(writer)
                    writers[name].write(start, waveform)
            for writer in writers.values():
                writer.complete()
            for earlier in (self._record, self._unfinished):
                _remove(folder, earlier)
            audible = [f"{name}{suffix}" for name in writers for suffix in (".wav", ".flac")]
            others = ["activity.rttm", f"{self.kind}.png", "directions.png"]
            write_json(folder / self._unfinished, {"files": audible + others})
        files = [writer.path.name for writer in writers.values()]
        kind = {"wav": "", "wav16": "16-bit", "flac": ".flac"}[self.audio_format]
        other = [writer.path.name for writer in writers.values() if writer.floats and kind]
        return files, [f"{x}: not {kind}, which would clip or has no room" for x in other]

    def _write_more(
        self, folder: Path, log: Log, reader: Reader, name: str
    ) -> tuple[list[str], list[str]]:
        """Write who speaks when, and draw pictures, as wanted: names of files, and notes."""
        files, notes = [], []
        if log.levels is not None:
            files.append("activity.rttm")
            write_rttm(folder / files[-1], log.levels.segments(log.names), name)
        if self.plot:
            files.append(f"{self.kind}.png")
            notes += _draw(folder / files[-1], log, reader)
        if self.plot and log.directions is not None:
            files.append("directions.png")
            _draw_directions(folder / files[-1], log.directions, log.names)
        return files, notes


def _description(separator: Separator, log: Log, reader: Reader) -> Record:
    return {
        "version": __version__,
        "method": separator.method.name,
        "n_sources": len(log.names),
        "reference_channel": separator.reference_channel,
        "iterations": log.cost[-1][0] if log.costs else 0,
        "cost": log.cost,
        "blocks": log.blocks,
        "channels": reader.n_channels,
        "samples": reader.n_samples,
        "sample_rate": reader.sample_rate,
        "duration": reader.n_samples / reader.sample_rate,
        "seconds": log.seconds,
        **log.azimuths,
    }


def _resampling(rate: int) -> list[str]:
    from fca.frontend import SAMPLE_RATE

    if rate == SAMPLE_RATE:
        return []
    lost = f", which leaves out what is above {SAMPLE_RATE // 2} Hz" if rate > SAMPLE_RATE else ""
    return [f"resampled from {rate} to {SAMPLE_RATE} Hz and back{lost}"]


def _draw(path: Path, log: Log, reader: Reader) -> list[str]:
    """Draw the first block with talkers, and return a note if there are more."""
    from fca import plot

    rate = reader.sample_rate
    plot.save(plot.plot_separation(log.mixture.numpy(), log.sources.numpy(), rate), path)
    if len(log.blocks) == 1:
        return []
    start, stop = log.first / rate, (log.first + len(log.mixture)) / rate
    which = f"{start:.1f} to {stop:.1f} s" if log.first else f"the first {stop:.1f} s"
    return [f"{path.name} shows {which}"]


def _draw_directions(path: Path, directions: Directions, names: list[str]) -> None:
    from fca import plot

    response, found = directions.response, directions.found
    plot.save(plot.plot_directions(directions.azimuths, response, found, names), path)


def _paths(recording: Recording) -> list[str]:
    return [str(file.resolve()) for file in recording.files]


def _other_input(earlier: Record, recording: Recording) -> str:
    """What earlier results are of if not of this recording; empty if they are.

    What counts is the content of the files; where they lie, if they cannot be read.
    """
    now, same_place = fingerprints(recording.files), earlier.get("input") == _paths(recording)
    same = same_place if now is None else now == earlier.get("contents")
    if same:
        return ""
    return CHANGED if same_place else "another recording"


def _complete(earlier: Record, folder: Path) -> bool:
    """Whether all files are there, and none is shorter than it was written.

    A machine that failed may have left such files.
    """
    names = earlier["files"]
    files = [folder / name for name in names]
    sizes = earlier.get("sizes", [])
    return len(sizes) == len(files) and all(
        file.is_file() and file.stat().st_size >= size
        for file, size in zip(files, sizes, strict=True)
    )


def _differences(before: Any, now: Record) -> str:
    """Settings that have changed, as "seed 0 -> 1"; empty if there are none.

    It does not count where a file lies if what is in it is the same.
    """
    known = before if isinstance(before, dict) else {}
    moved = {
        name
        for name, content in HASHED.items()
        if content in known and known[content] == now.get(content)
    }
    names = [name for name in known | now if known.get(name) != now.get(name)]
    return ", ".join(
        f"{name} {known.get(name)} -> {now.get(name)}" for name in names if name not in moved
    )


def _load(path: Path) -> Record | None:
    """Record of finished work; None if there is none or the file is not a record."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), list) else None


def _remove(folder: Path, record: str) -> None:
    """Remove earlier results, the record first, so that no record ever describes other files."""
    earlier = _load(folder / record)
    if earlier is not None:
        for name in (record, *earlier["files"]):
            (folder / Path(name).name).unlink(missing_ok=True)
