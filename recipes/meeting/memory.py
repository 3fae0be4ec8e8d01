"""Peak memory of separating long recordings: it must not grow with their length.

    python -m recipes.meeting.memory -o OUT.md --case '2,6: -n 4' --case '2,20: -m auxiva' [...]

A case is lengths in minutes and options of `fca separate`. For each length the script writes a
recording of noise bursts, separates it in a process of its own, and reports the largest resident
memory of that process and the time it took: a table in OUT.md, all numbers in OUT.json beside it.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fca.errors import InputError
from fca.pieces import Writer
from recipes import program
from recipes.benchmark.common import (
    describe,
    markdown,
    surroundings,
    thread_environment,
    write_json,
    write_text,
)

SAMPLE_RATE = 16000
_MINUTE = 60 * SAMPLE_RATE
_PROGRAM = """
import resource, sys
from fca.cli import main
sys.argv = ["fca", "separate", *sys.argv[1:]]
try:
    main()
except SystemExit as done:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    sys.exit(done.code)
"""


def record(path: Path, minutes: float, channels: int, seed: int) -> None:
    """Write so many minutes of three bursty sources at random mixing, a minute at a time."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((channels, 3))
    samples = round(minutes * _MINUTE)
    with Writer(path, SAMPLE_RATE, channels, samples) as writer:
        for start in range(0, samples, _MINUTE):
            size = min(_MINUTE, samples - start)
            active = np.repeat(rng.random((3, -(-size // 8000))) < 0.5, 8000, axis=1)[:, :size]
            sources = rng.laplace(size=(3, size)) * active
            noise = 0.01 * rng.standard_normal((channels, size))
            writer.write(start, (0.01 * (mixing @ sources + noise)).astype(np.float32))


def measure(path: Path, out: Path, options: list[str]) -> tuple[float, float]:
    """Largest resident memory (MiB) of separating a recording, and seconds that it took."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), "-o", str(out), *options],
        env=thread_environment(1),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout), time.perf_counter() - began


def parse_case(text: str) -> tuple[list[float], list[str]]:
    """Lengths in minutes, and options of `fca separate`, of `2,20: -m auxiva`.

    Raises
    ------
    InputError
        If the lengths are no positive numbers.
    """
    lengths, _, options = text.partition(":")
    try:
        minutes = [float(length) for length in lengths.split(",")]
    except ValueError:
        minutes = []
    if not minutes or min(minutes) <= 0:
        raise InputError(f"{text!r} does not begin with lengths in minutes, such as 2,20:")
    return minutes, shlex.split(options)


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="table to write (.md)")],
    case: Annotated[list[str], typer.Option(help="'MINUTES,...: OPTIONS'; repeat for more")],
    channels: int = 8,
    seed: int = 0,
) -> None:
    """Measure the memory of long recordings."""
    try:
        cases = [parse_case(text) for text in case]
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--case") from None
    content = {"surroundings": surroundings(), "channels": channels, "seed": seed}
    rows: list[dict[str, Any]] = []
    for minutes, options in cases:
        for length in minutes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "long.wav"
                record(path, length, channels, seed)
                memory, seconds = measure(path, Path(folder) / "out", options)
            row = {"minutes": length, "options": options, "MiB": memory, "seconds": seconds}
            rows.append(row)
            typer.echo(f"{length:g} min {' '.join(options)}: {memory:.0f} MiB, {seconds:.0f} s")
            write_report(output, {**content, "rows": rows})


def write_report(output: Path, content: dict[str, Any]) -> None:
    """What was measured so far, as a table and as numbers."""
    cells = [
        [
            f"{row['minutes']:g} min, {shlex.join(row['options']) or 'no options'}",
            f"{row['MiB']:.0f}",
            f"{row['seconds']:.0f}",
        ]
        for row in content["rows"]
    ]
    text = (
        f"# Memory of long recordings\n\n`fca separate` of {content['channels']} channels at 16 "
        f"kHz, with the options given and otherwise its defaults; one thread, seed "
        f"{content['seed']}.\n{describe(content['surroundings'])}\n\n"
        f"{markdown(['recording', 'largest resident memory, MiB', 'seconds'], cells)}"
    )
    write_text(output, text)
    write_json(output.with_suffix(".json"), content)


if __name__ == "__main__":
    program.run(main)
