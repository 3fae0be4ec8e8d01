"""Frequency permutations: give each source the same index at every frequency."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def align(power: Tensor, n_sweeps: int = 10) -> Tensor:
    """Order of the sources at each frequency that makes their activities agree.

    Correlates dominance ratios ``power_n / Σ power`` with the centroid of each source over all
    frequencies and reassigns until nothing changes (Sawada et al. 2011, sec. IV).

    Parameters
    ----------
    power : Tensor
        Source powers or masks, (B, F, N, T).
    n_sweeps : int
        Most reassignments.

    Returns
    -------
    Tensor
        (B, F, N) source indices: entry n is the input index of aligned source n.
    """
    features = _standardise(power / power.sum(2, keepdim=True).clamp_min(1e-30))
    order = _seed_order(features)
    for _ in range(n_sweeps):
        centroid = _standardise(_take(features, order).mean(1, keepdim=True))
        similarity = torch.einsum("bfit,bjt->bfij", features, centroid[:, 0])
        updated = best_assignment(similarity)
        if torch.equal(updated, order):
            break
        order = updated
    return order


def reorder(values: Tensor, order: Tensor) -> Tensor:
    """Apply the order (B, F, N) of :func:`align` to axis 2 of ``values`` (B, F, N, ...)."""
    return _take(values, order)


def best_assignment(similarity: Tensor) -> Tensor:
    """For each matrix (..., candidates i, slots j) the i of every j with the largest total.

    Tries all N! assignments, which for the few sources of a mixture is faster than a solver.
    """
    size = similarity.shape[-1]
    orders = torch.tensor(list(itertools.permutations(range(size))), device=similarity.device)
    totals = similarity[..., orders, torch.arange(size, device=similarity.device)].sum(-1)
    return orders[totals.argmax(-1)]


def _seed_order(features: Tensor) -> Tensor:
    """Chain of pairwise alignments from the frequency whose sources differ most."""
    n_freq = features.shape[1]
    order = torch.zeros(features.shape[:3], dtype=torch.long, device=features.device)
    order[:] = torch.arange(features.shape[2], device=features.device)
    centroid = features[:, n_freq // 4]
    for count, f in enumerate(_outwards(n_freq, n_freq // 4), start=1):
        similarity = torch.einsum("bit,bjt->bij", features[:, f], centroid)
        order[:, f] = best_assignment(similarity)
        chosen = features[:, f].gather(1, order[:, f, :, None].expand_as(features[:, f]))
        centroid = centroid + (chosen - centroid) / (count + 1)
    return order


def _outwards(size: int, centre: int) -> list[int]:
    return sorted((f for f in range(size) if f != centre), key=lambda f: abs(f - centre))


def _standardise(values: Tensor) -> Tensor:
    centred = values - values.mean(-1, keepdim=True)
    result: Tensor = centred / centred.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return result


def _take(values: Tensor, order: Tensor) -> Tensor:
    batch, n_freq, _ = order.shape
    items = torch.arange(batch, device=order.device)[:, None, None]
    frequencies = torch.arange(n_freq, device=order.device)[:, None]
    return values[items, frequencies, order]  # rows at once: gather would go one by one
