"""Frequency permutations: give each source the same index at every frequency."""

from __future__ import annotations

import functools
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

    Exact, by dynamic programming over the sets of candidates that the first slots take.
    """
    steps = [
        (members.to(similarity.device), without.to(similarity.device))
        for members, without in _subsets(similarity.shape[-1])
    ]
    total = similarity.new_zeros(*similarity.shape[:-2], 1)
    choices = []
    for slot, (members, without) in enumerate(steps):
        total, choice = (total[..., without] + similarity[..., slot][..., members]).max(-1)
        choices.append(choice)
    order, taken = [], torch.zeros_like(total, dtype=torch.long)[..., 0]
    for (members, without), choice in zip(reversed(steps), reversed(choices), strict=True):
        last = choice.gather(-1, taken[..., None])[..., 0]
        order.append(members[taken, last])
        taken = without[taken, last]
    return torch.stack(order[::-1], -1)


@functools.cache
def _subsets(size: int) -> list[tuple[Tensor, Tensor]]:
    """For each count 1 ... size all sets of so many of ``size`` candidates, one per row.

    Beside each the index, among the sets of one less, of what is left without each member.
    """
    steps: list[tuple[Tensor, Tensor]] = []
    smaller: dict[tuple[int, ...], int] = {(): 0}
    for count in range(1, size + 1):
        subsets = list(itertools.combinations(range(size), count))
        without = [[smaller[(*s[:k], *s[k + 1 :])] for k in range(count)] for s in subsets]
        steps.append((torch.tensor(subsets), torch.tensor(without)))
        smaller = {subset: row for row, subset in enumerate(subsets)}
    return steps


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
