"""Progress bars, one line per recording, and JSON lines for programs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fca.errors import InputError, counted

if TYPE_CHECKING:
    from fca.cli.inputs import Recording
    from fca.inference.iterate import Progress as Iteration

Record = dict[str, Any]
SAY_SECONDS = 60.0
_log = logging.getLogger(__name__)


class Named(Protocol):
    """An item that work is done on."""

    @property
    def name(self) -> str:
        """Short name, for the progress bar."""

    @property
    def label(self) -> str:
        """Name in messages."""


Item = TypeVar("Item", bound=Named)


class Report:
    """Reports progress to the user on standard error, and results to programs on standard output.

    Bars are shown on terminals only; elsewhere there is a line every :data:`SAY_SECONDS`. With
    ``as_json``, standard output gets one line per recording, a JSON object. Who interrupts the run
    is told what becomes of it (``then``).
    """

    def __init__(self, as_json: bool, n_recordings: int, then: str = "") -> None:
        self._then = then
        self.failures: list[tuple[str, str]] = []
        self._as_json = as_json
        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._said = time.monotonic()
        self._all = self._progress.add_task("recordings", total=n_recordings)
        self._one = self._progress.add_task("iterations", total=None)

    @property
    def n_failed(self) -> int:
        """Number of failures."""
        return len(self.failures)

    def __enter__(self) -> Report:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            self._line(f"interrupted{self._then}")

    def advance(self, iteration: Iteration) -> None:
        """Callback of the separator: shows how much of the recording is done."""
        self._progress.update(self._one, completed=100 * iteration.share, total=100)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= SAY_SECONDS:
            self._said = now
            self._line(f"working {self._item}: {iteration.share:.0%}")

    def run(
        self, item: Item, work: Callable[[], Record], describe: Callable[[Item, Record], str]
    ) -> None:
        """Process one item and report its result in a line.

        A failure, of whatever kind, is reported in the same way and does not stop the run; where it
        came from is logged (level DEBUG).
        """
        self._progress.reset(self._one, description=item.name, total=None)
        self._item, self._said = item.label, time.monotonic()
        try:
            record = work()
            line = describe(item, record)
        except Exception as error:  # whatever it is, the others are still to be processed
            _log.debug("%s failed", item.label, exc_info=True)
            self.fail(item.label, reason(error))
        else:
            self._line(line)
            self._json(record)
        self._progress.advance(self._all)

    def fail(self, what: str, why: str) -> None:
        """Count a failure and report it in one line."""
        told = " ".join(why.split()).removeprefix(f"{what}: ")
        self.failures.append((what, told))
        self._line(f"failed  {what}: {told}")
        self._json({"status": "failed", "input": what, "error": told})

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    def _json(self, record: Record) -> None:
        if self._as_json:
            typer.echo(json.dumps(record))


def reason(error: Exception) -> str:
    """What went wrong, for a line; with the kind of error where the message is not for users."""
    if isinstance(error, InputError | OSError | RuntimeError):  # torch runs out of memory, say
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def separation_line(recording: Recording, record: Record) -> str:
    """Line with which :class:`Report` reports a separated recording."""
    text = f"{record['status']:<7} {recording.label} -> {record['output']}"
    if record["status"] == "skipped":
        return f"{text}: finished earlier"
    channels = counted(record["channels"], "channel")
    text += (
        f": {counted(record['n_sources'], 'source')} from {channels}, "
        f"{record['duration']:.1f} s in {record['seconds']:.1f} s "
        f"({record['method']}, {counted(record['iterations'], 'iteration')})"
    )
    return "; ".join([text, *record["notes"]])
