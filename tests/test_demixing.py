"""Updates of a demixing matrix against the formulas of their papers, written as loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_mixture, random_psd, seeded

from fca.linalg import pack_outer, regularise, weighted_covariance
from fca.spatial.demixing import DEMIXING_UPDATES, ip, ip2, iss, orthogonal_background

SIZES = (2, 3, 4)
each_size = pytest.mark.parametrize("size", SIZES)
each_rule = pytest.mark.parametrize("rule", DEMIXING_UPDATES)


def keep(demixing: Tensor) -> Tensor:
    return demixing


def problem(size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mixture, variances ỹ, weighted covariances and Q, all (1, F, ...)."""
    rng = seeded(size)
    mixture = random_mixture(3, size, 40, dtype=dtype)
    variance = random_psd((1, 3, size, 40), rng, dtype)
    covariance = weighted_covariance(pack_outer(mixture), 1 / variance)
    demixing = torch.eye(size) + 0.3 * complex_normal((1, 3, size, size), rng, dtype)
    return mixture, variance, covariance, demixing


def objective(demixing: Tensor, covariance: Tensor) -> Tensor:
    """``Σ_m q_mᴴ V_m q_m − 2 log|det Q|``, (B, F)."""
    energy = torch.einsum("bfmi,bfmij,bfmj->bf", demixing, covariance, demixing.conj())
    return energy.real - 2 * torch.linalg.slogdet(demixing).logabsdet


@each_size
def test_ip_is_that_of_the_paper(size: int) -> None:
    mixture, variance, covariance, demixing = problem(size)
    expected = demixing.clone()
    for f in range(3):
        for m in range(size):
            v = torch.zeros(size, size, dtype=torch.complex128)
            for t in range(40):
                x = mixture[0, f, :, t]
                v += torch.outer(x, x.conj()) / variance[0, f, m, t] / 40
            q = torch.linalg.inv(expected[0, f] @ v)[:, m]
            q = q / (q.conj() @ v @ q).real.sqrt()
            expected[0, f, m] = q.conj()
    torch.testing.assert_close(ip(demixing, covariance, keep), expected)


@each_size
def test_iss_is_that_of_the_paper(size: int) -> None:
    """Sums over frames of the outputs, as in the paper; the code uses quadratic forms instead."""
    mixture, variance, covariance, demixing = problem(size)
    expected, outputs = demixing.clone(), demixing @ mixture
    for f in range(3):
        for k in range(size):
            y, r = outputs[0, f], variance[0, f]
            v = torch.zeros(size, dtype=torch.complex128)
            for m in range(size):
                power = (y[k].abs() ** 2 / r[m]).sum()
                v[m] = (y[m] * y[k].conj() / r[m]).sum() / power
            v[k] = 1 - ((y[k].abs() ** 2 / r[k]).sum() / 40) ** -0.5
            expected[0, f] = expected[0, f] - torch.outer(v, expected[0, f, k])
            outputs[0, f] = y - torch.outer(v, y[k])
    torch.testing.assert_close(iss(demixing, covariance, keep), expected)


@each_size
def test_ip_minimises_over_its_row(size: int) -> None:
    """After the last row's update that row is stationary: ``Q V_m q_m = e_m``."""
    _, _, covariance, demixing = problem(size)
    updated = ip(demixing, covariance, keep)
    last = updated[:, :, -1].conj()[..., None]
    product = (updated @ covariance[:, :, -1] @ last)[..., 0]
    torch.testing.assert_close(product, torch.eye(size)[-1].expand_as(product).to(product))


def test_ip2_solves_two_rows_in_one_pass() -> None:
    """For M = 2 both rows are stationary at once, where IP needs many passes."""
    _, _, covariance, demixing = problem(2)
    once = ip2(demixing, covariance, keep)
    for m in (0, 1):
        product = (once @ covariance[:, :, m] @ once[:, :, m].conj()[..., None])[..., 0]
        expected = torch.eye(2)[m].expand_as(product).to(product)
        torch.testing.assert_close(product, expected)
    many = demixing
    for _ in range(200):
        many = ip(many, covariance, keep)
    assert torch.all(objective(once, covariance) <= objective(many, covariance) + 1e-9)
    assert torch.all(
        objective(once, covariance) < objective(ip(demixing, covariance, keep), covariance)
    )


@pytest.mark.parametrize("size", [3, 4])
def test_ip2_pairs_are_stationary(size: int) -> None:
    """The pair updated last: rows 2 and 0 of three, rows 2 and 3 of four."""
    _, _, covariance, demixing = problem(size)
    updated = ip2(demixing, covariance, keep)
    for m in (size - 1, 2 if size == 4 else 0):
        product = (updated @ covariance[:, :, m] @ updated[:, :, m].conj()[..., None])[..., 0]
        expected = torch.eye(size)[m].expand_as(product).to(product)
        torch.testing.assert_close(product, expected)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str
)
@each_size
@each_rule
def test_the_objective_never_rises(
    rule: str, size: int, dtype: torch.dtype, tolerance: float
) -> None:
    _, _, covariance, demixing = problem(size, dtype)
    before = objective(demixing, covariance)
    for _ in range(10):
        demixing = DEMIXING_UPDATES[rule](demixing, covariance, keep)
        after = objective(demixing, covariance)
        assert torch.all(after <= before + tolerance)
        before = after


@each_rule
def test_rules_share_their_optimum(rule: str) -> None:
    """All stop where ``Q V_m q_m = e_m`` for every m (the HEAD problem)."""
    _, _, covariance, demixing = problem(3)
    for _ in range(150):
        demixing = DEMIXING_UPDATES[rule](demixing, covariance, keep)
    product = torch.einsum("bfij,bfmjk,bfmk->bfmi", demixing, covariance, demixing.conj())
    expected = torch.eye(3).expand_as(product).to(product)
    torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_sources", [1, 2, 3])
def test_background_is_uncorrelated_with_the_sources(n_sources: int) -> None:
    mixture, _, _, demixing = problem(4)
    covariance = mixture @ mixture.mH / mixture.shape[-1]
    whole = orthogonal_background(demixing, covariance, n_sources)
    torch.testing.assert_close(whole[:, :, :n_sources], demixing[:, :, :n_sources])
    cross = whole[:, :, n_sources:] @ covariance @ whole[:, :, :n_sources].mH
    torch.testing.assert_close(cross, torch.zeros_like(cross))
    assert torch.linalg.slogdet(whole).logabsdet.isfinite().all()


@each_rule
def test_fewer_rows_than_channels_are_updated_alone(rule: str) -> None:
    """Rows without a covariance change through ``refresh`` only, which sees every new row."""
    mixture, _, covariance, demixing = problem(4)
    mixture_covariance = mixture @ mixture.mH / mixture.shape[-1]
    calls = 0

    def refresh(q: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return orthogonal_background(q, mixture_covariance, 2)

    updated = DEMIXING_UPDATES[rule](refresh(demixing), covariance[:, :, :2], refresh)
    assert calls > 1
    torch.testing.assert_close(refresh(updated), updated)
    assert (updated[:, :, :2] - demixing[:, :, :2]).abs().amax() > 1e-3


@each_rule
def test_fewer_rows_than_channels_share_their_optimum(rule: str) -> None:
    """Also where they begin as two of the microphones, and so in a space of their own."""
    mixture, _, covariance, _ = problem(4)
    mixture_covariance = mixture @ mixture.mH / mixture.shape[-1]

    def refresh(q: Tensor) -> Tensor:
        return orthogonal_background(q, mixture_covariance, 2)

    demixing = refresh(torch.eye(4, dtype=mixture.dtype).expand(1, 3, 4, 4))
    for _ in range(300):
        demixing = DEMIXING_UPDATES[rule](demixing, covariance[:, :, :2], refresh)
    rows = demixing[:, :, :2].conj()
    product = torch.einsum("bfij,bfmjk,bfmk->bfmi", demixing, covariance[:, :, :2], rows)
    expected = torch.eye(4)[:2].expand_as(product).to(product)
    torch.testing.assert_close(product, expected, rtol=1e-5, atol=1e-5)


def test_pairs_that_see_nearly_the_same_stay_solvable() -> None:
    rng = seeded()
    common = complex_normal((1, 50, 1, 4, 1), rng, torch.float32)
    own = complex_normal((1, 50, 4, 4, 20), rng, torch.float32)
    covariance = common @ common.mH + 1e-5 * own @ own.mH / 20
    demixing = torch.eye(4).to(covariance).expand(1, 50, 4, 4)
    for _ in range(10):
        demixing = ip2(demixing, covariance, keep)
    assert demixing.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copied", [0, 2])
def test_the_background_bears_microphones_that_hear_the_same(
    copied: int, dtype: torch.dtype
) -> None:
    """Whichever these are: the first of an array are no more than others."""
    mixture, _, _, demixing = problem(4, dtype)
    mixture[:, :, copied + 1] = mixture[:, :, copied]
    covariance = regularise(mixture @ mixture.mH / mixture.shape[-1])
    whole = orthogonal_background(demixing, covariance, 2)
    cross = whole[:, :, 2:] @ covariance @ whole[:, :, :2].mH
    scale = whole.abs().amax() ** 2 * covariance.abs().amax()
    assert float(cross.abs().amax()) < 100 * torch.finfo(dtype).eps * float(scale)
    assert float(whole.abs().amax()) < 100
