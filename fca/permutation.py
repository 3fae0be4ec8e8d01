"""Frequency permutations: give each source the same index at every frequency."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

WIDTH = 4
"""Frequencies of a block, whose activities are looked at together ..."""
REACH = 4
"""... the blocks before it that it is compared with ..."""
FADING = 0.7
"""... and how much less each counts than the next one."""


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


def follow(power: Tensor) -> Tensor:
    """Order of the sources at each frequency that continues their activities from its neighbours.

    Independent vector analysis can end with stretches of frequencies that are each separated but
    hand on the sources in another order (Liang, Naqvi & Chambers 2012). As it has tied them, all
    frequencies together show no contradiction; the neighbours on either side of a seam do.

    Parameters
    ----------
    power : Tensor
        Source powers, (B, F, N, T).

    Returns
    -------
    Tensor
        (B, F, N) source indices as :func:`align` gives them; the middle frequency keeps its order.
    """
    n_freq = power.shape[1]
    n_blocks = max(1, n_freq // WIDTH)
    block = torch.arange(n_freq, device=power.device) * n_blocks // n_freq
    level = power / power.mean(-1, keepdim=True).clamp_min(1e-20)
    mean = torch.stack([level[:, block == k].mean(1) for k in range(n_blocks)], dim=1)
    dominance = mean / mean.sum(2, keepdim=True).clamp_min(1e-20)
    return _chain(_standardise(dominance))[:, block]


def _chain(features: Tensor) -> Tensor:
    """Order (B, K, N) of the features (B, K, N, T) of blocks, from the middle one outwards."""
    n_blocks = features.shape[1]
    aligned = list(features.unbind(1))
    orders = [torch.arange(features.shape[2], device=features.device).expand(len(features), -1)]
    orders *= n_blocks
    middle = n_blocks // 2
    for outwards in (range(middle, n_blocks), range(middle, -1, -1)):
        for place, k in enumerate(outwards[1:], start=1):
            known = [aligned[j] for j in outwards[max(0, place - REACH) : place]]
            near = torch.stack([FADING**-age * part for age, part in enumerate(known)]).sum(0)
            similarity = torch.einsum("bit,bjt->bij", aligned[k], _standardise(near))
            orders[k] = best_assignment(similarity)
            aligned[k] = aligned[k].gather(1, orders[k][..., None].expand_as(aligned[k]))
    return torch.stack(orders, dim=1)


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
