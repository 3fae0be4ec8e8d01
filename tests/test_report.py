"""What is said while the work goes on."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from fca.cli.cluster import _outcome, _task
from fca.cli.inputs import Recording
from fca.cli.report import SAY_SECONDS, Report
from fca.errors import InputError
from fca.inference import Progress


def test_a_log_hears_of_long_work_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard error is no terminal here: no bar, but a line a minute."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    recording = Recording("talk", (Path("talk.wav"),))
    with Report(as_json=False, n_recordings=1) as report:

        def work() -> dict[str, object]:
            nonlocal now
            for iteration in range(1, 11):
                now += 0.3 * SAY_SECONDS
                report.advance(Progress(iteration, 10, None, iteration / 10))
            return {}

        report.run(recording, work, lambda item, record: f"done {item.label}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["working talk.wav: 40%", "working talk.wav: 80%", "done talk.wav"]


def test_who_interrupts_a_run_hears_what_becomes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt), Report(False, 1, ": it goes on"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted: it goes on\n"


def fail(error: BaseException) -> dict[str, object]:
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("talk.wav: too short"), "too short"),
        (OSError("disk full"), "disk full"),
        (RuntimeError("out of memory,\nbuy more"), "out of memory, buy more"),
        (IndexError("list index out of range"), "IndexError: list index out of range"),
        (KeyError("files"), "KeyError: 'files'"),
        (MemoryError(), "MemoryError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_no_error_of_one_recording_stops_the_others(
    error: Exception,
    told: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    recordings = [Recording(name, (Path(f"{name}.wav"),)) for name in ("talk", "other")]
    caplog.set_level(logging.DEBUG, logger="fca")
    with Report(as_json=True, n_recordings=2) as report:
        report.run(recordings[0], lambda: fail(error), lambda item, record: "")
        report.run(recordings[1], lambda: {}, lambda item, record: f"done {item.label}")
    output, lines = capsys.readouterr()
    assert lines.splitlines() == [f"failed  talk.wav: {told}", "done other.wav"]
    assert json.loads(output.splitlines()[0])["error"] == told
    assert report.failures == [("talk.wav", told)]
    assert "Traceback" in caplog.text
    assert "in fail" in caplog.text


def test_a_record_that_lacks_something_is_a_failure_of_its_recording() -> None:
    recording = Recording("talk", (Path("talk.wav"),))
    with Report(as_json=False, n_recordings=1) as report:
        report.run(recording, dict, lambda item, record: str(record["output"]))
    assert report.failures == [("talk.wav", "KeyError: 'output'")]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_a_request_to_stop_is_no_failure(error: BaseException) -> None:
    recording = Recording("talk", (Path("talk.wav"),))
    with pytest.raises(type(error)), Report(as_json=False, n_recordings=1) as report:
        report.run(recording, lambda: fail(error), lambda item, record: "")


def test_errors_of_workers_come_back_as_text(caplog: pytest.LogCaptureFixture) -> None:
    recordings = [Recording("talk", (Path("talk.wav"),))]
    row = _task(recordings, lambda recording: fail(IndexError("list index")))({"index": 0})
    caplog.set_level(logging.DEBUG, logger="fca")
    with pytest.raises(InputError, match=r"^IndexError: list index$"):
        _outcome(row)
    assert "in fail" in caplog.text
    assert _outcome(_task(recordings, lambda recording: {"status": "done"})({"index": 0}))
