"""Jointly diagonal models of their own in overlapping windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import assert_never_rises, costs, random_mixture, random_psd, seeded, spatial_model

from fca.inference.settle import Settling
from fca.model import Model
from fca.source import Fixed
from fca.spatial import FullRank, JointlyDiagonal
from fca.spatial.expanded import MovingAverage
from fca.spatial.observation import Observation
from fca.spatial.windows import InWindows, in_windows
from fca.state import choose

B, F, M, T, LENGTH = 2, 6, 3, 50, 16
ALL, FIRST = torch.tensor([True, True]), torch.tensor([True, False])


def fixed(name: str = "jointly diagonal") -> tuple[JointlyDiagonal, Tensor]:
    """A model of two recordings that is fitted a little, and PSDs."""
    mixture = random_mixture(F, M, T, batch=B)
    spatial = spatial_model(name, mixture)
    assert isinstance(spatial, JointlyDiagonal)
    psd = random_psd((B, F, spatial.n_sources, T), seeded(1))
    for _ in range(3):
        spatial.update(psd)
    return spatial, psd


@pytest.mark.parametrize("name", ["jointly diagonal", "shared gains"])
def test_windows_begin_with_the_model_of_the_recording(name: str) -> None:
    whole, psd = fixed(name)
    windows = InWindows(whole, LENGTH, ALL)
    torch.testing.assert_close(windows.images(psd), whole.images(psd))
    torch.testing.assert_close(windows.bin_nll(psd), whole.bin_nll(psd))
    torch.testing.assert_close(windows.scm(), whole.scm())
    torch.testing.assert_close(windows.scale(), whole.scale())
    ours, theirs = windows.statistics(psd), whole.statistics(psd)
    torch.testing.assert_close(ours.quadratic, theirs.quadratic)
    torch.testing.assert_close(ours.trace, theirs.trace)
    torch.testing.assert_close(ours.bin_nll(), theirs.bin_nll())


def test_windows_cover_every_frame_once() -> None:
    whole, psd = fixed()
    windows = InWindows(whole, LENGTH, ALL)
    torch.testing.assert_close(windows._merged(windows._split(psd)), psd)
    starts = torch.tensor(windows._starts)
    assert starts[0] == 0 and starts[-1] == T - LENGTH
    assert int(starts.diff().max()) <= LENGTH // 2


def test_every_window_is_fitted_alone() -> None:
    whole, psd = fixed()
    windows = InWindows(whole, LENGTH, ALL)
    windows.update(psd)
    start = windows._starts[1]
    frames = slice(start, start + LENGTH)
    alone = JointlyDiagonal(Observation(whole.mixture[..., frames]), whole.demixing, whole.gains)
    alone.update(psd[..., frames])
    torch.testing.assert_close(windows.inner.demixing[1 :: len(windows._starts)], alone.demixing)
    torch.testing.assert_close(windows.inner.gains[1 :: len(windows._starts)], alone.gains)


def test_settling_in_windows_never_raises_the_cost() -> None:
    whole, psd = fixed()
    model = Model(InWindows(whole, LENGTH, ALL), Fixed(psd))
    settling = Settling(model)
    trace = costs(model, settling.step, 5)
    assert_never_rises(trace)
    assert bool((trace[-1] < trace[0]).all())


def test_who_does_not_move_keeps_the_model() -> None:
    whole, psd = fixed()
    windows = InWindows(whole, LENGTH, FIRST)
    windows.update(psd)
    images = windows.images(psd)
    torch.testing.assert_close(images[1], whole.images(psd)[1])
    assert not torch.allclose(images[0], whole.images(psd)[0])


def test_recordings_keep_different_fits_of_their_windows() -> None:
    whole, psd = fixed()
    before = InWindows(whole, LENGTH, ALL)
    after = before.copy()
    after.update(psd)
    mixed = choose(FIRST, after, before)
    torch.testing.assert_close(mixed.images(psd)[0], after.images(psd)[0])
    torch.testing.assert_close(mixed.images(psd)[1], before.images(psd)[1])


def test_scales_are_those_of_the_windows() -> None:
    whole, psd = fixed()
    windows = InWindows(whole, LENGTH, ALL)
    windows.update(psd)
    scale, images = windows.scale(), windows.images(psd)
    windows.rescale(scale.reciprocal())
    torch.testing.assert_close(windows.scale(), torch.ones_like(scale))
    torch.testing.assert_close(windows.images(psd * scale[..., None]), images)


def test_covariances_are_those_of_the_windows_on_average() -> None:
    whole, psd = fixed()
    windows = InWindows(whole, LENGTH, ALL)
    torch.testing.assert_close(windows.mean_covariance(psd), whole.mean_covariance(psd))


def test_copies_of_the_sources_stay_around_the_windows() -> None:
    whole, psd = fixed()
    late = MovingAverage.around(whole, 2, reverberant=True)
    windows = in_windows(late, LENGTH, ALL)
    assert isinstance(windows, MovingAverage) and isinstance(windows.inner, InWindows)
    torch.testing.assert_close(windows.images(psd), late.images(psd))
    windows.update(psd)
    assert not torch.allclose(windows.images(psd), late.images(psd))
    assert isinstance(late.inner, JointlyDiagonal)  # as it was


def test_other_models_have_no_windows() -> None:
    spatial = spatial_model("full rank", random_mixture(F, M, T, batch=B))
    assert isinstance(spatial, FullRank)
    assert in_windows(spatial, LENGTH, ALL) is spatial
