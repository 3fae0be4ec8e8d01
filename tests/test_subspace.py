"""Large arrays in a subspace: the likelihood of the whole mixture, images, and the way back."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_mixture, random_psd, seeded

from fca.errors import InputError
from fca.fitting import Fitting
from fca.inference.settle import Settling
from fca.linalg import abs2, pack_outer
from fca.methods import get_method
from fca.model import Model
from fca.prior import PriorConfig, SpeechPrior
from fca.source import Fixed
from fca.spatial import JointlyDiagonal
from fca.spatial.expanded import MovingAverage
from fca.spatial.subspace import Components, principal

N_CHANNELS, N_COMPONENTS, N_SOURCES = 5, 3, 2


@pytest.fixture
def mixture() -> Tensor:
    return random_mixture(n_channels=N_CHANNELS)


@pytest.fixture
def prior() -> SpeechPrior:
    torch.manual_seed(0)
    model = SpeechPrior(PriorConfig(n_fft=32, hop=8, latent_dim=3, width=16))
    return model.eval().requires_grad_(False)


def psd_for(mixture: Tensor) -> Tensor:
    shape = (*mixture.shape[:2], N_SOURCES, mixture.shape[3])
    return random_psd(shape, seeded(1), mixture.real.dtype)


def in_subspace(mixture: Tensor, n_components: int = N_COMPONENTS) -> JointlyDiagonal:
    demixing = complex_normal(
        (*mixture.shape[:2], n_components, n_components), seeded(2), mixture.real.dtype
    )
    gains = random_psd((*mixture.shape[:2], N_SOURCES, n_components), seeded(3))
    return JointlyDiagonal(Components(mixture, n_components), demixing, gains)


def test_cost_is_that_of_the_mixture_with_stationary_noise_beside(mixture: Tensor) -> None:
    spatial, psd = in_subspace(mixture), psd_for(mixture)
    others = principal(pack_outer(mixture))[:, :, N_COMPONENTS:]
    noise = abs2(others @ mixture).mean(-1)
    background = (others.mH * noise[:, :, None]) @ others
    scm = spatial.scm()
    total = 0.0
    for f, t in itertools.product(range(mixture.shape[1]), range(mixture.shape[3])):
        y = sum(psd[0, f, n, t] * scm[0, f, n] for n in range(N_SOURCES)) + background[0, f]
        x = mixture[0, f, :, t]
        total += float(torch.logdet(y).real + (x.conj() @ torch.linalg.solve(y, x)).real)
    expected = total / (mixture.shape[1] * mixture.shape[3])
    torch.testing.assert_close(float(spatial.nll(psd)), expected)


def test_all_components_are_the_whole_array(mixture: Tensor) -> None:
    psd, spatial = psd_for(mixture), in_subspace(mixture, N_CHANNELS)
    demixing = spatial.demixing @ principal(pack_outer(mixture))
    plain = JointlyDiagonal(mixture, demixing, spatial.gains)
    for model in (spatial, plain):
        model.update(psd)
    torch.testing.assert_close(spatial.nll(psd), plain.nll(psd))
    torch.testing.assert_close(spatial.scm(), plain.scm())
    torch.testing.assert_close(spatial.images(psd), plain.images(psd))


def test_images_sum_to_what_is_seen(mixture: Tensor) -> None:
    spatial, psd = in_subspace(mixture), psd_for(mixture)
    seen = principal(pack_outer(mixture))[:, :, :N_COMPONENTS]
    torch.testing.assert_close(spatial.images(psd).sum(2), seen.mH @ (seen @ mixture))
    whole = spatial.on_whole_array(psd)
    torch.testing.assert_close(whole.images(psd).sum(2), mixture)


def test_the_seen_part_keeps_its_parameters_on_the_whole_array(mixture: Tensor) -> None:
    spatial, psd = in_subspace(mixture), psd_for(mixture)
    whole = spatial.on_whole_array(psd)
    assert whole.demixing.shape[-2:] == (N_CHANNELS, N_CHANNELS)
    torch.testing.assert_close(whole.power[:, :, :N_COMPONENTS], spatial.power)
    torch.testing.assert_close(whole.gains[..., :N_COMPONENTS], spatial.gains)
    explained = (psd.mT @ whole.gains).mean(2)[..., N_COMPONENTS:]
    torch.testing.assert_close(explained, torch.ones_like(explained))


def test_sources_that_are_not_heard_stay_so_on_the_whole_array(mixture: Tensor) -> None:
    """Such as copies of late sound, in a recording of a batch that has none."""
    inner, psd = in_subspace(mixture), psd_for(mixture)
    unused = torch.cat([inner.gains, torch.zeros_like(inner.gains[:, :, :1])], dim=2)
    wider = inner.with_gains(unused).on_whole_array(torch.cat([psd, psd[:, :, :1]], dim=2))
    torch.testing.assert_close(wider.gains[:, :, :N_SOURCES], inner.on_whole_array(psd).gains)
    assert not wider.gains[:, :, N_SOURCES].any()


@pytest.mark.parametrize("late", [False, True])
def test_settling_on_the_whole_array_never_raises_the_cost(mixture: Tensor, late: bool) -> None:
    inner, psd = in_subspace(mixture), psd_for(mixture)
    spatial = MovingAverage.around(inner, 2, reverberant=True) if late else inner
    before = Model(spatial, Fixed(psd))
    settling = Settling(Model(spatial.on_whole_array(psd), Fixed(psd)))
    costs = [settling.cost()]
    for _ in range(6):
        settling.step()
        costs.append(settling.cost())
    assert all((b <= a + 1e-9).all() for a, b in itertools.pairwise(costs))
    assert (costs[-1] < before.cost()).all()
    torch.testing.assert_close(settling.images().sum(2), mixture)


@pytest.mark.parametrize("spare", [None, 1, 5])
def test_a_method_ends_on_the_whole_array(prior: SpeechPrior, spare: int | None) -> None:
    row = get_method("deep-fca").with_options(denoiser=None, prior=prior, spare=spare)
    wide = random_mixture(n_freq=prior.config.n_freq, n_channels=N_CHANNELS)
    model, trace = Fitting(row, 1, 4, 0, 0.1)(wide, N_SOURCES, 0, [])
    torch.testing.assert_close(model.images().sum(2), wide)
    assert trace[-1][1] < trace[0][1]


def test_the_cost_of_a_method_never_rises_on_the_way_to_the_whole_array(
    prior: SpeechPrior,
) -> None:
    row = get_method("deep-fca").with_options(
        denoiser=None, prior=prior, inference="gradient", gate=False
    )
    wide = random_mixture(n_freq=prior.config.n_freq, n_channels=N_CHANNELS)
    _, trace = Fitting(row, 1, 4, 0, 0.1)(wide, N_SOURCES, 0, [])
    costs = [cost for _, cost in trace]
    assert len(costs) > 4
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(costs))


def test_known_activities_end_on_the_whole_array(prior: SpeechPrior) -> None:
    row = get_method("deep-fca").with_options(denoiser=None, prior=prior)
    wide = random_mixture(n_freq=prior.config.n_freq, n_channels=N_CHANNELS)
    activity = torch.ones(1, N_SOURCES, wide.shape[-1], dtype=torch.float64)
    activity[:, 0, :10] = activity[:, 1, 20:] = 0
    model, _ = Fitting(row, 1, 4, 0, 0.1)(wide, N_SOURCES, 0, [], activity)
    images = model.images()
    torch.testing.assert_close(images.sum(2), wide)
    loud = images.abs().square().sum((1, 3))[0]
    assert loud[0, :10].mean() < 0.1 * loud[0, 10:].mean()
    assert loud[1, 20:].mean() < 0.1 * loud[1, :20].mean()


def test_a_negative_number_of_components_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be negative, got -1"):
        get_method("deep-fca").with_options(spare=-1)


def test_few_microphones_are_all_seen() -> None:
    row = get_method("deep-fca")
    assert [row.n_components(2, n) for n in (2, 3, 4, 5, 8)] == [2, 3, 4, 4, 4]
    assert row.with_options(spatial="full rank", update="em").n_components(2, 8) == 8
    assert row.with_options(reverberation="ar").n_components(2, 8) == 8
