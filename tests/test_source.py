"""Source models on their own: what they minimise, and by which formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toy import (
    SOURCES,
    SPATIAL,
    assert_never_rises,
    costs,
    make_model,
    random_psd,
    seeded,
    source_model,
    spatial_model,
)
from toy import random_mixture as mixture_of

from fca.errors import InputError
from fca.source import NMF, Fixed, Free, Gauss, Laplace, SourceModel, Stack, Stationary, Student
from fca.source.departure import departure_penalty
from fca.spatial.base import FLOOR, ObservedStatistics, Statistics

SHAPE = (2, 5, 3, 20)
each_source = pytest.mark.parametrize("kind", SOURCES)


def power(seed: int = 0) -> Tensor:
    return random_psd(SHAPE, seeded(seed))


def observed(target: Tensor) -> Callable[[Tensor], Statistics]:
    """Statistics of sources that are observed themselves."""
    return lambda psd: ObservedStatistics(psd, target)


def cost(model: SourceModel, target: Tensor) -> Tensor:
    """Negative log-likelihood of observed powers plus the penalty, (B,)."""
    psd = model.psd()
    return (target / psd + psd.log()).sum((1, 2, 3)) + model.penalty()


@each_source
def test_psds_have_their_shape_and_a_floor(kind: str) -> None:
    model = source_model(kind, power() * 1e-20)
    model.update(observed(power() * 0))
    assert model.psd().shape == SHAPE
    assert torch.all(model.psd() >= FLOOR)
    assert torch.isfinite(model.psd()).all()


@each_source
def test_absorbed_factors_multiply_the_psds(kind: str) -> None:
    model, factor = source_model(kind, power()), random_psd(SHAPE[:3], seeded(5))
    before = model.psd()
    absorbed = model.absorb(factor)
    torch.testing.assert_close(model.psd(), before * absorbed[..., None])


@pytest.mark.parametrize("kind", ["gauss", "student", "laplace", "untied laplace"])
def test_invariant_sources_minimise_their_cost(kind: str) -> None:
    """λ is the exact minimum for observed sources: the cost is stationary in it."""
    target = power()
    model = source_model(kind, target)
    model.update(observed(target))
    best = cost(model, target)
    variance = model._variance.clone().requires_grad_()
    model._variance = variance
    (slope,) = torch.autograd.grad(cost(model, target).sum(), variance)
    torch.testing.assert_close(slope * variance.detach(), torch.zeros_like(slope))
    model._variance = (variance * 1.1).detach()
    assert torch.all(cost(model, target) > best)


@pytest.mark.parametrize(
    ("model", "contrast"),
    [
        (Laplace(), lambda total, size: 2 * total.sqrt()),
        (Laplace(tied=False), lambda total, size: 2 * total.sqrt()),
        (Gauss(), lambda total, size: size * (total / size).log() + size),
        (
            Student(3.0),
            lambda total, size: (
                (1.5 + size) * (1 + 2 / 3 * total).log()
                + (1.5 + size) * (1 - torch.tensor(size / 1.5 + 1).log())
            ),
        ),
    ],
    ids=["laplace", "untied laplace", "gauss", "student"],
)
def test_invariant_costs_are_those_of_the_papers(
    model: Laplace | Gauss | Student, contrast: Callable[[Tensor, int], Tensor]
) -> None:
    """Minimised over λ the cost is the contrast function of r, as IVA papers write it."""
    target = power()
    model.initialise(target, seeded())
    total, size = (target.sum(1), SHAPE[1]) if model.tied else (target, 1)
    expected = contrast(total, size).flatten(1).sum(1)
    torch.testing.assert_close(cost(model, target), expected)


@pytest.mark.parametrize("tied", [True, False])
def test_silence_has_a_gradient(tied: bool) -> None:
    power = random_psd((1, 3, 2, 5), seeded())
    power[..., 2:] = 0
    power.requires_grad_()
    source = Laplace(tied)
    source.initialise(power, seeded())
    source.psd().sum().backward()
    assert power.grad is not None and power.grad.isfinite().all()


def test_nmf_updates_are_those_of_itakura_saito() -> None:
    target = power()
    model = source_model("nmf", power(1))
    w, h = model._w[0, 0].clone(), model._h[0, 0].clone()
    model.update(observed(target))
    v = target[0, :, 0]
    for matrix in ("w", "h"):
        y = w @ h
        if matrix == "w":
            w = w * (((v / y**2) @ h.T) / ((1 / y) @ h.T)).sqrt()
        else:
            h = h * ((w.T @ (v / y**2)) / (w.T @ (1 / y))).sqrt()
    torch.testing.assert_close(model.psd()[0, :, 0], w @ h)


def test_nmf_warms_up_on_the_initial_powers() -> None:
    cold, warm = NMF(4, warmup=0), NMF(4, warmup=30)
    for model in (cold, warm):
        model.initialise(power(), seeded())
    assert torch.all(cost(warm, power()) < cost(cold, power()))
    # Cold factors are random but have the level of the powers.
    assert 0.2 < float(cold.psd().mean() / power().mean()) < 2


def test_nmf_recovers_a_low_rank_spectrogram() -> None:
    rng = seeded(3)
    truth = random_psd((1, 1, 12, 2), rng) @ random_psd((1, 1, 2, 60), rng)
    target = truth.transpose(1, 2)
    model = NMF(2, warmup=500)
    model.initialise(target, seeded(4))
    ratio = target / model.psd()
    divergence = (ratio - ratio.log() - 1).mean()  # Itakura-Saito, zero at the truth
    assert divergence < 1e-2


def test_the_same_seed_gives_the_same_factors() -> None:
    first, second, other = (source_model("nmf", power(), seed) for seed in (0, 0, 1))
    assert torch.equal(first.psd(), second.psd())
    assert not torch.equal(first.psd(), other.psd())


def test_free_psd_is_the_power_of_an_observed_source() -> None:
    """In one EM step, or as the fixed point of the multiplicative update."""
    target = power()
    em, mu = source_model("free em", power(1)), source_model("free mu", power(1))
    em.update(observed(target))
    torch.testing.assert_close(em.psd(), target)
    for _ in range(60):
        mu.update(observed(target))
    torch.testing.assert_close(mu.psd(), target)


def test_stationary_psd_is_the_mean_power() -> None:
    target = power()
    model = source_model("stationary", power(1))
    for _ in range(60):
        model.update(observed(target))
    torch.testing.assert_close(model.psd(), target.mean(-1, keepdim=True).expand(SHAPE))


def test_refined_noise_departs_from_its_level() -> None:
    """Bins minimise the cost given the level, and the level given the bins."""
    target = power()
    model = source_model("stationary", target)
    model.refine(observed(target))
    level = target.mean(-1, keepdim=True)
    torch.testing.assert_close(model.psd(), (target + 2 * level) / 3)
    start = model._level.clone().requires_grad_()
    (slope,) = torch.autograd.grad(departure_penalty(start, 2.0, model.psd()).sum(), start)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_noise_of_a_strong_prior_stays_stationary() -> None:
    model = Stationary(strength=1e12)
    model.initialise(power(), seeded())
    level = model.psd()
    model.refine(observed(power(1)))
    torch.testing.assert_close(model.psd(), level)
    with pytest.raises(InputError, match="must be positive"):
        Stationary(strength=0.0)


def test_noise_that_departed_moves_as_one() -> None:
    """Updates after refinement change the level of every bin alike, and lower the cost."""
    target = power(1)
    model = source_model("stationary", power())
    model.refine(observed(power()))
    before, first = model.psd(), cost(model, target)
    model.update(observed(target))
    ratio = model.psd() / before
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio))
    assert torch.all(cost(model, target) < first)


@pytest.mark.parametrize("name", SPATIAL)
def test_noise_that_departs_never_raises_the_cost(name: str) -> None:
    model = make_model(name, "stationary", mixture_of())
    assert_never_rises(costs(model, model.refine, 10))


def test_fixed_psd_stays() -> None:
    model = source_model("fixed", power())
    model.update(observed(power(1)))
    assert torch.equal(model.psd(), power())
    assert torch.equal(model.absorb(power()[..., 0]), torch.ones(SHAPE[:3]).double())


def test_fixed_psd_must_fit_the_mixture() -> None:
    with pytest.raises(InputError, match=r"the given PSDs are \(2, 5, 3, 20\), the mixture needs"):
        Fixed(power()).initialise(power()[:1], seeded())


def test_stacked_sources_are_updated_as_alone() -> None:
    """Observed sources do not interact, so that each part does what it does by itself."""
    target = power()
    parts: list[tuple[SourceModel, int]] = [(Free("em"), 1), (Gauss(), 1), (Stationary(), 1)]
    stack = Stack(parts)
    stack.initialise(power(1), seeded())
    stack.update(observed(target))
    for n, alone in enumerate((Free("em"), Gauss(), Stationary())):
        alone.initialise(power(1)[:, :, n : n + 1], seeded())
        alone.update(observed(target[:, :, n : n + 1]))
        torch.testing.assert_close(stack.psd()[:, :, n : n + 1], alone.psd())


def test_stacked_sources_see_each_other_in_a_mixture() -> None:
    """The second part is updated with the new PSDs of the first."""
    mixture = mixture_of()
    spatial = spatial_model("full rank", mixture)
    shape = (1, mixture.shape[1], 3, mixture.shape[3])
    start = random_psd(shape, seeded())
    stack = Stack([(Free("mu"), 2), (Free("mu"), 1)])
    stack.initialise(start, seeded())
    stack.update(spatial.statistics)
    first = start * spatial.statistics(start).multiplier
    joined = torch.cat([first[:, :, :2], start[:, :, 2:]], dim=2)
    second = joined * spatial.statistics(joined).multiplier
    expected = torch.cat([first[:, :, :2], second[:, :, 2:]], dim=2)
    torch.testing.assert_close(stack.psd(), expected)


def test_stacked_sources_are_refined_together() -> None:
    """All parts see the PSDs from before any of them moved."""
    mixture = mixture_of()
    spatial = spatial_model("full rank", mixture)
    start = random_psd((1, mixture.shape[1], 3, mixture.shape[3]), seeded())
    stack = Stack([(Free("mu"), 2), (Free("mu"), 1)])
    stack.initialise(start, seeded())
    stack.refine(spatial.statistics)
    torch.testing.assert_close(stack.psd(), start * spatial.statistics(start).multiplier)


def test_a_stack_must_cover_all_sources() -> None:
    with pytest.raises(InputError, match="2 stacked sources, 3 initial powers"):
        Stack([(Gauss(), 1), (Stationary(), 1)]).initialise(power(), seeded())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NMF(0), "n_bases must be at least 1, got 0"),
        (lambda: NMF(warmup=1.5), "warmup must be a whole number"),
        (lambda: Gauss(quietest=-3), "quietest cannot be negative or infinite, got -3"),
        (lambda: Gauss(quietest=math.inf), "quietest cannot be negative or infinite, got inf"),
        (lambda: Free("newton"), "unknown inference 'newton' of a free PSD"),
        (lambda: Student(0.0), "must be positive"),
    ],
)
def test_impossible_models_are_refused(make: Callable[[], SourceModel], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_bounded_gauss_has_a_quietest_frame() -> None:
    first, silent = power(), power(1)
    silent[..., 3] = 0.0
    bounded, free = Gauss(quietest=0.1), Gauss()
    for model in (bounded, free):
        model.initialise(first, seeded())
        model.update(observed(silent))
    bound = 0.1 * first.mean((1, 3))
    torch.testing.assert_close(bounded.psd()[:, 0, :, 3], bound)
    loud = free.psd() > bound[:, None, :, None]
    torch.testing.assert_close(bounded.psd()[loud], free.psd()[loud])


@pytest.mark.parametrize("name", ["rank-1", "jointly diagonal", "full rank"])
@pytest.mark.parametrize("kind", ["gauss", "laplace", "untied laplace", "student"])
def test_updates_of_the_source_alone_never_raise_the_cost(name: str, kind: str) -> None:
    model = make_model(name, kind, mixture_of(batch=2))
    assert_never_rises(costs(model, lambda: model.source.update(model.spatial.statistics), 10))
