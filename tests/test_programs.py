"""Programs of the recipes: what they say when they are asked, and when something is wrong."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "recipes").rglob("*.py")
    if 'if __name__ == "__main__":' in path.read_text("utf-8")
)

pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def status(monkeypatch: pytest.MonkeyPatch, program: str, *arguments: str) -> int:
    """Exit status of ``python -m PROGRAM ARGUMENTS``, run in this process."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as ended:
        try:
            runpy.run_module(program, run_name="__main__")
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] in ("fca", "recipes"):
                raise
            pytest.skip(f"{error.name} is not installed")
    return ended.value.code or 0


def test_there_are_programs() -> None:
    assert {"recipes.demo.__main__", "recipes.prior.train"} < set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_given_and_nothing_done(
    program: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(monkeypatch, program, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) > 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("recipes.adapters.cuts", ["in.jsonl"]),
        ("recipes.adapters.cuts", ["nowhere.jsonl", "out"]),
        ("recipes.adapters.espnet", ["wav.scp"]),
        ("recipes.adapters.features", []),
        ("recipes.adapters.hub", []),
        ("recipes.adapters.networks", ["--no-such-option"]),
        ("recipes.demo.page", []),
        ("recipes.prior.report", ["out.md"]),
    ],
)
def test_wrong_arguments_are_refused(
    program: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status(monkeypatch, program, *arguments) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("recipes.adapters.espnet", ["none.scp", "out"], "none.scp: No such file or directory"),
        ("recipes.benchmark.quality", ["nowhere", "-o", "out"], "no such file"),
        ("recipes.demo.__main__", ["--method", "nonsense"], "nonsense"),
        ("recipes.meeting.evaluate", ["nowhere", "-o", "out.md"], "No such file"),
        ("recipes.neural.data", ["out", "--rooms", "1", "--talkers", "0"], "a scene needs talkers"),
        ("recipes.prior.picture", ["nowhere", "x.flac", "-o", "out.png"], "no model"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    program: str,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(monkeypatch, program, *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
