"""Pictures of a separation. Needs matplotlib (the extra ``plot``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fca.activity import Levels
from fca.errors import InputError
from fca.evaluation.metrics import summarise
from fca.extras import require
from fca.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "distribution",
    "plot_directions",
    "plot_separation",
    "require_matplotlib",
    "save",
]

Array = NDArray[np.float64]

WINDOW_SECONDS = 0.064
MAX_FRAMES = 1500
"""Frames of a spectrogram: more than there are pixels would cost time and show nothing."""
RANGE_DB = 70.0


def plot_separation(mixture: ArrayLike, sources: ArrayLike, sample_rate: int) -> Figure:
    """Spectrograms of a mixture and its sources, and the sources' levels over time.

    All spectrograms have one colour scale, 70 dB deep from the mixture's maximum. The bar under a
    source's spectrogram marks where it is active, as in the RTTM file of a separation
    (:mod:`fca.activity`).

    Parameters
    ----------
    mixture : (samples,)
        At the reference channel.
    sources : (N, samples)
    sample_rate : int
        In Hz.

    Raises
    ------
    InputError
        If matplotlib is not installed or the shapes do not fit.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    signals = _stack(mixture, sources)
    spectra, times = _spectrograms(signals, sample_rate)
    figure = Figure(figsize=(10, 1.9 * len(signals) + 1.6), layout="constrained")
    heights = [1.0] * len(signals) + [0.8]
    *panels, levels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    extent = (0.0, signals.shape[1] / sample_rate, 0.0, sample_rate / 2000)
    for n, (panel, spectrum) in enumerate(zip(panels, spectra, strict=True)):
        image = _draw_spectrogram(panel, spectrum, spectra[0].max(), extent)
        title, colour = (f"source {n}", f"C{n - 1}") if n else ("mixture", "black")
        panel.set_title(title, loc="left", fontsize="medium", color=colour)
    figure.colorbar(image, ax=panels, label="dB", pad=0.01, aspect=40)
    for n, (panel, spans) in enumerate(zip(panels[1:], _active(signals, sample_rate), strict=True)):
        _draw_activity(panel, spans, f"C{n}")
    _draw_levels(levels, times, spectra)
    return figure


def plot_directions(
    azimuths: ArrayLike,
    response: ArrayLike,
    found: Sequence[float | None],
    names: Sequence[str],
) -> Figure:
    """From where sources are heard: their steered responses around the array, seen from above.

    Parameters
    ----------
    azimuths : (A,)
        In degrees.
    response : (K, A)
        Drawn from zero to the largest of all.
    found : of length K
        Azimuth of each source, None for those that were never heard, which are not drawn.
    names : of length K

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    angle, rows = np.radians(azimuths), np.clip(response, 0, None)
    figure = Figure(figsize=(5, 5), layout="constrained")
    panel = figure.subplots(subplot_kw={"projection": "polar"})
    if len(angle) and np.ptp(angle) > 1.9 * np.pi:  # close the circle
        angle, rows = np.append(angle, angle[0]), np.hstack([rows, rows[:, :1]])
    top = max(rows.max(initial=0.0), np.finfo(float).tiny)
    for n, (name, row, azimuth) in enumerate(zip(names, rows, found, strict=True)):
        if azimuth is not None:
            panel.plot(angle, row / top, color=f"C{n}", label=f"{name}, {azimuth:.0f}°")
            panel.plot([np.radians(azimuth)] * 2, [0, 1], color=f"C{n}", linestyle=":")
    panel.set(ylim=(0, 1), yticklabels=[])
    if any(azimuth is not None for azimuth in found):
        figure.legend(loc="outside lower center", ncols=4)
    return figure


def distribution(values: Mapping[str, Sequence[float]], groups: Sequence[str], kind: str) -> Figure:
    """One panel per metric: every recording a point, each group's mean with its 95 % interval.

    Parameters
    ----------
    values : metric -> one value per recording; those that are not finite are not drawn
    groups : the group of each recording, a row of each panel
    kind : what the values are, for the axis

    Raises
    ------
    InputError
        If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(groups))
    across = min(4, max(1, len(values)))
    down = -(-len(values) // across)
    figure = Figure(figsize=(10, down * (1.1 + 0.45 * len(names))), layout="constrained")
    panels = figure.subplots(max(1, down), across, squeeze=False, sharey=True)
    for panel in panels.flat[len(values) :]:
        panel.set_axis_off()
    for panel, (metric, column) in zip(panels.flat, values.items(), strict=False):
        for row, name in enumerate(names):
            chosen = [v for v, g in zip(column, groups, strict=True) if g == name]
            _draw_points(panel, np.array(chosen), row)
        panel.set(xlabel=f"{metric}, {kind}", yticks=range(len(names)), yticklabels=names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.grid(axis="x", alpha=0.3)
    return figure


def _active(signals: Array, sample_rate: int) -> list[list[tuple[float, float]]]:
    """Start and duration (s) of the stretches in which each source is active.

    From the mixture and its sources, (N + 1, samples).
    """
    mixture, sources = signals[0], signals[1:]
    levels = Levels(len(mixture), sample_rate)
    levels.add(0, sources, mixture - sources.sum(0))
    names = [str(n) for n in range(len(sources))]
    found = levels.segments(names)
    return [[(s.start, s.duration) for s in found if s.speaker == name] for name in names]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG; it appears under its name only when it is complete."""
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def require_matplotlib() -> None:
    """Raise :class:`~fca.errors.InputError` if matplotlib is not installed."""
    require("matplotlib", "plot", "plots need")


def _stack(mixture: ArrayLike, sources: ArrayLike) -> Array:
    first, rest = np.asarray(mixture, dtype=float), np.asarray(sources, dtype=float)
    if first.ndim != 1 or rest.ndim != 2 or rest.shape[1:] != first.shape or not first.size:
        raise InputError(
            f"expected a mixture (samples,) and sources (N, samples), got {first.shape} and "
            f"{rest.shape}"
        )
    return np.concatenate([first[None], rest])


def _spectrograms(signals: Array, sample_rate: int) -> tuple[Array, Array]:
    """Power in dB (N, F, T) of signals (N, samples), and the times of the frames' centres."""
    samples = signals.shape[-1]
    size = round(WINDOW_SECONDS * sample_rate)
    hop = max(size // 4, -(-samples // MAX_FRAMES))
    level = signals.mean(-1, keepdims=True)  # an offset would outshine everything
    padded = np.pad(signals - level, [(0, 0), (size // 2, size)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[:, : samples + 1 : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))).swapaxes(1, 2) ** 2
    floor = power.max() * 1e-12 + np.finfo(float).tiny
    return 10 * np.log10(power + floor), np.arange(frames.shape[1]) * hop / sample_rate


def _level(spectra: Array) -> Array:
    """Mean power of each frame in dB, (..., T)."""
    level: Array = 10 * np.log10(np.mean(10 ** (spectra / 10), axis=-2))
    return level


def _draw_spectrogram(
    panel: Axes, spectrum: Array, top: float, extent: tuple[float, float, float, float]
) -> AxesImage:
    panel.set_ylabel("kHz")
    return panel.imshow(
        spectrum - top,
        origin="lower",
        aspect="auto",
        extent=extent,
        vmin=-RANGE_DB,
        vmax=0,
        cmap="magma",
    )


def _draw_activity(panel: Axes, spans: list[tuple[float, float]], colour: str) -> None:
    """A bar just below the panel, as wide as the time axis."""
    across = panel.get_xaxis_transform()
    panel.broken_barh(spans, (-0.09, 0.06), color=colour, transform=across, clip_on=False, lw=0)


def _draw_points(panel: Axes, values: Array, row: int) -> None:
    finite = values[np.isfinite(values)]
    spread = np.random.default_rng(0).uniform(-0.25, 0.25, len(finite))
    panel.scatter(finite, row + spread, s=14, alpha=0.6, color=f"C{row % 10}", linewidths=0)
    if len(finite):
        summary = summarise([[value] for value in finite])
        error = None if np.isnan(summary.interval) else summary.interval
        panel.errorbar(summary.mean, row, xerr=error, fmt="D", color="black", ms=4, capsize=4)


def _draw_levels(panel: Axes, times: Array, spectra: Array) -> None:
    levels = _level(spectra) - _level(spectra[0]).max()
    for n, level in enumerate(levels[1:]):
        panel.plot(times, level, color=f"C{n}", linewidth=1)
    panel.set(xlabel="time (s)", ylabel="level (dB)", ylim=(-50, 3))
