"""Batches of small Hermitian matrices.

Spatial covariances are M x M with M of 2 to 16, and there is one at every frequency and frame.
Batched LAPACK routines spend most of their time on overhead at that size. The time axis is
therefore kept last and every routine runs over it elementwise; sums over time become real matrix
products on a packed form.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def abs2(value: Tensor) -> Tensor:
    """``|x|²`` of complex values, without the root that ``abs()`` takes first."""
    real, imag = value.real, value.imag
    return real.square().addcmul_(imag, imag)


def hermitise(matrix: Tensor) -> Tensor:
    """Hermitian part of ``matrix`` (..., M, M): removes the asymmetry that rounding leaves."""
    return 0.5 * (matrix + matrix.mH)


def regularise(matrix: Tensor, strength: float = 1.0) -> Tensor:
    """Add a diagonal of ``strength`` times :func:`rounding_load` to Hermitian matrices (..., M, M).

    Covariances of dead or duplicated channels and of bins without energy then stay invertible.
    """
    load = strength * rounding_load(matrix)
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    result: Tensor = matrix + load[..., None, None] * eye
    return result


def real_form(matrix: Tensor) -> Tensor:
    """``[[Re, −Im], [Im, Re]]``, (..., 2M, 2N): the real representation of complex (..., M, N)."""
    top = torch.cat([matrix.real, -matrix.imag], dim=-1)
    return torch.cat([top, torch.cat([matrix.imag, matrix.real], dim=-1)], dim=-2)


def rounding_load(matrix: Tensor) -> Tensor:
    """About the error that rounding leaves in the smallest eigenvalue of (..., M, M), (...).

    It is relative to the largest eigenvalue, which may be as large as the trace. With fewer than
    four channels it is somewhat larger.
    """
    finfo = torch.finfo(matrix.dtype)
    mean_power: Tensor = matrix.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    load: Tensor = max(matrix.shape[-1], 4) * finfo.eps * mean_power + finfo.tiny**0.5
    return load


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # callers of what is cached may want gradients
def _upper(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, cols = torch.triu_indices(size, size, offset=1, device=device)
    return rows, cols


def pack(matrix: Tensor) -> Tensor:
    """Hermitian (..., M, M) as M² real numbers: diagonal, Re and Im of the upper triangle."""
    rows, cols = _upper(matrix.shape[-1], matrix.device)
    upper = matrix[..., rows, cols]
    diagonal = matrix.diagonal(dim1=-2, dim2=-1).real
    return torch.cat([diagonal, upper.real, upper.imag], dim=-1)


def unpack(packed: Tensor) -> Tensor:
    """Inverse of :func:`pack`: real (..., M²) to Hermitian (..., M, M)."""
    size = round(packed.shape[-1] ** 0.5)
    parts = packed.contiguous() @ _places(size, packed.dtype, packed.device)
    return torch.view_as_complex(parts.reshape(*packed.shape[:-1], size, size, 2))


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)
def _places(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Place and sign of each packed number in the matrix: (M², M · M · 2) of zeros and ±1.

    As a matrix product, unpacking is several times faster than by indexing.
    """
    rows, cols = _upper(size, device)
    real = size + torch.arange(len(rows), device=device)
    diagonal = torch.arange(size, device=device)
    places = torch.zeros(size**2, size, size, 2, dtype=dtype, device=device)
    places[diagonal, diagonal, diagonal, 0] = 1
    places[real, rows, cols, 0] = places[real, cols, rows, 0] = 1
    places[real + len(rows), rows, cols, 1] = 1
    places[real + len(rows), cols, rows, 1] = -1
    return places.flatten(1)


def dual(packed: Tensor) -> Tensor:
    """Packed (..., M²) whose dot product with another packed matrix is ``tr(A B)``."""
    size = round(packed.shape[-1] ** 0.5)
    return torch.cat([packed[..., :size], 2 * packed[..., size:]], dim=-1)


def pack_outer(x: Tensor) -> Tensor:
    """Packed outer products x xᴴ of vectors (..., M, T) as real (..., M², T)."""
    real, imag = x.real.contiguous(), x.imag.contiguous()
    diagonal = real.square().addcmul_(imag, imag)
    above, beyond = [], []
    for r in range(x.shape[-2] - 1):
        re, im = real[..., r : r + 1, :], imag[..., r : r + 1, :]
        re_c, im_c = real[..., r + 1 :, :], imag[..., r + 1 :, :]
        above.append((re * re_c).addcmul_(im, im_c))
        beyond.append((im * re_c).addcmul_(re, im_c, value=-1))
    return torch.cat([diagonal, *above, *beyond], dim=-2)


def weighted_covariance(outer: Tensor, weight: Tensor) -> Tensor:
    """``(1/T) Σ_t w_kt x_t x_tᴴ`` for every weight k.

    Parameters
    ----------
    outer : Tensor
        Packed outer products (..., M², T) from :func:`pack_outer`.
    weight : Tensor
        Real weights (..., K, T).

    Returns
    -------
    Tensor
        Hermitian matrices (..., K, M, M).
    """
    # This way round: products of matrices with few columns are slow.
    return unpack(weight @ outer.mT / outer.shape[-1])


def inverse_and_logdet(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and log-determinant of positive definite matrices along the last axis.

    Parameters
    ----------
    packed : Tensor
        Real (..., M², T), M x M Hermitian positive definite matrices from :func:`pack`, axis moved
        before time.

    Returns
    -------
    inverse : Tensor
        Packed inverses (..., M², T).
    logdet : Tensor
        (..., T).

    Notes
    -----
    Cholesky Y = L Lᴴ, inversion of L and L⁻ᴴL⁻¹, unrolled over the few rows and columns and
    vectorised over everything else.
    """
    size = round(packed.shape[-2] ** 0.5)
    factor, logdet = _cholesky(packed, size)
    inverse_factor = _invert_triangular(factor, size)
    return _gram(inverse_factor, size), logdet


_Triangle = dict[tuple[int, int], Tensor]


def _cholesky(packed: Tensor, size: int) -> tuple[_Triangle, Tensor]:
    """Lower triangular L with real diagonal, as a dictionary of (..., T) entries."""
    n_upper = size * (size - 1) // 2
    diagonal, real, imag = torch.split(packed, [size, n_upper, n_upper], dim=-2)
    rows, cols = _upper(size, torch.device("cpu"))
    floor = torch.finfo(packed.dtype).eps * diagonal.clamp_min(torch.finfo(packed.dtype).tiny)
    lower: _Triangle = {
        (int(c), int(r)): torch.complex(real[..., k, :], -imag[..., k, :])
        for k, (r, c) in enumerate(zip(rows, cols, strict=True))
    }
    logdet = torch.zeros_like(diagonal[..., 0, :])
    for j in range(size):
        pivot = diagonal[..., j, :]
        for k in range(j):
            pivot = pivot - abs2(lower[j, k])
        pivot = torch.maximum(pivot, floor[..., j, :]).sqrt()
        logdet = logdet + 2 * pivot.log()
        lower[j, j] = pivot
        for i in range(j + 1, size):
            entry = lower[i, j]
            for k in range(j):
                entry = entry - lower[i, k] * lower[j, k].conj()
            lower[i, j] = entry / pivot
    return lower, logdet


def _invert_triangular(lower: _Triangle, size: int) -> _Triangle:
    inverse: _Triangle = {}
    for i in range(size):
        inverse[i, i] = lower[i, i].reciprocal()
        for j in range(i):
            entry = lower[i, j] * inverse[j, j]
            for k in range(j + 1, i):
                entry = entry + lower[i, k] * inverse[k, j]
            inverse[i, j] = -entry * inverse[i, i]
    return inverse


def _gram(inverse: _Triangle, size: int) -> Tensor:
    """Packed VᴴV of a lower triangular V."""
    diagonal = [
        sum((abs2(inverse[k, i]) for k in range(i + 1, size)), inverse[i, i] ** 2)
        for i in range(size)
    ]
    upper = []
    for i in range(size):
        for j in range(i + 1, size):
            entry = inverse[j, i].conj() * inverse[j, j]
            for k in range(j + 1, size):
                entry = entry + inverse[k, i].conj() * inverse[k, j]
            upper.append(entry)
    parts = diagonal + [u.real for u in upper] + [u.imag for u in upper]
    return torch.stack(parts, dim=-2)


def inverse_cholesky(matrix: Tensor) -> Tensor:
    """``L⁻¹`` of Hermitian positive definite matrices ``V = L Lᴴ`` along the first two axes.

    Elimination on ``[V, I]``, vectorised over all other axes.

    Parameters
    ----------
    matrix : Tensor
        V, (M, M, ...).

    Returns
    -------
    Tensor
        L⁻¹, (M, M, ...), lower triangular.
    """
    size, eps = len(matrix), torch.finfo(matrix.dtype).eps
    eye = torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    eye = eye[(..., *[None] * (matrix.ndim - 2))].expand_as(matrix)
    rows = torch.cat([matrix, eye], dim=1)
    factors = []
    for k in range(size):
        pivot, below = rows[0], rows[1:]
        scale = torch.maximum(pivot[0].real, eps * matrix[k, k].real).rsqrt()
        pivot = pivot[1:] * scale
        rows = below[:, 1:].addcmul(below[:, :1] * scale, pivot, value=-1)
        factors.append(pivot[-size:])
    return torch.stack(factors)


def apply_packed(packed: Tensor, x: Tensor) -> Tensor:
    """Products of packed Hermitian matrices (..., M², T) with vectors (..., M, T)."""
    size = x.shape[-2]
    n_upper = size * (size - 1) // 2
    diagonal, real, imag = torch.split(packed, [size, n_upper, n_upper], dim=-2)
    rows, cols = _upper(size, torch.device("cpu"))
    out = list((diagonal * x).unbind(-2))
    for k, (r, c) in enumerate(zip(rows.tolist(), cols.tolist(), strict=True)):
        entry = torch.complex(real[..., k, :], imag[..., k, :])
        out[r] = out[r] + entry * x[..., c, :]
        out[c] = out[c] + entry.conj() * x[..., r, :]
    return torch.stack(out, dim=-2)


def hermitian_power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of positive definite Hermitian (..., M, M), eigenvalues floored at rounding level."""
    values, vectors = torch.linalg.eigh(matrix)
    floor = torch.finfo(values.dtype).eps * values[..., -1:].clamp_min(0) + 1e-30
    scaled = vectors * torch.maximum(values, floor).pow(exponent)[..., None, :]
    result: Tensor = scaled @ vectors.mH
    return result


def generalised_eigh(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions of ``a v = μ b v`` for Hermitian a and positive definite b, (..., M, M).

    Returns
    -------
    values : Tensor
        μ, ascending, (..., M).
    vectors : Tensor
        Columns v with ``vᴴ b v = 1``, (..., M, M).
    """
    inverse_factor = torch.linalg.inv(torch.linalg.cholesky(b))
    values, vectors = torch.linalg.eigh(hermitise(inverse_factor @ a @ inverse_factor.mH))
    return values, inverse_factor.mH @ vectors


def riccati(b: Tensor, c: Tensor, linear: Tensor | float = 0.0) -> Tensor:
    """Positive definite H that solves ``H B H + ν H = C`` (Sawada et al. 2013, eq. 40, for ν = 0).

    ``H = B^{-1/2} Z B^{-1/2}`` with ``Z² + ν Z = B^{1/2} C B^{1/2}``; all matrices are (..., M, M)
    and ν is ``linear``.
    """
    root, inverse_root = hermitian_power(b, 0.5), hermitian_power(b, -0.5)
    half = linear / 2 * torch.eye(b.shape[-1], dtype=b.dtype, device=b.device)
    middle = hermitian_power(hermitise(root @ c @ root) + half @ half, 0.5) - half
    return hermitise(inverse_root @ middle @ inverse_root)
