"""Noise whose bands swell and fade: optima, invariants, and what it explains."""

from __future__ import annotations

import pytest
import torch
from test_source import cost, observed, power
from torch import Tensor
from toy import SPATIAL, assert_never_rises, costs, make_model, random_mixture, seeded

from fca.source import Fluctuating, Stationary
from fca.source.departure import departure_penalty
from fca.source.fluctuating import BANDS, STEADINESS, _members

N_FREQ = 1000


def swelling(n_frames: int = 60) -> Tensor:
    """Power (1, F, 1, T) of noise that is stationary but for a gust in its upper half."""
    power = torch.ones((1, N_FREQ, 1, n_frames), dtype=torch.float64)
    power[:, N_FREQ // 2 :, :, 20:40] = 50.0
    return power


def at_level(target: Tensor) -> Fluctuating:
    model = Fluctuating()
    model.initialise(target, seeded())
    return model


@pytest.mark.parametrize("n_freq", [1, 2, 5, 257, 2049])
def test_every_frequency_is_in_one_band_and_no_band_is_empty(n_freq: int) -> None:
    members = _members(n_freq)
    assert torch.equal(members.sum(0), torch.ones(n_freq).double())
    sizes = members.sum(1)
    assert len(sizes) == min(BANDS, len(sizes)) and torch.all(sizes > 0)
    assert torch.all(members.argmax(0).diff() >= 0)
    if n_freq > 100:
        assert len(sizes) == BANDS and sizes[-1] > 8 * sizes[0]


def test_it_begins_as_stationary_noise() -> None:
    model, stationary = at_level(power()), Stationary()
    stationary.initialise(power(), seeded())
    assert torch.equal(model.psd(), stationary.psd())
    torch.testing.assert_close(model.penalty(), torch.zeros(2).double())


def distance_db(psd: Tensor, target: Tensor) -> float:
    """Largest distance of two PSDs at the highest frequencies."""
    return float((psd / target)[:, -N_FREQ // 5 :].log10().mul(10).abs().max())


def test_a_gust_is_followed_where_stationary_noise_cannot() -> None:
    target = swelling()
    model = at_level(target)
    for _ in range(20):
        model.update(observed(target))
    assert distance_db(model.psd(), target) < 3.0, "bins enough to outweigh the prior"
    stationary = Stationary()
    stationary.initialise(target, seeded())
    assert distance_db(stationary.psd(), target) > 10.0


def test_refined_course_and_level_are_optima() -> None:
    target = swelling()
    model = at_level(target)
    model.refine(observed(target))
    course = model._course.clone().requires_grad_()
    model._course = course
    (slope,) = torch.autograd.grad(model.penalty().sum(), course)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-8)


def test_the_penalty_is_that_of_both_priors() -> None:
    target = swelling()
    model = at_level(target)
    model.update(observed(target))
    model.refine(observed(target))
    course = model._course
    unsteady = STEADINESS * (course + 1 / course - 2).sum((1, 2, 3))
    departed = departure_penalty(model.expected, model.strength, model.psd())
    assert torch.all(unsteady > 0) and torch.all(departed > 0)
    torch.testing.assert_close(model.penalty(), unsteady + departed)


def test_updates_after_refinement_lower_the_cost() -> None:
    target = power(1)
    model = at_level(power())
    model.refine(observed(power()))
    first = cost(model, target)
    model.update(observed(target))
    assert torch.all(cost(model, target) < first)


@pytest.mark.parametrize("name", SPATIAL)
def test_neither_kind_of_step_raises_the_cost(name: str) -> None:
    model = make_model(name, "fluctuating", random_mixture())
    assert_never_rises(costs(model, model.step, 10))
    assert_never_rises(costs(model, model.refine, 10))
