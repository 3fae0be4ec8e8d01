"""Spatial models against explicit matrices, and against each other where they coincide."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import (
    SPATIAL,
    assert_never_rises,
    complex_normal,
    costs,
    each_spatial,
    each_update,
    n_sources_of,
    random_mixture,
    random_psd,
    random_scm,
    seeded,
    spatial_model,
)

from fca.errors import InputError
from fca.likelihood import Gaussian, Likelihood, StudentT
from fca.model import Model
from fca.source import Fixed
from fca.spatial import FullRank, JointlyDiagonal, Rank1, SpatialModel
from fca.spatial.full_rank import NOISE, _em

JOINT = ("jointly diagonal", "shared gains", "full rank")
"""Models whose sources overlap, so that Y is Σ λ H and can be written down."""
LIKELIHOODS = [Gaussian(), StudentT(5.0)]
each_joint = pytest.mark.parametrize("name", JOINT)
each_likelihood = pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=["gauss", "t"])


def psd_for(name: str, mixture: Tensor, seed: int = 0) -> Tensor:
    shape = (mixture.shape[0], mixture.shape[1], n_sources_of(name, mixture), mixture.shape[3])
    return random_psd(shape, seeded(seed))


def covariance(spatial: SpatialModel, psd: Tensor) -> Tensor:
    """Y (B, F, T, M, M) by its definition."""
    total = torch.einsum("bfnt,bfnij->bftij", psd.to(spatial.scm().dtype), spatial.scm())
    noise = getattr(spatial, "noise", 0.0)
    return total + noise * torch.eye(total.shape[-1])


@each_likelihood
@each_joint
def test_likelihood_is_that_of_the_mixture_covariance(name: str, likelihood: Likelihood) -> None:
    mixture = random_mixture(batch=2)
    spatial, psd = spatial_model(name, mixture, likelihood=likelihood), psd_for(name, mixture)
    y, x = covariance(spatial, psd), mixture.mT[..., None]
    energy = (x.mH @ torch.linalg.solve(y, x))[..., 0, 0].real
    nll = torch.linalg.slogdet(y).logabsdet + likelihood.energy(energy, mixture.shape[2])
    torch.testing.assert_close(spatial.nll(psd), nll.mean((1, 2)))


def test_rank1_likelihood_is_that_of_the_outputs() -> None:
    mixture = random_mixture(batch=2)
    spatial, psd = spatial_model("rank-1", mixture), psd_for("rank-1", mixture)
    y = spatial.demixing @ mixture
    volume = 2 * torch.linalg.slogdet(spatial.demixing).logabsdet
    nll = (y.abs().square() / psd + psd.log()).sum(2) - volume[..., None]
    torch.testing.assert_close(spatial.nll(psd), nll.mean((1, 2)))


def test_overdetermined_likelihood_includes_a_stationary_background() -> None:
    """Equals a full rank-1 likelihood whose surplus outputs have their covariance whitened."""
    mixture = random_mixture()
    spatial = spatial_model("overdetermined", mixture)
    n_sources, psd = spatial.n_sources, psd_for("overdetermined", mixture)
    background = spatial.demixing[:, :, n_sources:] @ mixture
    power = background.abs().square().mean(-1, keepdim=True).expand(-1, -1, -1, psd.shape[-1])
    whole = Rank1(mixture, spatial.demixing, 3)
    expected = whole.nll(torch.cat([psd, power], dim=2)) - 1  # one background channel: energy 1
    torch.testing.assert_close(spatial.nll(psd), expected)


@each_likelihood
@each_spatial
def test_statistics_are_the_slope_of_the_likelihood(name: str, likelihood: Likelihood) -> None:
    mixture = random_mixture()
    spatial = spatial_model(name, mixture, likelihood=likelihood)
    psd = psd_for(name, mixture).requires_grad_()
    (slope,) = torch.autograd.grad(spatial.nll(psd).sum(), psd)
    statistics = spatial.statistics(psd.detach())
    n_bins = mixture.shape[1] * mixture.shape[3]
    torch.testing.assert_close(slope * n_bins, statistics.trace - statistics.quadratic)
    torch.testing.assert_close(
        statistics.multiplier, (statistics.quadratic / statistics.trace).sqrt()
    )
    assert statistics.rank == (1 if isinstance(spatial, Rank1) else 3)


@each_joint
def test_statistics_select_sources(name: str) -> None:
    mixture = random_mixture()
    spatial, psd = spatial_model(name, mixture), psd_for(name, mixture)
    whole, part = spatial.statistics(psd), spatial.statistics(psd).select(slice(1, 3))
    for key in ("psd", "quadratic", "trace", "posterior_power", "multiplier"):
        torch.testing.assert_close(getattr(part, key), getattr(whole, key)[:, :, 1:3])


@each_joint
def test_images_are_the_wiener_estimates(name: str) -> None:
    mixture = random_mixture()
    spatial, psd = spatial_model(name, mixture), psd_for(name, mixture)
    y = covariance(spatial, psd)
    whitened = torch.linalg.solve(y, mixture.mT[..., None])
    source = torch.einsum("bfnt,bfnij->bfntij", psd.to(whitened.dtype), spatial.scm())
    expected = (source @ whitened[:, :, None])[..., 0].mT
    torch.testing.assert_close(spatial.images(psd), expected)


def test_rank1_images_are_projected_back() -> None:
    mixture = random_mixture()
    spatial, psd = spatial_model("rank-1", mixture), psd_for("rank-1", mixture)
    y, mixing = spatial.demixing @ mixture, torch.linalg.inv(spatial.demixing)
    for n in range(3):
        expected = mixing[0, :, :, n, None] * y[0, :, n, None]
        torch.testing.assert_close(spatial.images(psd)[0, :, n], expected)


@each_joint
def test_posterior_power_is_that_of_em(name: str) -> None:
    """From the posterior second moment Ẑ of Duong et al. 2010, eqs. 29-31, as matrices."""
    mixture = random_mixture()
    spatial, psd = spatial_model(name, mixture), psd_for(name, mixture)
    y, h = covariance(spatial, psd)[:, :, None], spatial.scm()[:, :, :, None]
    own = psd[..., None, None] * h
    x = mixture.mT[:, :, None, :, :, None]
    estimate = own @ torch.linalg.solve(y, x)
    moment = estimate @ estimate.mH + own - own @ torch.linalg.solve(y, own)
    power = torch.linalg.solve(h, moment).diagonal(dim1=-2, dim2=-1).sum(-1).real / 3
    torch.testing.assert_close(spatial.statistics(psd).posterior_power, power)


def test_em_of_full_rank_covariances() -> None:
    """``H ← (1/T) Σ_t Ẑ_t / λ_t`` (Duong et al. 2010, eq. 32), frame by frame."""
    mixture = random_mixture()
    spatial, psd = spatial_model("full rank", mixture, "em"), psd_for("full rank", mixture)
    h, y = spatial.scm(), covariance(spatial, psd)
    expected = torch.zeros_like(h)
    for f in range(h.shape[1]):
        for n in range(h.shape[2]):
            for t in range(psd.shape[-1]):
                own = psd[0, f, n, t] * h[0, f, n]
                gain = own @ torch.linalg.inv(y[0, f, t])
                estimate = gain @ mixture[0, f, :, t]
                moment = torch.outer(estimate, estimate.conj()) + own - gain @ own
                expected[0, f, n] += moment / psd[0, f, n, t] / psd.shape[-1]
    spatial.update(psd)
    torch.testing.assert_close(spatial.scm(), expected)


def test_em_keeps_covariances_regular_where_hardly_any_power_is_expected() -> None:
    """A source of one direction beside sound 60 dB above it in the others, in single precision."""
    rng = seeded()
    direction = complex_normal((1, 8, 1, 4, 1), rng, torch.float32)
    h = direction @ direction.mH + 1e-5 * torch.eye(4)
    mixture = complex_normal((1, 8, 4, 30), rng, torch.float32)
    spatial = FullRank(mixture, h, "em")
    psd = torch.logspace(-6, 0, 30).expand(1, 8, 1, 30)
    for _ in range(20):
        spatial.update(psd)
        values = torch.linalg.eigvalsh(spatial.scm())
        assert (values[..., 0] > -1e-6 * values[..., -1]).all()
    assert spatial.nll(psd).isfinite().all()


def test_em_of_full_rank_covariances_has_the_gradient_of_its_formula() -> None:
    rng = seeded()
    h, a, b = (random_scm((2, 1), 3, rng).requires_grad_() for _ in range(3))
    weight = random_scm((2, 1), 3, rng)
    found = _em(h, a, b, 0.0, 0.5)
    expected = (h + h @ (a - b) @ h) / 1.5
    gradients = [
        torch.autograd.grad((weight.conj() * update).real.sum(), (h, a, b), retain_graph=True)
        for update in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_mu_of_full_rank_covariances() -> None:
    """``H B H = H_old A H_old`` with A and B summed over frames (Sawada et al. 2013, eq. 36)."""
    mixture = random_mixture()
    spatial, psd = spatial_model("full rank", mixture, "mu"), psd_for("full rank", mixture)
    old, y = spatial.scm(), covariance(spatial, psd)
    spatial.update(psd)
    new = spatial.scm()
    for f in range(old.shape[1]):
        for n in range(old.shape[2]):
            a, b = torch.zeros_like(old[0, 0, 0]), torch.zeros_like(old[0, 0, 0])
            for t in range(psd.shape[-1]):
                inverse = torch.linalg.inv(y[0, f, t])
                whitened = inverse @ mixture[0, f, :, t]
                a += psd[0, f, n, t] * torch.outer(whitened, whitened.conj())
                b += psd[0, f, n, t] * inverse
            h, h_old = new[0, f, n], old[0, f, n]
            torch.testing.assert_close(h @ b @ h, h_old @ a @ h_old)


@pytest.mark.parametrize("name", ["jointly diagonal", "shared gains"])
def test_mu_of_gains(name: str) -> None:
    mixture = random_mixture()
    spatial, psd = spatial_model(name, mixture), psd_for(name, mixture)
    gains, power = spatial.gains.clone(), (spatial.demixing @ mixture).abs().square()
    whole = gains.expand(1, mixture.shape[1], -1, -1)
    shape = (mixture.shape[1], 3, 3)
    numerator, denominator = torch.zeros(shape).double(), torch.zeros(shape).double()
    for f, n, m in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        for t in range(psd.shape[-1]):
            y = (psd[0, f, :, t] * whole[0, f, :, m]).sum()
            numerator[f, n, m] += psd[0, f, n, t] * power[0, f, m, t] / y**2
            denominator[f, n, m] += psd[0, f, n, t] / y
    if name == "shared gains":
        numerator, denominator = numerator.sum(0, keepdim=True), denominator.sum(0, keepdim=True)
    spatial.update(psd)
    torch.testing.assert_close(spatial.gains, gains * (numerator / denominator).sqrt())


@each_spatial
def test_rescaling_scales_the_covariances(name: str) -> None:
    mixture = random_mixture()
    spatial, psd = spatial_model(name, mixture), psd_for(name, mixture)
    before, factor = spatial.scm(), random_psd(tuple(spatial.scale().shape), seeded(5))
    cost, scale = spatial.nll(psd), spatial.scale()
    spatial.rescale(factor)
    torch.testing.assert_close(spatial.scm(), before * factor[..., None, None])
    torch.testing.assert_close(spatial.scale(), scale * factor)
    torch.testing.assert_close(spatial.nll(psd / factor[..., None]), cost)


def test_diagonal_covariances_are_both_full_rank_and_jointly_diagonal() -> None:
    mixture = random_mixture()
    psd = psd_for("full rank", mixture)
    eye = torch.eye(3, dtype=mixture.dtype).expand(1, mixture.shape[1], 3, 3)
    gains = random_psd((1, mixture.shape[1], 3, 3), seeded(6))
    diagonal = JointlyDiagonal(mixture, eye, gains)
    full = FullRank(mixture, torch.diag_embed(gains).to(mixture.dtype), noise=0.0)
    torch.testing.assert_close(diagonal.scm(), full.scm())
    torch.testing.assert_close(diagonal.nll(psd), full.nll(psd))
    torch.testing.assert_close(diagonal.images(psd), full.images(psd))
    torch.testing.assert_close(diagonal.scale(), full.scale())
    for key in ("quadratic", "trace", "posterior_power"):
        first, second = (getattr(model.statistics(psd), key) for model in (diagonal, full))
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("dof", [None, 3.0])
@pytest.mark.parametrize("n_gains", [1, 4])
def test_equalised_gains_never_raise_the_cost(dof: float | None, n_gains: int) -> None:
    mixture = random_mixture(n_freq=4)
    psd = psd_for("jointly diagonal", mixture)
    eye = torch.eye(3, dtype=mixture.dtype).expand(1, 4, 3, 3)
    gains = random_psd((1, n_gains, 3, 3), seeded(6))
    likelihood = None if dof is None else StudentT(dof)
    spatial = JointlyDiagonal(mixture, eye, gains, likelihood=likelihood, gain_update="me")
    trace = costs(Model(spatial, Fixed(psd)), lambda: spatial.update(psd), 30)
    assert_never_rises(trace)
    assert (trace[-1] < trace[0]).all()


def test_equalised_gains_of_one_source_are_likeliest_at_once() -> None:
    """``ĝ_m = mean_t |q_m x_t|² / λ_t``, which the usual update halves the log-distance to."""
    mixture = random_mixture()
    psd = psd_for("jointly diagonal", mixture)[:, :, :1]
    eye = torch.eye(3, dtype=mixture.dtype).expand(1, mixture.shape[1], 3, 3)
    first = random_psd((1, mixture.shape[1], 1, 3), seeded(6))
    likeliest = (mixture.abs().square() / psd).mean(-1)[:, :, None]
    for gain_update, expected in (("me", likeliest), ("mm", (first * likeliest).sqrt())):
        model = JointlyDiagonal(mixture, eye, first, gain_update=gain_update)
        model.update(psd)
        torch.testing.assert_close(model.gains, expected)


def test_an_unknown_update_of_gains_is_refused() -> None:
    mixture = random_mixture()
    eye = torch.eye(3, dtype=mixture.dtype).expand(1, mixture.shape[1], 3, 3)
    gains = random_psd((1, mixture.shape[1], 3, 3), seeded(6))
    with pytest.raises(InputError, match="unknown update 'em' of gains"):
        JointlyDiagonal(mixture, eye, gains, gain_update="em")


def test_gains_of_an_identity_reduce_to_rank_1() -> None:
    """ILRMA is FastMNMF with N = M and g = I."""
    mixture = random_mixture()
    psd = psd_for("rank-1", mixture)
    rank1 = spatial_model("rank-1", mixture)
    gains = torch.eye(3, dtype=torch.float64).expand(1, mixture.shape[1], 3, 3)
    joint = JointlyDiagonal(mixture, rank1.demixing, gains)
    torch.testing.assert_close(joint.nll(psd), rank1.nll(psd))
    torch.testing.assert_close(joint.images(psd), rank1.images(psd))
    torch.testing.assert_close(joint.scm(), rank1.scm())
    for key in ("quadratic", "trace"):
        first, second = (getattr(model.statistics(psd), key) for model in (joint, rank1))
        torch.testing.assert_close(first, second)
    # The gain of a source is then its maximum-likelihood scale, and Q is updated as for
    # the PSD with that scale: exactly the rank-1 update.
    joint.update(psd)
    own = joint.gains.diagonal(dim1=-2, dim2=-1)
    rank1.update(psd * own[..., None])
    torch.testing.assert_close(joint.demixing, rank1.demixing, rtol=1e-5, atol=1e-5)


@each_update
def test_updates_replace_tensors(name: str, update: str) -> None:
    """In-place changes would break gradients through iterations and starts shared by models."""
    mixture = random_mixture()
    spatial, psd = spatial_model(name, mixture, update), psd_for(name, mixture)
    before = spatial.scm().clone()
    kept, inputs = spatial.scm(), (mixture.clone(), psd.clone())
    spatial.update(psd)
    torch.testing.assert_close(kept, before, rtol=0, atol=0)
    torch.testing.assert_close((mixture, psd), inputs, rtol=0, atol=0)
    assert (spatial.scm() - before).abs().max() > 1e-6


def test_sensor_noise_is_small_and_the_same_everywhere() -> None:
    """Λ = 0 leaves Y = εI: the cost is finite and known."""
    mixture = random_mixture()
    spatial = spatial_model("full rank", mixture)
    psd = torch.zeros_like(psd_for("full rank", mixture))
    log_det, energy = 3 * torch.tensor(NOISE).double().log(), mixture.abs().square().sum(2).mean()
    torch.testing.assert_close(spatial.nll(psd)[0], log_det + energy / NOISE)
    assert torch.isfinite(spatial.statistics(psd).quadratic).all()


@pytest.mark.parametrize("name", SPATIAL)
def test_unknown_updates_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="unknown update 'newton'"):
        spatial_model(name, random_mixture(), "newton")


def test_rank1_has_at_most_as_many_sources_as_microphones() -> None:
    mixture = random_mixture()
    with pytest.raises(InputError, match="4 sources, 3 microphones"):
        Rank1(mixture, torch.eye(3).expand(1, 4, 3, 3).to(mixture), 4)


def test_background_and_sources_make_up_the_mixture() -> None:
    """``C = B + A (W C Wᴴ) Aᴴ``: what the background has is uncorrelated with the sources."""
    mixture = random_mixture(batch=2)
    spatial = spatial_model("overdetermined", mixture)
    assert isinstance(spatial, Rank1)
    rows, columns = spatial.demixing[:, :, :2], spatial.mixing[..., :2]
    covariance = mixture @ mixture.mH / mixture.shape[-1]
    sources = columns @ (rows @ covariance @ rows.mH) @ columns.mH
    background = spatial.background_covariance()
    assert background is not None
    torch.testing.assert_close(background + sources, covariance)
    for name in SPATIAL:
        if name != "overdetermined":
            assert spatial_model(name, mixture).background_covariance() is None


@pytest.mark.parametrize("update", ["ip", "ip2", "iss"])
@pytest.mark.parametrize("name", ["jointly diagonal", "rank-1"])
def test_bands_of_frequencies_change_nothing(
    name: str, update: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large arrays are updated in one band after the other."""
    mixture = random_mixture(7, 3, 40, batch=2)
    updated = []
    for size in (1 << 22, 1500):
        monkeypatch.setattr("fca.spatial.observation.BAND_BYTES", size)
        spatial = spatial_model(name, mixture, update)
        assert isinstance(spatial, JointlyDiagonal | Rank1)
        psd = random_psd((2, 7, spatial.n_sources, 40), seeded(1))
        n_bands = len(list(spatial.observation.by_bands(psd[:, :, :3])))
        assert (n_bands > 1) == (size == 1500)
        spatial.update(psd)
        updated.append(spatial.demixing)
    torch.testing.assert_close(*updated)
