"""Sources with copies, delayed or windowed: statistics, cost, images, and the limit of none."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from toy import SOURCES, random_mixture, random_psd, seeded, source_model, spatial_model

from fca.errors import InputError
from fca.methods import get_method
from fca.model import Model
from fca.spatial import FullRank, JointlyDiagonal, SpatialModel
from fca.spatial.expanded import Expanded, MovingAverage, late_gains
from fca.spatial.inverse_wishart import InverseWishart
from fca.spatial.motion import Moving, exponential_windows

N_LATE, N_FRAMES, STRENGTH = 2, 30, 5.0
KINDS = ("late", "late, shared gains", "moving em", "moving mu")
each_kind = pytest.mark.parametrize("kind", KINDS)


def expanded(kind: str, mixture: Tensor, **options: object) -> Expanded:
    """Three sources with three copies each, all with random parameters."""
    if kind.startswith("late"):
        name = "shared gains" if "shared" in kind else "jointly diagonal"
        model = spatial_model(name, mixture)
        shape = (*model.gains.shape[:2], 3 * (1 + N_LATE), 3)
        gains = random_psd(shape, seeded(4), mixture.real.dtype)
        inner = JointlyDiagonal(mixture, model.demixing, gains)
        return MovingAverage(inner, 3, **options)
    scm = torch.cat([spatial_model("full rank", mixture, seed=k).scm() for k in range(3)], 2)
    prior = InverseWishart(torch.tensor([STRENGTH]), 3)
    windows = exponential_windows(mixture.shape[-1], 1 - 3 / mixture.shape[-1], mixture.real)[None]
    return Moving(FullRank(mixture, scm, kind.split()[1], prior=prior), 3, windows)


def psd_for(mixture: Tensor, seed: int = 0) -> Tensor:
    return random_psd((*mixture.shape[:2], 3, mixture.shape[3]), seeded(seed), mixture.real.dtype)


def rises(spatial: SpatialModel, kind: str, mixture: Tensor) -> float:
    model = Model(spatial, source_model(kind, psd_for(mixture, 3)))
    trace = [float(model.cost().sum())]
    for _ in range(10):
        model.step()
        trace.append(float(model.cost().sum()))
    assert trace[-1] < trace[0]
    return max(after - before for before, after in itertools.pairwise(trace))


@pytest.mark.parametrize("source", SOURCES)
@each_kind
def test_cost_falls(kind: str, source: str) -> None:
    mixture = random_mixture(batch=2)
    assert rises(expanded(kind, mixture), source, mixture) <= 1e-9


@each_kind
def test_cost_falls_in_single_precision(kind: str) -> None:
    mixture = random_mixture(8, 3, 100, dtype=torch.float32)
    assert rises(expanded(kind, mixture), "nmf", mixture) <= 1e-4


@each_kind
def test_statistics_are_the_slope_of_the_likelihood(kind: str) -> None:
    mixture = random_mixture()
    spatial, psd = expanded(kind, mixture), psd_for(mixture).requires_grad_()
    (slope,) = torch.autograd.grad(spatial.nll(psd).sum(), psd)
    statistics = spatial.statistics(psd.detach())
    n_bins = mixture.shape[1] * mixture.shape[3]
    torch.testing.assert_close(slope * n_bins, statistics.trace - statistics.quadratic)


@each_kind
def test_likelihood_is_that_of_the_sum_of_copies(kind: str) -> None:
    mixture = random_mixture()
    spatial, psd = expanded(kind, mixture), psd_for(mixture)
    scm = spatial.inner.scm().reshape(1, 4, 3, 3, 3, 3)
    y = torch.zeros(1, 4, N_FRAMES, 3, 3, dtype=mixture.dtype)
    for t, k, n in itertools.product(range(N_FRAMES), range(3), range(3)):
        at = t - k if kind.startswith("late") else t
        weight = 1.0 if kind.startswith("late") else spatial.windows[0, k, t]
        if at >= 0:
            y[:, :, t] += weight * psd[:, :, n, at, None, None] * scm[:, :, k, n]
    if kind.startswith("moving"):
        y = y + spatial.inner.noise * torch.eye(3)
    x = mixture.mT[..., None]
    energy = (x.mH @ torch.linalg.solve(y, x))[..., 0, 0].real
    expected = energy + torch.linalg.slogdet(y).logabsdet
    torch.testing.assert_close(spatial.bin_nll(psd), expected)


@each_kind
def test_images_sum_to_the_mixture(kind: str) -> None:
    mixture = random_mixture()
    options = {"reverberant": True} if kind.startswith("late") else {}
    spatial, psd = expanded(kind, mixture, **options), psd_for(mixture)
    total = spatial.images(psd).sum(2)
    tolerance = 1e-3 if kind.startswith("moving") else 1e-9  # sensor noise is taken out
    torch.testing.assert_close(total, mixture, rtol=tolerance, atol=tolerance)
    one = spatial.images(psd, slice(1, 2))
    torch.testing.assert_close(one, spatial.images(psd)[:, :, :, 1:2])


def test_late_copies_are_left_out() -> None:
    mixture = random_mixture()
    psd = psd_for(mixture)
    copies = expanded("late", mixture).inner.images(
        torch.cat([psd, *[torch.nn.functional.pad(psd, (k, -k)) for k in (1, 2)]], 2)
    )
    for delay in (1, 2, 5):
        heard = expanded("late", mixture, delay=delay).images(psd)
        expected = copies.reshape(1, 4, 3, 3, 3, N_FRAMES)[:, :, :delay].sum(2)
        torch.testing.assert_close(heard, expected)


@each_kind
def test_normalisation_changes_neither_cost_nor_images(kind: str) -> None:
    mixture = random_mixture()
    model = Model(expanded(kind, mixture), source_model("nmf", psd_for(mixture)))
    cost, images = model.cost(), model.images()
    model.normalise()
    torch.testing.assert_close(model.cost(), cost)
    torch.testing.assert_close(model.images(), images)
    torch.testing.assert_close(model.spatial.scale(), torch.ones_like(model.spatial.scale()))
    power = model.spatial.scm().diagonal(dim1=-2, dim2=-1).real.mean(-1)
    if kind != "late, shared gains":
        torch.testing.assert_close(power, torch.ones_like(power))


def test_late_sound_starts_diffuse_and_weak() -> None:
    gains = random_psd((1, 4, 2, 3), seeded())
    whole = late_gains(gains, 2)
    torch.testing.assert_close(whole[:, :, :2], gains)
    assert torch.all(whole[:, :, 2:] == whole[:, :, 2:, :1])
    assert torch.all(whole[:, :, 2:].sum(-1) < gains.repeat(1, 1, 2, 1).sum(-1))


def test_windows_sum_to_one_and_forget_at_the_rate_asked_for() -> None:
    like = torch.zeros((), dtype=torch.float64)
    windows = exponential_windows(100, 0.9, like)
    assert windows.shape == (10, 100)
    torch.testing.assert_close(windows.sum(0), torch.ones(100).double())
    ratio = windows[0] / windows[-1]  # both fall by 0.9 a frame between their centres
    torch.testing.assert_close(ratio[50] / ratio[51], torch.tensor(0.9**-2).double())
    assert torch.equal(exponential_windows(100, 1.0, like), torch.ones(1, 100).double())


def test_the_prior_is_zero_where_covariances_agree_and_else_positive() -> None:
    scm = spatial_model("full rank", random_mixture()).scm()
    prior = InverseWishart(torch.tensor([STRENGTH]), 3)
    same = scm.repeat(1, 1, 3, 1, 1)
    torch.testing.assert_close(prior.mean(same), same)
    torch.testing.assert_close(prior.penalty(same), torch.zeros(1).double(), atol=1e-9, rtol=0)
    other = torch.cat([scm, 2 * scm, 3 * scm], 2)
    mean = prior.mean(other)
    torch.testing.assert_close(mean[:, :, :3], 3 / (1 + 1 / 2 + 1 / 3) * scm)
    assert prior.penalty(other) > 1


@pytest.mark.parametrize("name", ["mnmf", "fca"])
def test_who_forgets_nothing_sees_no_motion(name: str) -> None:
    mixture, images = random_mixture(dtype=torch.float32), []
    for options in ({}, {"motion": "slow", "forgetting": 1.0}):
        model = get_method(name).with_options(**options).build(mixture, 2, seeded())
        model.step()
        images.append(model.images())
    assert torch.equal(*images)


def test_one_window_is_the_fixed_model() -> None:
    """The algebra of windows, without the shortcut that leaves them out."""
    mixture = random_mixture()
    psd, scm = psd_for(mixture), spatial_model("full rank", mixture).scm()
    fixed = FullRank(mixture, scm)
    moving = Moving(FullRank(mixture, scm), 3, exponential_windows(N_FRAMES, 1.0, psd)[None])
    for model in (fixed, moving):
        model.update(psd)
    assert torch.equal(moving.scm(), fixed.scm())
    assert torch.equal(moving.images(psd), fixed.images(psd))
    assert torch.equal(moving.statistics(psd).quadratic, fixed.statistics(psd).quadratic)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fastmnmf2", {"reverberation": "arma", "taps": 2, "delay": 2}),
        ("fastmnmf1", {"reverberation": "ma"}),
        ("mnmf", {"motion": "fast"}),
        ("fca", {"motion": "slow", "forgetting": 0.8}),
    ],
)
def test_methods_can_be_given_the_model(name: str, options: dict[str, object]) -> None:
    mixture = random_mixture(16, 3, 100)
    model = get_method(name).with_options(**options).build(mixture, 2, seeded())
    assert isinstance(model.spatial, Expanded)
    trace = [model.cost()]
    for _ in range(4):
        model.step()
        trace.append(model.cost())
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(trace))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(InputError, match="ilrma: moving averages go with jointly diagonal"):
        get_method("ilrma").with_options(reverberation="arma")
    with pytest.raises(InputError, match="fastmnmf2: motion goes with full-rank covariances"):
        get_method("fastmnmf2").with_options(motion="slow")
    with pytest.raises(InputError, match="unknown motion 'wild'"):
        get_method("fca").with_options(motion="wild")
    with pytest.raises(InputError, match="above 0 and at most 1, not 2"):
        get_method("fca").with_options(forgetting=2)
    with pytest.raises(InputError, match="inertia must be positive"):
        get_method("fca").with_options(inertia=0)
    with pytest.raises(InputError, match="ma_taps must be at least 1, got 0"):
        get_method("fastmnmf2").with_options(reverberation="ma", ma_taps=0)


@each_kind
def test_covariances_of_images_are_means_over_time(kind: str) -> None:
    mixture = random_mixture(batch=2)
    options = {"reverberant": True} if "late" in kind else {}
    model, psd = expanded(kind, mixture, **options), psd_for(mixture)
    copies = model.expand(psd)[..., None, None] * model.inner.scm()[:, :, :, None]
    expected = copies.mean(3).reshape(*psd.shape[:2], -1, 3, 3, 3).sum(2)
    torch.testing.assert_close(model.mean_covariance(psd), expected)


def test_fewer_frames_than_delays_leave_late_sound_silent() -> None:
    mixture = random_mixture(n_frames=2)
    model = Model(expanded("late", mixture), source_model("gauss", psd_for(mixture)))
    for _ in range(3):
        model.step()
    assert bool(model.cost().isfinite().all())
    assert bool(model.images().isfinite().all())


def test_copies_that_were_taken_out_stay_out() -> None:
    """A source without late sound may share a batch with others that have some."""
    mixture = random_mixture(4, 3, N_FRAMES)
    model = expanded("late", mixture)
    inner = model.inner
    assert isinstance(inner, JointlyDiagonal)
    gains = inner.gains.clone()
    gains[:, :, -2:] = 0
    inner.gains = gains
    psd = psd_for(mixture)
    for _ in range(3):
        model.update(psd)
        model.rescale(torch.full_like(model.scale(), 2.0))
    changed = model.inner.gains
    assert not changed[:, :, -2:].any()
    assert (changed[:, :, :-2] > 0).all()
