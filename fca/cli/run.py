"""How commands process recordings: which ones, how each of them, and the run itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fca.cli.usage import usage
from fca.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fca.blocks import Block, BlockSeparator, Signals
    from fca.cli.inputs import Problem, Recording
    from fca.cli.results import Results
    from fca.separator import Separator

Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a command processes a recording.

    Attributes
    ----------
    block : float or None
        Longest block in seconds; None for the default.
    jobs : int
        Blocks that are worked on at the same time.
    count : bool
        Whether to count the talkers.
    diarize : bool
        Whether to write who speaks when.
    rttm : Path or None
        File that says who speaks when, in one recording or in several by name.
    target : str or None
        The only speaker in it that is wanted; None for all.
    array : (M, 3) or None
        Positions of the microphones (m), if the talkers' directions are wanted, too.
    images, residual : bool
        Whether these are written, too.
    several : bool
        Whether there are several recordings, each of which the RTTM file has to name.
    """

    block: float | None
    jobs: int = 1
    count: bool = False
    diarize: bool = False
    rttm: Path | None = None
    target: str | None = None
    array: NDArray[np.float64] | None = None
    images: bool = False
    residual: bool = False
    several: bool = False

    def build(self, separator: Separator, recording: str | None = None) -> BlockSeparator:
        """The separator for recordings of any length, guided if it is known who speaks when.

        Raises
        ------
        InputError
            If the blocks are too short, or the RTTM file cannot be used for the recording.
        """
        from fca.activity import read_rttm
        from fca.blocks import BlockSeparator

        if self.rttm is None or recording is None:
            return BlockSeparator(separator, self.block, self.count, jobs=self.jobs)
        guide = read_rttm(self.rttm, recording, exact=self.several)
        guided = BlockSeparator(separator, self.block, guide=guide, jobs=self.jobs)
        if self.target is not None and self.target not in guided.speakers:
            known = ", ".join(guided.speakers)
            raise InputError(f"nobody is called {self.target} in {self.rttm}, but {known}")
        for name in guided.speakers:
            if Path(name).name != name or name.startswith("."):
                raise InputError(f"{self.rttm}: the speaker {name!r} cannot name a file")
        self._check_files(guided.speakers)
        return guided

    def _wanted(self, speakers: Iterable[str]) -> list[str]:
        return [name for name in speakers if self.target in (None, name)]

    def _check_files(self, speakers: list[str]) -> None:
        """Refuse speakers whose files would replace each other or the residual."""
        names = self._wanted(speakers)
        files = names + ["residual"] * self.residual
        files += [f"{name}.image" for name in names] if self.images else []
        twice = [name for name in names if files.count(name) > 1]
        if twice:
            raise InputError(f"{self.rttm}: the speaker {twice[0]!r} is called like another file")

    def remarks(self, guided: BlockSeparator, recording: str, seconds: float) -> list[str]:
        """What is odd about the turns of a recording of that name and so many seconds.

        Raises
        ------
        InputError
            If all who are wanted speak only after its end.
        """
        from fca.activity import MARGIN_SECONDS, other_recording

        if self.rttm is None:
            return []
        wanted = self._wanted(guided.speakers)
        turns = [turn for turn in guided.guide or () if turn.speaker in wanted]
        inside = [turn for turn in turns if turn.start < seconds]
        if not inside:
            raise InputError(f"{self.rttm}: all turns are after the end, at {seconds:.1f} s")
        other = other_recording(self.rttm, recording)
        notes = [f"{self.rttm} is about {other}, applied to {recording}"] if other else []
        beyond = max(turn.end for turn in inside) - seconds
        if beyond > MARGIN_SECONDS:
            notes.append(f"turns go on after the end, by up to {beyond:.1f} s")
        present = {turn.speaker for turn in inside}
        silent = [name for name in wanted if name not in present]
        return notes + [f"{speaker} speaks after the end only: silent" for speaker in silent]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Which recordings are processed, and where.

    Attributes
    ----------
    inputs, out, file_per_channel
        Arguments of :func:`fca.cli.inputs.collect`.
    manifest : Path or None
        File that lists further recordings.
    shard : str or None
        Share i/n of all recordings; None for all.
    ray : str or None
        Address of a Ray cluster; None to work in this process.
    """

    inputs: list[str] | None
    out: Path
    file_per_channel: bool = False
    manifest: Path | None = None
    shard: str | None = None
    ray: str | None = None

    def recordings(self) -> tuple[list[Recording], list[Problem], bool]:
        """Recordings to process, what is wrong with other inputs, and whether several were named.

        Raises
        ------
        InputError
            If no recording is named, or the manifest or the share cannot be used.
        """
        from fca.cli.inputs import collect
        from fca.cli.manifest import read_manifest, shard

        listed = [] if self.manifest is None else read_manifest(self.manifest)
        if not self.inputs and not listed:
            raise InputError("name recordings, or a file that lists them: --manifest")
        found, problems = collect(self.inputs or [], self.out, self.file_per_channel, listed)
        several = len(found) > 1
        if self.shard is None:
            return found, problems, several
        ours = shard(found, self.shard)
        first = int(self.shard.split("/")[0]) == 1
        return ours, problems if first else [], several


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a command.

    Attributes
    ----------
    kind : str
        Name of its records.
    corpus : Corpus
        Which recordings are processed, and where.
    audio_format, plot, as_json, overwrite
        What the user asked for.
    course : Course
        How the recordings are processed.
    """

    kind: str
    corpus: Corpus
    audio_format: str
    plot: bool
    as_json: bool
    overwrite: bool
    course: Course

    def run(
        self,
        build: Callable[..., Separator],
        options: Settings,
        signals: Callable[[Block], Signals],
        written: Settings,
        device: str,
    ) -> None:
        """Process the recordings, with one line for each, and exit with the status of the run.

        Parameters
        ----------
        build : callable
            Makes the separator from ``options``.
        signals : callable
            Gives the names and waveforms to write of a block.
        written : dict
            The choices that ``signals`` depends on.
        device : str
            Where to compute; the settings do not include it, as results do not depend on it.
        """
        from fca.cli.report import Report, separation_line
        from fca.cli.results import Results

        with usage():
            recordings, problems, several = self.corpus.recordings()
            separator = build(device=device, **options)
            self.course.build(separator)
            if self.plot:
                from fca.plot import require_matplotlib

                require_matplotlib()
        row = separator.method
        chosen = {"method": row.name, "n_iter": row.n_iter, "block": self.course.block}
        settings = {**options, **chosen, **written}
        results = Results(
            kind=self.kind,
            folder=self.corpus.out,
            settings=settings,
            signals=signals,
            course=replace(self.course, several=several),
            audio_format=self.audio_format,
            plot=self.plot,
            overwrite=self.overwrite,
        )
        again = "" if self.overwrite else ", and the same command goes on from there"
        then = f": what is finished stays{again}"
        with Report(self.as_json, len(recordings), then) as report:
            for what, why in problems:
                report.fail(what, why)
            works: Iterable[tuple[Recording, Callable[[], Settings]]] = (
                (recording, partial(results.make, recording, separator, report.advance))
                for recording in recordings
            )
            if self.corpus.ray is not None:
                works = _on_ray(self.corpus.ray, recordings, results, separator)
            for recording, work in works:
                report.run(recording, work, separation_line)
        raise typer.Exit(1 if report.n_failed else 0)


def _on_ray(
    address: str, recordings: list[Recording], results: Results, separator: Separator
) -> Iterator[tuple[Recording, Callable[[], Settings]]]:
    """Outcomes of the recordings; that no cluster can be reached is a usage error."""
    from fca.cli.cluster import work_through

    with usage("--ray"):
        yield from work_through(address, recordings, partial(_make, results, separator))


def _make(results: Results, separator: Separator, recording: Recording) -> Settings:
    """Record of a recording that a worker separates, in one thread."""
    from fca.workers import one_thread

    with one_thread():
        return results.make(recording, separator, lambda progress: None)


def contents(**paths: str | Path | None) -> Settings:
    """Hashes (SHA-256) of files, and of the weights in folders of networks, by name.

    They become part of the settings, so that results from files that have since changed are told
    apart from results of these. Names that are no files, such as those of models on the hub, are
    left out.
    """
    from fca.pretrained import WEIGHTS

    given = {name: Path(path) for name, path in paths.items() if path is not None}
    files = {name: path / WEIGHTS if path.is_dir() else path for name, path in given.items()}
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for name, file in files.items()
        if file.is_file()
    }
