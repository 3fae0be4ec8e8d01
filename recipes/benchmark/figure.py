"""The headline figure: SDR improvement against real-time factor, one point per method.

    python -m recipes.benchmark.figure RESULTS/quality.json -o FIGURE.svg [--condition NAME]

The suffix decides the format (.svg or .png). Ceilings, which take no time that counts, are lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fca.errors import InputError
from fca.evaluation.metrics import Summary, summarise
from fca.files import replacing
from fca.plot import require_matplotlib
from recipes import program
from recipes.benchmark.tables import read, real_time_factor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"method": "C0", "peer": "C1", "network": "C2", "ceiling": "0.4"}
LEGEND = {
    "method": "this toolkit",
    "peer": "other toolkits",
    "network": "trained with references",
    "ceiling": "ceilings: talkers' spectra known",
}
LABEL_GAP = 0.026
"""Least vertical distance between labels that stand side by side, as a share of the axis."""
LABEL_WIDTH = 0.22


@dataclass(frozen=True)
class Point:
    """One method: how much it improves the SDR (dB) and its time over the duration."""

    name: str
    kind: str
    gain: Summary
    factor: float


def points(results: dict[str, Any], condition: str) -> list[Point]:
    """Points of one condition; entries that lost every mixture have none.

    Raises
    ------
    InputError
        If the results have no such condition.
    """
    rows = [row for row in results["rows"] if row["condition"] == condition]
    if not rows:
        known = sorted({row["condition"] for row in results["rows"]})
        raise InputError(f"no condition {condition!r} in the results; there are {known}")
    found = []
    for name, entry in results["entries"].items():
        own = [row for row in rows if row["entry"] == name]
        gain = summarise([row["improvement"]["sdr"] for row in own])
        if gain.count:
            found.append(Point(name, entry["kind"], gain, real_time_factor(own)))
    return found


def draw(found: Sequence[Point], title: str) -> Figure:
    """SDR improvement over a logarithmic axis of real-time factors, better to the upper left."""
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots()
    timed = [point for point in found if not np.isnan(point.factor)]
    for kind in dict.fromkeys(point.kind for point in timed):
        chosen = [point for point in timed if point.kind == kind]
        axes.errorbar(
            [p.factor for p in chosen],
            [p.gain.mean for p in chosen],
            yerr=[np.nan_to_num(p.gain.interval) for p in chosen],
            fmt="o",
            ms=6,
            color=COLOURS[kind],
            ecolor=(*_rgb(COLOURS[kind]), 0.25),
            label=LEGEND[kind],
        )
    axes.set_xscale("log")
    axes.set_xlabel("real-time factor: time taken over duration")
    axes.set_ylabel("SDR improvement (dB)")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.grid(alpha=0.3, which="both")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** LABEL_WIDTH)  # room for labels on the right
    _draw_ceilings(axes, [point for point in found if point.kind == "ceiling"])
    axes.legend(loc="lower right", fontsize="small")
    _label(axes, timed)
    return figure


def _draw_ceilings(axes: Axes, ceilings: Sequence[Point]) -> None:
    for n, point in enumerate(ceilings):
        label = LEGEND["ceiling"] if n == 0 else None
        axes.axhline(point.gain.mean, color=COLOURS["ceiling"], lw=0.8, ls="--", label=label)
    heights = _spread(axes, [point.gain.mean for point in ceilings])
    for point, height in zip(ceilings, heights, strict=True):
        axes.annotate(
            point.name,
            (0.995, height),
            xycoords=axes.transAxes,
            ha="right",
            va="bottom",
            fontsize="x-small",
            color=COLOURS["ceiling"],
        )


def _label(axes: Axes, timed: Sequence[Point]) -> None:
    """A name beside each point; those that would overlap are moved apart and tied by a line."""
    if not timed:
        return
    transform = axes.transData + axes.transAxes.inverted()
    places = transform.transform([(p.factor, p.gain.mean) for p in timed])
    taken: list[tuple[float, float]] = []
    for n in np.argsort(-places[:, 1]):
        x, y = places[n]
        height = y
        while any(abs(x - a) < LABEL_WIDTH and abs(height - b) < LABEL_GAP for a, b in taken):
            height -= LABEL_GAP / 4
        taken.append((x, height))
        axes.annotate(
            timed[n].name,
            (x, y),
            (x + 0.012, height),
            xycoords="axes fraction",
            va="center",
            fontsize="x-small",
            color=COLOURS[timed[n].kind],
            arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "0.5"},
        )


def _spread(axes: Axes, values: Sequence[float]) -> list[float]:
    """Heights (share of the axis) near the values, far enough apart for a line of text."""
    low, high = axes.get_ylim()
    heights = [(value - low) / (high - low) for value in values]
    order = np.argsort(heights)
    for before, after in pairwise(order):
        heights[after] = max(heights[after], heights[before] + LABEL_GAP)
    return heights


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def make(results: Path, outputs: Sequence[Path], condition: str = "two_talkers") -> None:
    """Draw the figure of results in each of the output files."""
    content = read(results)
    found = points(content, condition)
    facts = content["surroundings"]
    count = max(point.gain.count for point in found)
    title = (
        f"{condition.replace('_', ' ')}: {count} mixtures of `{facts['set']}`, mean ± 95 % "
        f"interval\n{facts['date']}, {facts['processor']}, {facts['threads']} thread(s), "
        f"seed {facts['seed']}"
    )
    figure = draw(found, title)
    for output in outputs:
        _save(figure, output)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure; the same figure gives the same file."""
    from matplotlib import rc_context

    dated: dict[str, Any] = {"metadata": {"Date": None}} if path.suffix == ".svg" else {}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fca"}), replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:] or None, **dated)


def main(
    results: Annotated[Path, typer.Argument(help="quality.json")],
    output: Annotated[list[Path], typer.Option("--output", "-o", help=".svg or .png; repeatable")],
    condition: Annotated[str, typer.Option(help="which mixtures")] = "two_talkers",
) -> None:
    """Draw SDR improvement against real-time factor."""
    make(results, output, condition)


if __name__ == "__main__":
    program.run(main)
