"""Claims on folders: one run at a time, and what killed runs have left is swept up."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fca.cli.claim import DAY, LOCK, claimed, tidy
from fca.errors import InputError

fcntl = pytest.importorskip("fcntl")
ROOT = Path(__file__).parents[1]


def left(folder: Path, name: str = ".source1.wav.1a2b.tmp", age: float = 0.0) -> Path:
    """A temporary file that was last written to so many seconds ago."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("half")
    then = time.time() - age
    os.utime(folder / name, (then, then))
    return folder / name


@pytest.fixture
def held(out: Path) -> Iterator[None]:
    """Another process works on the folder."""
    code = (
        "import sys; from pathlib import Path; from fca.cli.claim import claimed\n"
        f"with claimed(Path({str(out)!r})):\n    print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()
    assert other.returncode == 0


def test_a_folder_is_made_and_nothing_of_the_claim_stays(out: Path) -> None:
    with claimed(out / "talk"):
        assert [path.name for path in (out / "talk").iterdir()] == [LOCK]
        (out / "talk" / "source1.wav").write_text("x")
    assert [path.name for path in (out / "talk").iterdir()] == ["source1.wav"]


def test_a_new_folder_does_not_outlast_a_failure(out: Path) -> None:
    out.mkdir()
    for folder, stays in ((out / "talk", False), (out, True)):
        with pytest.raises(KeyError), claimed(folder):
            raise KeyError
        assert folder.exists() == stays
        assert not stays or not list(folder.iterdir())


@pytest.mark.usefixtures("held")
def test_another_run_is_not_disturbed(out: Path) -> None:
    temporary = left(out, age=2 * DAY)
    with pytest.raises(InputError, match=r"out is being worked on by another run$"), claimed(out):
        pass
    tidy(out)
    assert temporary.exists()
    assert (out / LOCK).exists()


def test_a_claim_can_be_taken_again(out: Path) -> None:
    for _ in range(2):
        with claimed(out), pytest.raises(InputError, match="by another run"), claimed(out):
            pass


@pytest.mark.parametrize(
    ("owner", "age", "stays"),
    [
        (platform.node(), 0, False),
        ("elsewhere", 0, True),
        ("elsewhere", 2 * DAY, False),
        (None, 0, True),
        (None, 2 * DAY, False),
    ],
)
@pytest.mark.parametrize("finished", [False, True])
def test_what_killed_runs_have_left(
    out: Path, owner: str | None, age: float, stays: bool, finished: bool
) -> None:
    """It is gone at once if it is known that they ran on this machine, and else after a day."""
    temporary = left(out, age=age)
    others = [left(out, name, 2 * DAY) for name in (".hidden", "x.tmp", ".separation.unfinished")]
    if owner is not None:
        (out / LOCK).write_text(owner)
    if finished:
        tidy(out)
    else:
        with claimed(out):
            pass
    assert temporary.exists() == stays
    assert all(path.exists() for path in others)
    assert not (out / LOCK).exists()


def test_file_systems_without_locks(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    temporary = left(out, age=2 * DAY)
    with claimed(out), claimed(out):
        assert list(out.iterdir()) == [temporary]
    tidy(out)
    assert list(out.iterdir()) == [temporary]


def test_systems_without_locks(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    temporary = left(out, age=2 * DAY)
    with claimed(out), claimed(out):
        assert list(out.iterdir()) == [temporary]
