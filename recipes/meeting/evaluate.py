"""Separate a simulated meeting: do talkers keep their tracks, how clean are they, who speaks when.

    python -m recipes.meeting.evaluate MEETING -o OUT.md [--method fastmnmf2] [--sources 4 | auto]

MEETING is a folder made by `recipes.meeting.simulate`. With `--guided` it is known who speaks when.
The tables go to OUT.md, all numbers to OUT.json beside it.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from fca import audio
from fca.activity import Segment, read_rttm
from fca.errors import InputError
from fca.evaluation.diarization import diarization_errors
from fca.files import write_json, write_text
from recipes import program
from recipes.benchmark.common import describe, markdown, surroundings

SDR_SECONDS = 60
"""Scores are taken over pieces of this length, so that a swap shows where it happens."""
LEAST_SECONDS = 2.0
"""A talker is scored where he speaks this long in a piece."""

Array = NDArray[np.floating[Any]]


def separate(recording: Path, out: Path, options: list[str]) -> tuple[Path, dict[str, Any]]:
    """Folder with the results of `fca separate`, and its record."""
    from typer.testing import CliRunner

    from fca.cli import app

    result = CliRunner().invoke(app, ["separate", str(recording), "-o", str(out), *options])
    if result.exit_code:
        raise InputError(result.output.strip())
    folder = out / recording.stem
    return folder, json.loads((folder / "separation.json").read_text())


def agreement(images: Array, tracks: Array) -> Array:
    """Squared correlation of every talker with every track, (N, K)."""
    cross = (images @ tracks.T) ** 2
    power = np.outer(np.square(images).sum(1), np.square(tracks).sum(1))
    shared: Array = cross / np.maximum(power, 1e-20)
    return shared


def pieces(samples: int, rate: int) -> list[slice]:
    """The stretches that are scored; what remains at the end belongs to the last."""
    size = SDR_SECONDS * rate
    starts = list(range(0, max(samples - size // 2, 1), size))
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], samples], strict=True)]


def seconds_spoken(segments: list[Segment], name: str, begin: float, end: float) -> float:
    """How long somebody speaks between two moments."""
    own = [s for s in segments if s.speaker == name]
    return sum(max(0.0, min(s.end, end) - max(s.start, begin)) for s in own)


def sdr(reference: Array, estimate: Array) -> float:
    """SDR (dB) without any filter: estimates are images at the same microphone."""
    error = np.square(reference - estimate).sum()
    return float(10 * np.log10(np.square(reference).sum() / max(error, 1e-20)))


def score(folder: Path, results: Path) -> list[dict[str, Any]]:
    """One row per piece and talker who speaks in it.

    A talker's home is the track that agrees with him best over the whole meeting; he is swapped in
    a piece in which another track agrees better.
    """
    truth = read_rttm(folder / "meeting.rttm")
    talkers = sorted({segment.speaker for segment in truth})
    images = np.stack([audio.read(folder / f"{name}.wav")[0][0] for name in talkers])
    names = sorted(path.stem for path in results.glob("*.wav"))
    tracks = np.stack([audio.read(results / f"{name}.wav")[0][0] for name in names])
    mixture, rate = audio.read(folder / "meeting.wav")
    home = agreement(images, tracks).argmax(1)
    rows = []
    for piece in pieces(images.shape[1], rate):
        here = agreement(images[:, piece], tracks[:, piece]).argmax(1)
        for n, name in enumerate(talkers):
            if seconds_spoken(truth, name, piece.start / rate, piece.stop / rate) < LEAST_SECONDS:
                continue
            image = images[n, piece]
            before = sdr(image, mixture[0, piece])
            after = sdr(image, tracks[home[n], piece])
            rows.append(
                {
                    "start": piece.start / rate,
                    "talker": name,
                    "track": names[home[n]],
                    "swapped": bool(here[n] != home[n]),
                    "sdr": after,
                    "improvement": after - before,
                }
            )
    return rows


def longest_pause(segments: list[Segment], name: str) -> float:
    """Longest silence (s) between two segments of somebody."""
    own = sorted((s.start, s.end) for s in segments if s.speaker == name)
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(own)]
    return max(gaps, default=0.0)


def tables(folder: Path, rows: list[dict[str, Any]], errors: dict[float, dict[str, float]]) -> str:
    """The report without its heading; who speaks when only where it was found out."""
    truth = read_rttm(folder / "meeting.rttm")
    lines = []
    for name in dict.fromkeys(row["talker"] for row in rows):
        own = [row for row in rows if row["talker"] == name]
        swapped = sum(row["swapped"] for row in own)
        means = [np.mean([row[key] for row in own]) for key in ("sdr", "improvement")]
        cells = [f"{longest_pause(truth, name):.0f}", f"{swapped} of {len(own)}"]
        lines.append([name, *cells, *(f"{mean:.1f}" for mean in means)])
    header = ["", "longest pause, s", "pieces on another track", "SDR, dB", "improvement, dB"]
    tracks = markdown(header, lines)
    if not errors:
        return tracks
    parts = [
        [
            f"{collar:g}",
            *(f"{100 * e[k]:.1f}" for k in ("DER", "missed", "false alarm", "confusion")),
        ]
        for collar, e in errors.items()
    ]
    der = markdown(["collar, s", "DER, %", "missed", "false alarm", "confusion"], parts)
    return f"{tracks}\n{der}"


def _n_talkers(truth: Path) -> str:
    return str(len({turn.speaker for turn in read_rttm(truth)}))


def main(
    meeting: Annotated[Path, typer.Argument(help="folder made by recipes.meeting.simulate")],
    output: Annotated[Path, typer.Option("--output", "-o", help="tables to write (.md)")],
    method: Annotated[str | None, typer.Option(help="the default unless given")] = None,
    sources: Annotated[
        str | None,
        typer.Option(help="number of talkers, or auto; the true number unless given"),
    ] = None,
    iterations: Annotated[int | None, typer.Option(help="the method's unless given")] = None,
    guided: Annotated[bool, typer.Option("--guided", help="by who speaks when")] = False,
    seed: int = 0,
) -> None:
    """Separate and score a meeting."""
    torch.set_num_threads(1)
    truth = meeting / "meeting.rttm"
    wanted = sources or _n_talkers(truth)
    count = ["--rttm", str(truth)] if guided else ["-n", wanted]
    chosen = {"-m": method, "-i": iterations, "--seed": seed}
    options = [str(x) for pair in chosen.items() if pair[1] is not None for x in pair]
    facts: dict[str, Any] = surroundings()
    with tempfile.TemporaryDirectory() as folder:
        results, record = separate(meeting / "meeting.wav", Path(folder), [*options, *count])
        rows = score(meeting, results)
        errors = {
            collar: diarization_errors(truth, results / "activity.rttm", collar)
            for collar in (0.0, 0.5)
            if not guided
        }
    blocks = record["blocks"]
    made = json.loads((meeting / "meeting.json").read_text())
    swapped = sum(row["swapped"] for row in rows)
    told = "who speaks when" if guided else f"-n {wanted}"
    text = (
        f"# A meeting of {record['duration'] / 60:g} minutes\n\n"
        f"{len(made['speakers'])} talkers, {record['channels']} microphones, seed {made['seed']}; "
        f"`fca separate` by {record['method']} with {' '.join([*options, told])}, {len(blocks)} "
        f"blocks, {record['n_sources']} tracks, {record['seconds']:.0f} s. A talker is scored in "
        f"every {SDR_SECONDS}-s piece in which he speaks for {LEAST_SECONDS:g} s, against his "
        f"reverberant image at the first microphone (SDR without a filter). Track swaps: {swapped} "
        f"of {len(rows)} pieces.\n{describe(facts)}\n\n{tables(meeting, rows, errors)}"
    )
    write_text(output, text)
    write_json(
        output.with_suffix(".json"),
        {"surroundings": facts, "meeting": made, "blocks": blocks, "pieces": rows, "der": errors},
    )
    typer.echo(text)


if __name__ == "__main__":
    program.run(main)
