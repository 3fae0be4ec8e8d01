"""Speech priors as source models, with every spatial model."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fca.errors import InputError
from fca.model import Model
from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.prior import PriorConfig, SpeechPrior
from fca.source import Stack, Stationary
from fca.source.vae import VAE
from fca.spatial import FullRank, JointlyDiagonal, Rank1, SpatialModel
from fca.spatial.base import ObservedStatistics

B, F, M, N, T = 2, 9, 3, 2, 30


@pytest.fixture(scope="module")
def prior() -> SpeechPrior:
    """Untrained, and so a smooth, non-linear map from z to PSDs like any other."""
    torch.manual_seed(0)
    config = PriorConfig(n_fft=16, hop=8, latent_dim=3, width=16, encoder_dilations=(1,))
    network = SpeechPrior(config)
    with torch.no_grad():
        network.decoder[-1].weight.mul_(20.0)
    return network.eval().requires_grad_(False)


@pytest.fixture
def mixture(prior: SpeechPrior) -> Tensor:
    """Drawn from the model with random full-rank covariances."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    z = torch.randn(B, N, 3, T, generator=generator)
    psd = prior.decode(z).transpose(1, 2)
    images = (normal(B, F, N, M, M) @ normal(B, F, N, M, T)) * psd.sqrt()[:, :, :, None]
    mixed = images.sum(2)
    return mixed / mixed.abs().square().mean().sqrt()


def rank1(x: Tensor) -> SpatialModel:
    return Rank1(x, torch.eye(M, dtype=x.dtype).expand(B, F, M, M), N)


def jointly_diagonal(x: Tensor) -> SpatialModel:
    gains = 0.1 + torch.rand(B, F, N, M, generator=torch.Generator().manual_seed(1))
    return JointlyDiagonal(x, torch.eye(M, dtype=x.dtype).expand(B, F, M, M), gains)


def full_rank(x: Tensor) -> SpatialModel:
    a = torch.randn(B, F, N, M, M, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    return FullRank(x, a @ a.mH + 0.1 * torch.eye(M))


SPATIAL = [rank1, jointly_diagonal, full_rank]


def build(spatial: SpatialModel, source: VAE) -> Model:
    power = spatial.statistics(torch.ones(B, F, N, T)).posterior_power
    source.initialise(power, torch.Generator().manual_seed(0))
    return Model(spatial, source)


@pytest.mark.parametrize("make", SPATIAL)
def test_gradient_never_raises_the_cost(
    make: Callable[[Tensor], SpatialModel], mixture: Tensor, prior: SpeechPrior
) -> None:
    model = build(make(mixture), VAE(prior, "gradient"))
    costs = []
    for _ in range(12):
        costs.append(model.cost())
        model.step()
    costs.append(model.cost())
    trace = torch.stack(costs)
    assert bool((trace.diff(dim=0) <= 2e-5 * trace[:-1].abs().clamp_min(1)).all())
    assert bool((trace[-1] < trace[0] - 0.05).all())


@pytest.mark.parametrize("make", SPATIAL)
def test_gradient_in_z_alone_lowers_the_cost(
    make: Callable[[Tensor], SpatialModel], mixture: Tensor, prior: SpeechPrior
) -> None:
    model = build(make(mixture), VAE(prior, "gradient"))
    before = model.cost()
    model.source.update(model.spatial.statistics)
    assert bool((model.cost() < before).all())


@pytest.mark.parametrize("make", SPATIAL)
def test_encoding_separates_into_the_mixture(
    make: Callable[[Tensor], SpatialModel], mixture: Tensor, prior: SpeechPrior
) -> None:
    model = build(make(mixture), VAE(prior))
    for _ in range(5):
        model.step()
    assert bool(model.cost().isfinite().all())
    if not isinstance(model.spatial, Rank1):  # which has a background besides
        # up to the share of the sensor noise in a full-rank model
        torch.testing.assert_close(model.images().sum(2), mixture, rtol=1e-2, atol=1e-2)


def test_majoriser_touches_the_cost_and_lies_above_it(mixture: Tensor, prior: SpeechPrior) -> None:
    model = build(jointly_diagonal(mixture), VAE(prior, "gradient"))
    source = model.source
    assert isinstance(source, VAE)
    z0 = source._z
    statistics = model.spatial.statistics(source.psd())

    def change_of_bound(z: Tensor) -> Tensor:
        bound = source._majoriser(z, statistics) - source._majoriser(z0, statistics)
        return bound.sum(1) / (F * T)

    before = model.cost()
    for size in (0.01, 0.3, 3.0):
        z = z0 + size * torch.randn(z0.shape, generator=torch.Generator().manual_seed(2))
        source._z = z
        assert bool((model.cost() - before <= change_of_bound(z) + 1e-5).all())


def test_majoriser_has_the_gradient_of_the_cost(mixture: Tensor, prior: SpeechPrior) -> None:
    model = build(jointly_diagonal(mixture), VAE(prior, "gradient"))
    source = model.source
    assert isinstance(source, VAE)
    statistics = model.spatial.statistics(source.psd())
    z = source._z.clone().requires_grad_()
    (of_bound,) = torch.autograd.grad(source._majoriser(z, statistics).sum() / (F * T), z)
    source._z = z
    (of_cost,) = torch.autograd.grad(model.cost().sum(), z)
    torch.testing.assert_close(of_bound, of_cost, rtol=1e-3, atol=1e-6)


def test_observed_source_is_encoded_as_it_is(prior: SpeechPrior) -> None:
    power = torch.empty(B, F, N, T).exponential_(generator=torch.Generator().manual_seed(0))
    source = VAE(prior)
    source.initialise(power, torch.Generator())
    shape = prior.reconstruct(power.transpose(1, 2)).transpose(1, 2)
    expected = shape * (power / shape).mean((1, 3), keepdim=True)  # at the likeliest level
    torch.testing.assert_close(source.psd(), expected)
    absorbed = source.absorb(torch.full((B, F, N), 3.0))
    assert absorbed.shape == (B, F, N)
    torch.testing.assert_close(source.psd(), 3.0 * expected)


@pytest.mark.parametrize("dilations", [(0,), (1,)])
def test_sampler_draws_from_the_posterior(dilations: tuple[int, ...]) -> None:
    """One latent dimension: moments of z against integration over a grid."""
    torch.manual_seed(0)
    sizes = {"n_fft": 8, "hop": 4, "latent_dim": 1, "width": 8}
    prior = SpeechPrior(PriorConfig(**sizes, decoder_dilations=dilations)).eval()
    prior.requires_grad_(False)
    with torch.no_grad():
        prior.decoder[-1].weight.mul_(30.0)
    n_frames = 1 if dilations == (0,) else 2
    power = 1e-2 * torch.empty(1, 5, 1, n_frames).exponential_()
    grid = torch.linspace(-5, 5, 161)
    mesh = torch.stack(torch.meshgrid(*[grid] * n_frames, indexing="ij"), -1).reshape(-1, n_frames)
    source = VAE(prior, "sample", n_steps=60, rate=1.5)
    source.initialise(power.expand(400, -1, -1, -1), torch.Generator().manual_seed(0))
    level = source._level[0, 0, 0, 0]
    psd = level * prior.decode(mesh[:, None])
    log_density = -(psd.log() + power[0, :, 0] / psd).sum((1, 2)) - 0.5 * mesh.square().sum(1)
    weight = (log_density - log_density.max()).exp()
    expected = (weight[:, None] * mesh).sum(0) / weight.sum()
    source.update(lambda psd: ObservedStatistics(psd, power.expand(400, -1, -1, -1)))
    draws = source._z[:, 0, 0]
    error = 4 * draws.std(0) / len(draws) ** 0.5
    assert bool(((draws.mean(0) - expected).abs() < error).all())
    second = (weight[:, None] * mesh.square()).sum(0) / weight.sum()
    error = 4 * draws.square().std(0) / len(draws) ** 0.5
    assert bool(((draws.square().mean(0) - second).abs() < error).all())


@pytest.mark.parametrize("make", SPATIAL)
def test_sampling_lowers_the_cost_from_a_poor_start(
    make: Callable[[Tensor], SpatialModel], mixture: Tensor, prior: SpeechPrior
) -> None:
    model = build(make(mixture), VAE(prior, "sample", n_steps=2, rate=0.3))
    first = model.cost()
    for _ in range(10):
        model.step()
    assert bool((model.cost() < first).all())


def test_in_a_stack_with_a_background(mixture: Tensor, prior: SpeechPrior) -> None:
    source = Stack([(VAE(prior, "gradient"), N), (Stationary(), 1)])
    gains = torch.full((B, F, N + 1, M), 0.5)
    gains[:, :, 0, 0] = gains[:, :, 1, 1] = 1.0
    eye = torch.eye(M, dtype=mixture.dtype).expand(B, F, M, M)
    spatial = JointlyDiagonal(mixture, eye, gains)
    power = mixture.abs().square()
    source.initialise(power, torch.Generator().manual_seed(0))
    model = Model(spatial, source)
    first = model.cost()
    for _ in range(5):
        model.step()
    assert bool((model.cost() < first).all())


def test_bad_choices_are_refused(prior: SpeechPrior) -> None:
    with pytest.raises(InputError, match="unknown inference"):
        VAE(prior, "magic")
    with pytest.raises(InputError, match="n_steps must be at least 1, got 0"):
        VAE(prior, n_steps=0)
    for rate in (-1.0, 0.0, math.nan, math.inf):
        with pytest.raises(InputError, match="rate must be positive and finite"):
            VAE(prior, rate=rate)
    dirichlet = SpeechPrior(PriorConfig(n_fft=16, hop=8, latent="dirichlet", width=8))
    for update in ("gradient", "sample"):
        with pytest.raises(InputError, match="Gaussian latents"):
            VAE(dirichlet, update)
    with pytest.raises(InputError, match="needs powers"):
        VAE(prior).initialise(torch.ones(1, F + 1, N, T), torch.Generator())


@pytest.mark.parametrize("given", ["prior", "denoiser"])
def test_networks_of_the_user_stay_as_they_are(given: str) -> None:
    prior = SpeechPrior(PriorConfig(n_fft=16, hop=8, latent_dim=3, width=16))
    denoiser = Denoiser(DenoiserConfig(width=16), prior)
    source = VAE(prior) if given == "prior" else VAE(denoiser=denoiser)
    power = torch.rand(B, F, N, T, dtype=torch.float64) + 0.1
    source.initialise(power, torch.Generator())
    assert source.psd().dtype == torch.float64
    assert {w.dtype for w in denoiser.weights()} == {torch.float32}
    source.initialise(power.float(), torch.Generator())
    assert source.psd().dtype == torch.float32


def test_a_network_in_place_is_used_itself(prior: SpeechPrior) -> None:
    assert prior.like(torch.zeros(1)) is prior
