"""Divergences and samples of the latent families against integrals and large samples."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import ive
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import Normal

from fca.errors import InputError
from fca.prior.latents import LATENTS, make_latent

N = 100_000


def bessel_ratio(dim: int, kappa: float) -> float:
    """Mean resultant length of a von Mises-Fisher distribution."""
    return float(ive(dim / 2, kappa) / ive(dim / 2 - 1, kappa))


def bessel_divergence(dim: int, kappa: float) -> float:
    """KL from the uniform distribution, Xu & Durrett (2018), eq. 4 and below."""
    order = dim / 2 - 1
    log_bessel = math.log(ive(order, kappa)) + kappa
    log_constant = order * math.log(kappa) - dim / 2 * math.log(2 * math.pi) - log_bessel
    log_area = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    return kappa * bessel_ratio(dim, kappa) + log_constant + log_area


def test_gaussian_divergence_equals_a_sample_estimate() -> None:
    torch.manual_seed(0)
    raw = torch.randn(1, 6, dtype=torch.float64)
    posterior = make_latent("gaussian", 3).posterior(raw)
    mean, log_variance = raw.chunk(2, dim=-1)
    q, p = Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)
    draws = make_latent("gaussian", 3).posterior(raw.expand(N, -1)).sample()
    ratios = (q.log_prob(draws) - p.log_prob(draws)).sum(-1)
    error = float(ratios.std() / N**0.5)
    assert float(posterior.kl()) == pytest.approx(float(ratios.mean()), abs=4 * error)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 1.5), (3, 10.0), (16, 64.0), (64, 256.0)])
def test_von_mises_fisher_divergence_equals_the_bessel_form(dim: int, kappa: float) -> None:
    posterior = make_latent("von-mises-fisher", dim, kappa).posterior(torch.randn(5, dim))
    expected = torch.full((5,), bessel_divergence(dim, kappa))
    torch.testing.assert_close(posterior.kl(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dim", "kappa"), [(2, 1.5), (3, 10.0), (32, 128.0)])
def test_von_mises_fisher_samples_have_their_mean_and_spread(dim: int, kappa: float) -> None:
    torch.manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(dim), dim=0)
    family = make_latent("von-mises-fisher", dim, kappa)
    draws = family.posterior(direction.expand(N, dim)).sample()
    torch.testing.assert_close(draws.norm(dim=-1), torch.ones(N), rtol=0, atol=1e-4)
    length = bessel_ratio(dim, kappa)
    error = 4 * float(draws.std(0).max()) / N**0.5
    torch.testing.assert_close(draws.mean(0), length * direction, rtol=0, atol=error)
    # E[cos²] = 1 − (D − 1) A / κ (Mardia & Jupp 2000, eq. 9.6.1 and following)
    squared = (draws @ direction).square()
    spread = 4 * float(squared.std()) / N**0.5
    assert float(squared.mean()) == pytest.approx(1 - (dim - 1) * length / kappa, abs=spread)


def test_von_mises_fisher_gradient_reaches_the_direction() -> None:
    """E[z] = A μ/‖μ‖, so its Jacobian is A times the projection orthogonal to μ."""
    torch.manual_seed(0)
    raw = torch.tensor([2.0, -1.0, 0.5], requires_grad=True)
    weights = torch.tensor([0.3, 1.0, -0.7])
    family = make_latent("von-mises-fisher", 3, 20.0)
    value = (family.posterior(raw.expand(N, 3)).sample() @ weights).mean()
    (gradient,) = torch.autograd.grad(value, raw)
    unit = raw.detach() / raw.detach().norm()
    expected = bessel_ratio(3, 20.0) * (weights - unit * (unit @ weights)) / raw.detach().norm()
    torch.testing.assert_close(gradient, expected, rtol=0.02, atol=0.002)


@pytest.mark.parametrize("prior", [1.0, 0.3])
def test_dirichlet_divergence_equals_a_sample_estimate(prior: float) -> None:
    torch.manual_seed(0)
    raw = torch.randn(1, 5, dtype=torch.float64) + 1
    family = make_latent("dirichlet", 5, prior)
    alpha = torch.nn.functional.softplus(raw[0]) + 0.02
    q, p = DirichletDistribution(alpha), DirichletDistribution(torch.full_like(alpha, prior))
    draws = q.sample((N,))
    ratios = q.log_prob(draws) - p.log_prob(draws)
    error = float(ratios.std() / N**0.5)
    divergence = float(family.posterior(raw).kl())
    assert divergence == pytest.approx(float(ratios.mean()), abs=4 * error)


def test_dirichlet_gradient_equals_that_of_the_mean() -> None:
    """E[z_d] = α_d / Σα: implicit reparameterisation must have this gradient."""
    torch.manual_seed(0)
    raw = torch.tensor([1.0, 0.2, -0.5], dtype=torch.float64, requires_grad=True)
    family = make_latent("dirichlet", 3)
    sampled = family.posterior(raw.expand(N, 3)).sample().mean(0)[0]
    exact = family.posterior(raw).mean[0]
    (from_samples,) = torch.autograd.grad(sampled, raw)
    (expected,) = torch.autograd.grad(exact, raw)
    torch.testing.assert_close(from_samples, expected, rtol=0.05, atol=0.003)


@pytest.mark.parametrize("name", LATENTS)
def test_prior_samples_are_embedded_with_zero_mean_and_unit_variance(name: str) -> None:
    torch.manual_seed(0)
    family = make_latent(name, 8)
    embedded = family.embed(family.sample_prior(N))
    assert embedded.shape == (N, 8)
    torch.testing.assert_close(embedded.mean(0), torch.zeros(8), rtol=0, atol=0.02)
    torch.testing.assert_close(embedded.var(0), torch.ones(8), rtol=0, atol=0.05)


@pytest.mark.parametrize("name", LATENTS)
def test_extreme_parameters_stay_finite(name: str) -> None:
    family = make_latent(name, 4)
    scale = torch.tensor([1e-3, 1.0, 1e3, 1e6])[:, None]
    raw = (scale * torch.randn(4, family.n_parameters)).requires_grad_()
    posterior = family.posterior(raw)
    # a Gaussian's mean may be anything, its variance is bounded
    total = posterior.sample().square().sum() + posterior.kl().sum()
    total.backward()
    assert bool(total.isfinite())
    assert raw.grad is not None
    assert bool(raw.grad.isfinite().all())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cauchy", 4), "unknown latent 'cauchy'"),
        (("gaussian", 0), "at least one dimension"),
        (("gaussian", 4, 2.0), "no concentration"),
        (("von-mises-fisher", 1), "at least two dimensions"),
        (("von-mises-fisher", 4, -1.0), "must be positive"),
        (("dirichlet", 4, 0.0), "must be positive"),
    ],
)
def test_bad_choices_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_latent(*arguments)
