"""Pictures: drawn without a display or global state, and defined on silence and any length."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from fca import plot
from fca.errors import InputError

RATE = 16000


def tone_then_silence(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return np.sin(2 * np.pi * 440 * time) * (time < seconds / 2)


def test_every_signal_has_a_panel_and_the_picture_is_written(tmp_path: Path) -> None:
    sources = np.stack([tone_then_silence(2), tone_then_silence(2)[::-1]])
    figure = plot.plot_separation(sources.sum(0), sources, RATE)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:4] == ["mixture", "source 1", "source 2", ""]
    plot.save(figure, tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").stat().st_size > 10_000


@pytest.mark.parametrize("seconds", [0.001, 0.03, 600])
def test_any_length_has_a_bounded_picture(seconds: float) -> None:
    signal = tone_then_silence(seconds)
    figure = plot.plot_separation(signal, signal[None], RATE)
    image = figure.axes[0].images[0].get_array()
    assert image.shape[1] <= plot.MAX_FRAMES + 1
    assert np.isfinite(image).all()


def test_bars_are_where_the_rttm_file_has_a_source() -> None:
    rng = np.random.default_rng(0)
    sources = 1e-4 * rng.standard_normal((3, 6 * RATE))
    sources[0, RATE : 3 * RATE] += np.sin(np.arange(2 * RATE) * 0.3)
    sources[1, 4 * RATE : 5 * RATE] += np.sin(np.arange(RATE) * 0.2)
    figure = plot.plot_separation(sources.sum(0), sources[:2], RATE)
    bars = [
        [path.vertices[:, 0] for collection in panel.collections for path in collection.get_paths()]
        for panel in figure.axes[1:3]
    ]
    assert [len(paths) for paths in bars] == [1, 1]
    for (times,), (start, end) in zip(bars, [(1, 3), (4, 5)], strict=True):
        assert times.min() == pytest.approx(start, abs=0.1)
        assert times.max() == pytest.approx(end, abs=0.1)


def test_silence_can_be_drawn() -> None:
    figure = plot.plot_separation(np.zeros(RATE), np.zeros((2, RATE)), RATE)
    assert len(figure.axes) == 5


def test_a_mixture_in_which_nobody_is_heard_can_be_drawn(tmp_path: Path) -> None:
    figure = plot.plot_separation(tone_then_silence(2), np.zeros((0, 2 * RATE)), RATE)
    assert [axes.get_title(loc="left") for axes in figure.axes][:2] == ["mixture", ""]
    plot.save(figure, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("mixture", "sources"),
    [((10,), (10,)), ((1, 10), (2, 10)), ((10,), (2, 11)), ((0,), (2, 0))],
)
def test_shapes_that_do_not_fit(mixture: tuple[int, ...], sources: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected a mixture"):
        plot.plot_separation(np.zeros(mixture), np.zeros(sources), RATE)


def test_a_missing_matplotlib_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match="need the extra 'plot'"):
        plot.require_matplotlib()
