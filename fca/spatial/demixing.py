"""Updates of a demixing matrix: iterative projection (IP, IP2) and source steering (ISS).

All minimise ``Σ_m q_mᴴ V_m q_m − 2 log|det Q|`` over the rows q_mᴴ of Q, given the weighted mixture
covariances V_m. They depend on the data through these alone; with the covariances given, steering
needs no pass over the frames either.

Shapes: Q (B, F, M, M); V (B, F, K, M, M), one covariance per updated row, K ≤ M. If K < M, the
other rows span the background, and ``refresh`` recomputes them after each step (OverIVA).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fca.linalg import abs2, generalised_eigh, hermitise, inverse_cholesky, rounding_load

Refresh = Callable[[Tensor], Tensor]
DemixingUpdate = Callable[[Tensor, Tensor, Refresh], Tensor]


def ip(demixing: Tensor, covariance: Tensor, refresh: Refresh) -> Tensor:
    """Iterative projection (Ono 2011, eqs. 13-14), one row after the other.

    ``q_m = V_m⁻¹ a_m / √(a_mᴴ V_m⁻¹ a_m)``, where ``a_m`` is column m of the mixing matrix Q⁻¹; a
    rank-one update keeps Q⁻¹ in step with each new row.
    """
    whitening = inverse_cholesky(covariance.permute(3, 4, 2, 0, 1).contiguous())
    mixing, rows = _inverse(demixing), []
    complete = covariance.shape[2] == len(mixing)
    for m in range(covariance.shape[2]):
        row, scale = _projection(whitening[:, :, m], mixing[:, m])
        if complete:
            rows.append(row)
            mixing = _with_row(mixing, m, row, scale)
        else:
            demixing = refresh(_replace_rows(demixing, [m], row.movedim(0, -1)[:, :, None]))
            mixing = _inverse(demixing)
    return torch.stack(rows).permute(2, 3, 0, 1).contiguous() if complete else demixing


def ip2(demixing: Tensor, covariance: Tensor, refresh: Refresh) -> Tensor:
    """Pairwise iterative projection (Ono 2012; Scheibler & Ono 2020, algorithm 3)."""
    n_rows = covariance.shape[2]
    if n_rows == 1:
        return ip(demixing, covariance, refresh)
    for m in range(0, n_rows, 2):
        pair = [m, (m + 1) % n_rows]
        demixing = refresh(_replace_rows(demixing, pair, _pair_of_rows(demixing, covariance, pair)))
    return demixing


def iss(demixing: Tensor, covariance: Tensor, refresh: Refresh) -> Tensor:
    """Iterative source steering (Scheibler & Ono 2020), ``Q ← Q − v q_kᴴ`` for every k.

    The sums over frames of the paper are written as quadratic forms of V:
    ``Σ_t y_m y_k* / ỹ_m = T · q_mᴴ V_m q_k``. Rows of the background steer the sources, too, or
    these would never leave the space that they span.
    """
    n_rows, load = covariance.shape[2], rounding_load(covariance)
    for k in range(demixing.shape[2]):
        steer = demixing[:, :, k].conj()[:, :, None, :, None]
        covariance_steer = (covariance @ steer)[..., 0]
        power = _quadratic_form(steer, covariance, load)[..., 0, 0]
        cross = (demixing[:, :, :n_rows] * covariance_steer).sum(-1)
        step = cross / power
        if k < n_rows:
            own = 1 - power[:, :, k].rsqrt()
            is_own = torch.arange(n_rows, device=step.device) == k
            step = torch.where(is_own, own[..., None].to(step.dtype), step)
        rows = demixing[:, :, :n_rows] - step[..., None] * demixing[:, :, k : k + 1]
        demixing = refresh(torch.cat([rows, demixing[:, :, n_rows:]], dim=2))
    return demixing


def orthogonal_background(demixing: Tensor, covariance: Tensor, n_sources: int) -> Tensor:
    """Complete N demixing rows by background rows whose outputs are uncorrelated with theirs.

    Rows ``[J, −I]`` with ``J = (E₂ C Wᴴ)(E₁ C Wᴴ)⁻¹`` (Scheibler & Ono 2019, eq. 9): the maximum
    likelihood background if it is stationary noise. In the paper E₁ picks the first N microphones;
    here the channels are rotated first, as some of these N may hear the same.

    Parameters
    ----------
    demixing : Tensor
        (B, F, M, M); its first N rows are kept.
    covariance : Tensor
        Mixture covariance C, (B, F, M, M).
    n_sources : int
        N.
    """
    n_channels = demixing.shape[-1]
    if n_sources == n_channels:
        return demixing
    rows = demixing[:, :, :n_sources]
    cross = covariance @ rows.mH
    rotation = torch.linalg.qr(cross.detach(), mode="complete").Q.mH  # coordinates: no gradient
    seen = rotation @ cross
    j = torch.linalg.solve(seen[:, :, :n_sources], seen[:, :, n_sources:], left=False)
    eye = torch.eye(n_channels - n_sources, dtype=rows.dtype, device=rows.device)
    background = torch.cat([j, -eye.expand(*j.shape[:2], -1, -1)], dim=-1) @ rotation
    return torch.cat([rows, background], dim=2)


def _inverse(demixing: Tensor) -> Tensor:
    """Q⁻¹ with frequencies last, (M, M, B, F), which makes operations on all of them fastest."""
    inverse: Tensor = torch.linalg.inv(demixing)
    return inverse.permute(2, 3, 0, 1).contiguous()


def _projection(whitening: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """New row of Q, (M, B, F), and 1 / (its product with the column of Q⁻¹), (B, F).

    ``whitening`` is L⁻¹ (M, M, B, F), which whitens the covariance of the row.
    """
    white = (whitening * column).sum(1)
    scale = abs2(white).sum(0).rsqrt()
    return (whitening * (white * scale).conj()[:, None]).sum(0), scale


def _with_row(mixing: Tensor, m: int, row: Tensor, scale: Tensor) -> Tensor:
    """Q⁻¹ (M, M, B, F) after row m of Q has been replaced (Sherman & Morrison 1950).

    ``scale`` is 1 / (the product of the new row with the old column m).
    """
    product = (row[:, None] * mixing).sum(0) * scale
    product[m] -= scale
    return mixing.addcmul(mixing[:, m, None], product, value=-1)


def _pair_of_rows(demixing: Tensor, covariance: Tensor, pair: list[int]) -> Tensor:
    """New rows for a pair: generalised eigenvectors of the two projected covariances.

    The two can be assigned in two ways; this one gives the larger ``|det Q|``. Computed in double
    precision, as the projections lose half of the digits where the rows see nearly the same.
    """
    dtype, demixing = demixing.dtype, demixing.to(torch.complex128)
    units = _unit_columns(demixing, pair)
    first, second = covariance[:, :, pair].to(torch.complex128).unbind(2)
    p_first = torch.linalg.solve(demixing @ first, units)
    p_second = torch.linalg.solve(demixing @ second, units)
    u_first = hermitise(p_first.mH @ first @ p_first)
    u_second = hermitise(p_second.mH @ second @ p_second)
    _, vectors = generalised_eigh(u_second, u_first)
    rows = []
    for basis, projected, vector in (
        (p_first, u_first, vectors[..., :1]),
        (p_second, u_second, vectors[..., 1:]),
    ):
        scaled = vector * _quadratic_form(vector, projected, rounding_load(projected)).rsqrt()
        rows.append((basis @ scaled).mH)
    return torch.cat(rows, dim=2).to(dtype)


def _unit_columns(demixing: Tensor, columns: list[int]) -> Tensor:
    eye = torch.eye(demixing.shape[-1], dtype=demixing.dtype, device=demixing.device)
    return eye[:, columns].expand(*demixing.shape[:2], -1, -1)


def _quadratic_form(vector: Tensor, matrix: Tensor, load: Tensor) -> Tensor:
    """``vᴴ A v`` of column vectors (..., M, 1) as real (..., 1, 1), A regularised by ``load``.

    It is bounded below by what the load alone gives, as rounding can turn a tiny value negative.
    """
    adjoint = vector.mH
    bound = load[..., None, None] * (adjoint @ vector).real
    return torch.maximum((adjoint @ (matrix @ vector)).real, bound)


def _replace_rows(matrix: Tensor, rows: list[int], values: Tensor) -> Tensor:
    out = list(matrix.unbind(2))
    for position, row in enumerate(rows):
        out[row] = values[:, :, position]
    return torch.stack(out, dim=2)


DEMIXING_UPDATES: dict[str, DemixingUpdate] = {"ip": ip, "ip2": ip2, "iss": iss}
