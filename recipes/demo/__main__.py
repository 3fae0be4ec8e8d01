"""Separate the shipped recordings: ``python -m recipes.demo [--method NAME] [--out DIR]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fca import Separation, Separator, audio, plot
from fca.evaluation.metrics import evaluate
from fca.methods import DEFAULT_METHOD
from recipes import program

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Example:
    """A shipped recording and the references that belong to its loudest sources."""

    name: str
    recording: str
    title: str
    references: tuple[str, ...]
    measure: str


EXAMPLES = [
    Example(
        "two_talkers",
        "mixture.flac",
        "Two talkers in measured room responses",
        ("image1.flac", "image2.flac"),
        "SDR against each talker's own image at the first microphone",
    ),
    Example(
        "kinect",
        "recording.flac",
        "A real array: one talker and the sound of the room",
        ("close_talk.flac",),
        "SDR against the talker's close-talking microphone",
    ),
]


def references(example: Example, samples: int) -> np.ndarray:
    """References at the first microphone (talkers, samples)."""
    paths = [DATA / example.name / name for name in example.references]
    return np.stack([audio.fit_length(audio.read(path)[0][0], samples) for path in paths])


def write(result: Separation, mixture: np.ndarray, folder: Path) -> list[Path]:
    """Write sources and picture; return where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = result.sources.cpu().numpy()
    paths = [folder / f"source{n}.wav" for n in range(1, len(sources) + 1)]
    for path, source in zip(paths, sources, strict=True):
        audio.write(path, source, result.sample_rate)
    plot.save(plot.plot_separation(mixture, sources, result.sample_rate), folder / "picture.png")
    return [*paths, folder / "picture.png"]


def run(example: Example, separator: Separator, out: Path) -> None:
    """Separate one example and say what came of it."""
    mixture, rate = audio.read(DATA / example.name / example.recording)
    print(f"\n{example.title}: {len(mixture)} microphones, {mixture.shape[1] / rate:.1f} s")
    result = separator(mixture, rate)
    row = result.method
    print(f"  separated by {row.name} ({row.spatial} × {row.source}, {row.inference}), ", end="")
    print(f"{result.cost[-1][0]} iterations in {result.seconds:.1f} s")
    truth = references(example, mixture.shape[1])
    estimates = result.sources.cpu().numpy()[: len(truth)]
    scores = evaluate(truth, estimates, rate, mixture=mixture[0], metrics=["sdr"])
    print(f"  {example.measure}:")
    for n, source in enumerate(scores.permutation):
        before, after = scores.mixture["sdr"][n], scores.values["sdr"][n]
        print(f"    source {source + 1}: {before:5.1f} dB -> {after:5.1f} dB", end="")
        print(f"  (improvement {after - before:+.1f} dB)")
    print(f"  mean SDR improvement: {scores.improvement['sdr'].mean():+.1f} dB")
    for path in write(result, mixture[0], out / example.name):
        print(f"  {path}")


def main(
    method: Annotated[str, typer.Option(help="see: fca methods")] = DEFAULT_METHOD,
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("demo-output"),
) -> None:
    """Separate the shipped recordings."""
    separator = Separator(method, n_sources=2)
    for example in EXAMPLES:
        run(example, separator, out)


if __name__ == "__main__":
    program.run(main)
