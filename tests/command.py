"""The command line as tests run it: in process, fast, on a second of two talkers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from fca import audio
from fca.cli import app

RATE = 16000
FAST = ["--method", "auxiva", "--iterations", "2"]


def fca(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def separate(*arguments: object) -> Result:
    return fca("separate", *arguments, *FAST)


def records(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def write_all(folder: Path, names: list[str], waveform: np.ndarray) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio.write(folder / name, waveform, RATE)
