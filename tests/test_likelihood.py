"""Radial likelihoods: the weight is the slope of the energy and bounds it from above."""

from __future__ import annotations

import pytest
import torch

from fca.errors import InputError
from fca.likelihood import Gaussian, Likelihood, StudentT

ENERGIES = torch.logspace(-6, 6, 25, dtype=torch.float64)
LIKELIHOODS = [Gaussian(), StudentT(0.5), StudentT(10.0)]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("dim", [1, 4])
def test_weight_is_the_derivative_of_the_energy(likelihood: Likelihood, dim: int) -> None:
    q = ENERGIES.clone().requires_grad_()
    (slope,) = torch.autograd.grad(likelihood.energy(q, dim).sum(), q)
    torch.testing.assert_close(likelihood.weight(ENERGIES, dim), slope)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_the_weighted_energy_is_a_majoriser(likelihood: Likelihood) -> None:
    old, new = ENERGIES[:, None], ENERGIES[None]
    change = likelihood.energy(new, 3) - likelihood.energy(old, 3)
    bound = likelihood.weight(old, 3) * (new - old)
    assert torch.all(change <= bound + 1e-9 * bound.abs())


def test_many_degrees_of_freedom_are_gaussian() -> None:
    q = torch.linspace(0, 20, 50, dtype=torch.float64)
    near = StudentT(1e8)
    torch.testing.assert_close(near.energy(q, 3), q, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(near.weight(q, 3), torch.ones_like(q), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dof", [0.0, -1.0, float("nan")])
def test_degrees_of_freedom_must_be_positive(dof: float) -> None:
    with pytest.raises(InputError, match="must be positive"):
        StudentT(dof)
