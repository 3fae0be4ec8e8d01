"""What is said while the work goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fca.cli.inputs import Recording
from fca.cli.report import SAY_SECONDS, Report
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
                report.advance(Progress(iteration, 10, None))
            return {}

        report.run(recording, work, lambda item, record: f"done {item.label}")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["working talk.wav: 40%", "working talk.wav: 80%", "done talk.wav"]
