"""Packed Hermitian algebra against torch.linalg and the equations it stands for."""

from __future__ import annotations

import pytest
import torch
from toy import complex_normal, random_psd, random_scm, seeded

from fca import linalg
from fca.spatial.observation import Observation

SIZES = (1, 2, 3, 4, 6)
each_size = pytest.mark.parametrize("size", SIZES)
DOUBLE = torch.float64


@each_size
def test_unpack_undoes_pack(size: int) -> None:
    matrix = random_scm((2, 5), size, seeded())
    packed = linalg.pack(matrix)
    assert packed.shape == (2, 5, size**2)
    assert not packed.is_complex()
    torch.testing.assert_close(linalg.unpack(packed), matrix, rtol=0, atol=0)


@each_size
def test_packed_dot_product_is_a_trace(size: int) -> None:
    rng = seeded(1)
    a, b = random_scm((7,), size, rng), random_scm((7,), size, rng)
    trace = (a @ b).diagonal(dim1=-2, dim2=-1).sum(-1)
    dot = (linalg.dual(linalg.pack(a)) * linalg.pack(b)).sum(-1)
    torch.testing.assert_close(dot, trace.real)


@each_size
def test_outer_products_and_their_weighted_means(size: int) -> None:
    rng = seeded(2)
    x = complex_normal((3, size, 11), rng, DOUBLE)
    weight = random_psd((3, 2, 11), rng)
    outer = linalg.pack_outer(x)
    covariance = linalg.weighted_covariance(outer, weight)
    for b in range(3):
        for t in range(11):
            frame = x[b, :, t]
            expected = torch.outer(frame, frame.conj())
            torch.testing.assert_close(linalg.unpack(outer[b, :, t]), expected)
        for k in range(2):
            expected = (weight[b, k] * x[b]) @ x[b].mH / 11
            torch.testing.assert_close(covariance[b, k], expected)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@each_size
def test_inverse_and_logdet_equal_torch(size: int, dtype: torch.dtype) -> None:
    matrix = random_scm((3, 9), size, seeded(3), dtype)
    inverse, logdet = linalg.inverse_and_logdet(linalg.pack(matrix).mT)
    reference = torch.linalg.inv(matrix.to(torch.complex128))
    # The condition number of these matrices is below 10^4, which rounding is multiplied by.
    tolerance = 1e4 * torch.finfo(dtype).eps
    error = (linalg.unpack(inverse.mT) - reference).abs().amax((-2, -1))
    assert torch.all(error < tolerance * reference.abs().amax((-2, -1)))
    expected = torch.linalg.slogdet(matrix.to(torch.complex128)).logabsdet
    assert torch.all((logdet - expected).abs() < tolerance)


def test_inverse_and_logdet_have_the_right_gradients() -> None:
    packed = linalg.pack(random_scm((4,), 3, seeded(4))).mT.requires_grad_()
    assert torch.autograd.gradcheck(linalg.inverse_and_logdet, (packed,))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@each_size
def test_inverse_cholesky_equals_torch(size: int, dtype: torch.dtype) -> None:
    matrix = random_scm((3, 9), size, seeded(6), dtype)
    factor = linalg.inverse_cholesky(matrix.permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
    reference = torch.linalg.inv(torch.linalg.cholesky(matrix.to(torch.complex128)))
    tolerance = 1e4 * torch.finfo(dtype).eps  # as above
    assert torch.all((factor - reference).abs() < tolerance * reference.abs().amax())


@each_size
def test_packed_matrix_times_vector(size: int) -> None:
    rng = seeded(5)
    matrix, x = random_scm((2, 8), size, rng), complex_normal((2, size, 8), rng, DOUBLE)
    product = linalg.apply_packed(linalg.pack(matrix).mT, x)
    torch.testing.assert_close(product, (matrix @ x.mT[..., None])[..., 0].mT)


@pytest.mark.parametrize("exponent", [0.5, -0.5, -1.0, 2.0])
def test_hermitian_power(exponent: float) -> None:
    matrix = random_scm((6,), 4, seeded(6))
    power = linalg.hermitian_power(matrix, exponent)
    expected = {
        0.5: lambda: torch.linalg.solve(power, matrix),
        -0.5: lambda: torch.linalg.inv(power @ matrix),
        -1.0: lambda: torch.linalg.inv(matrix),
        2.0: lambda: matrix @ matrix,
    }[exponent]()
    torch.testing.assert_close(power, expected)


@each_size
def test_riccati_solves_its_equation(size: int) -> None:
    rng = seeded(7)
    b, c = random_scm((10,), size, rng), random_scm((10,), size, rng)
    h = linalg.riccati(b, c)
    torch.testing.assert_close(h @ b @ h, c)
    torch.testing.assert_close(h, h.mH)
    assert torch.all(torch.linalg.eigvalsh(h) > 0)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_regularised_singular_matrices_have_inverses(dtype: torch.dtype, scale: float) -> None:
    x = scale * complex_normal((3, 1), seeded(8), dtype)
    singular = torch.stack([x @ x.mH, torch.zeros_like(x @ x.mH)])
    regular = linalg.regularise(singular)
    inverse, logdet = linalg.inverse_and_logdet(linalg.pack(regular)[..., None])
    assert torch.isfinite(inverse).all()
    assert torch.isfinite(logdet).all()
    assert torch.isfinite(torch.linalg.inv(regular)).all()
    # What is added is at the level of rounding.
    change = (regular - singular)[0].abs().max() / singular[0].diagonal().real.mean()
    assert change < 10 * torch.finfo(dtype).eps


def test_hermitise_keeps_the_hermitian_part_only() -> None:
    matrix = complex_normal((4, 4), seeded(9), DOUBLE)
    part = linalg.hermitise(matrix)
    torch.testing.assert_close(part, part.mH)
    torch.testing.assert_close(matrix - part, -(matrix - part).mH)


def test_what_is_kept_from_inference_mode_serves_gradients() -> None:
    size = 7  # of no other test: nothing is kept yet
    matrix = random_scm((2,), size, seeded())
    with torch.inference_mode():
        linalg.unpack(linalg.pack(matrix))
    leaf = linalg.pack(matrix).requires_grad_()
    linalg.unpack(leaf).abs().square().sum().backward()
    assert bool(leaf.grad.isfinite().all())


@pytest.mark.parametrize("n_channels", [2, 4, 8, 16])
def test_covariances_of_one_loud_source_stay_positive(n_channels: int) -> None:
    """Rounding in single precision makes eigenvalues negative that are to be zero."""
    rng = seeded(9)
    steering = complex_normal((1, 50, n_channels, 1), rng, torch.float32)
    envelope = torch.rand(1, 50, 1, 1600, generator=rng) ** 4
    mixture = steering @ (complex_normal((1, 50, 1, 1600), rng, torch.float32) * envelope)
    weight = torch.rand(1, 50, 1, 1600, generator=rng).reciprocal()
    bare = linalg.weighted_covariance(linalg.pack_outer(mixture), weight)
    assert float(torch.linalg.eigvalsh(bare.to(torch.complex128)).min()) < 0
    covariance = Observation(mixture).covariance(weight)
    assert float(torch.linalg.eigvalsh(covariance.to(torch.complex128)).min()) > 0
