"""Peak memory of separating long recordings: it must not grow with their length.

    python -m recipes.meeting.memory -o OUT.md --minutes 2 --minutes 20 [--channels 8]

writes a recording of noise bursts for each length, separates it by `fca separate` in a process of
its own, and reports the largest resident memory of that process and the time it took.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fca.pieces import Writer
from recipes.benchmark.common import (
    describe,
    markdown,
    surroundings,
    thread_environment,
    write_text,
)

SAMPLE_RATE = 16000
_SECOND = 60 * SAMPLE_RATE
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
    samples = round(minutes * 60 * SAMPLE_RATE)
    with Writer(path, SAMPLE_RATE, channels, samples) as writer:
        for start in range(0, samples, _SECOND):
            size = min(_SECOND, samples - start)
            active = np.repeat(rng.random((3, -(-size // 8000))) < 0.5, 8000, axis=1)[:, :size]
            sources = rng.laplace(size=(3, size)) * active
            noise = 0.01 * rng.standard_normal((channels, size))
            writer.write(start, (0.01 * (mixing @ sources + noise)).astype(np.float32))


def measure(path: Path, out: Path, options: list[str]) -> tuple[float, float]:
    """Largest resident memory (MiB) of separating a recording, and seconds that it took."""
    import time

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


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="table to write (.md)")],
    minutes: Annotated[list[float], typer.Option(help="lengths; repeat for more")],
    channels: int = 8,
    method: str = "fastmnmf2",
    sources: int = 4,
    iterations: int = 2,
    seed: int = 0,
) -> None:
    """Measure the memory of long recordings."""
    options = ["-m", method, "-n", str(sources), "-i", str(iterations)]
    rows = []
    for length in minutes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.wav"
            record(path, length, channels, seed)
            memory, seconds = measure(path, Path(folder) / "out", options)
        rows.append([f"{length:g} min", f"{memory:.0f}", f"{seconds:.0f}"])
        typer.echo(" | ".join(rows[-1]))
    facts: dict[str, Any] = surroundings()
    text = (
        f"# Memory of long recordings\n\n`fca separate` ({method}, {sources} sources, {iterations} "
        f"iterations, default blocks) of {channels} channels at 16 kHz, one thread, seed {seed}.\n"
        f"{describe(facts)}\n\n"
        f"{markdown(['recording', 'largest resident memory, MiB', 'seconds'], rows)}"
    )
    write_text(output, text)


if __name__ == "__main__":
    typer.run(main)
