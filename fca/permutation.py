"""Frequency permutations: give each source the same index at every frequency."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

N_BLOCKS = 128
"""Blocks of frequencies whose activities are looked at together ..."""
REACH = 12.0
"""... and over how many of them two are compared (standard deviation)."""
LEAST_GAIN = 1e-4
"""Agreement that an exchange has to win; less is rounding."""
MOST_SWEEPS = 10
"""Reassignments of the sources of all frequencies, unless nothing changes before."""
MOST_EXCHANGES = 50
"""After these a recording is left as it is."""
MOST_AT_ONCE = 8
"""Sources of which all assignments are compared at once; time and memory double with each more."""
AT_ONCE = 8
"""How many frequencies have to be aligned for each that is aligned to them at once."""


def align(power: Tensor) -> Tensor:
    """Order of the sources at each frequency that makes their activities agree.

    Correlates dominance ratios ``power_n / Σ power`` with the centroid of each source over all
    frequencies and reassigns until nothing changes (Sawada et al. 2011, sec. IV).

    Parameters
    ----------
    power : Tensor
        Source powers or masks, (B, F, N, T).

    Returns
    -------
    Tensor
        (B, F, N) source indices: entry n is the input index of aligned source n.
    """
    features = _standardise(power / power.sum(2, keepdim=True).clamp_min(1e-30))
    order = _seed_order(features)
    for _ in range(MOST_SWEEPS):
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
    frequencies together show no contradiction; the neighbours on either side of a seam do, or, if
    a seam is a stretch that is not separated itself, those beyond. Two sources change places over
    the stretch of frequencies where this makes the activities agree most with those nearby, until
    nothing is left to gain.

    Parameters
    ----------
    power : Tensor
        Source powers, (B, F, N, T).

    Returns
    -------
    Tensor
        (B, F, N) source indices as :func:`align` gives them; the middle frequency keeps its order.
    """
    n_freq, n_sources = power.shape[1:3]
    if n_sources == 1:
        return torch.zeros_like(power[..., 0], dtype=torch.long)
    n_blocks = min(N_BLOCKS, n_freq)
    block = torch.arange(n_freq, device=power.device) * n_blocks // n_freq
    features = _dominance(power, block)
    unchanged = torch.arange(n_sources, device=power.device)
    order = unchanged.repeat(len(power), n_blocks, 1)
    nearness = _nearness(n_blocks).to(features)
    for _ in range(MOST_EXCHANGES):
        exchange = _best_exchange(features, nearness)
        if bool((exchange == unchanged).all()):
            break
        features, order = _take(features, exchange), order.gather(2, exchange)
    kept = order[:, n_blocks // 2].argsort(-1)
    return order.gather(2, kept[:, None].expand_as(order))[:, block]


def _dominance(power: Tensor, block: Tensor) -> Tensor:
    """Shares (B, K, N, T) of the sources in blocks, at equal levels, without their mean."""
    level = power / power.mean(-1, keepdim=True).clamp_min(1e-20)
    blocks = torch.split(level, block.bincount().tolist(), dim=1)
    mean = torch.stack([values.mean(1) for values in blocks], dim=1)
    share = mean / mean.sum(2, keepdim=True).clamp_min(1e-20)
    return (share - share.mean(-1, keepdim=True)) / math.sqrt(power.shape[-1])


def _nearness(n_blocks: int) -> Tensor:
    """How much the agreement of two blocks counts, (K, K): less the further apart they are."""
    place = torch.arange(n_blocks) * N_BLOCKS / n_blocks
    distance = (place[:, None] - place) / REACH
    return (-0.5 * distance.square()).exp().fill_diagonal_(0)


def _best_exchange(features: Tensor, nearness: Tensor) -> Tensor:
    """Order (B, K, N) in which the two sources change places over the stretch that gains most."""
    n_blocks, n_sources = features.shape[1:3]
    pairs = torch.triu_indices(n_sources, n_sources, 1, device=features.device)
    difference = features[:, :, pairs[0]] - features[:, :, pairs[1]]
    gain, place = _gains(difference, nearness).flatten(1).max(1)
    pair, begin, end = torch.unravel_index(place, (pairs.shape[1], n_blocks + 1, n_blocks + 1))
    index = torch.arange(n_blocks, device=features.device)
    inside = (index >= begin[:, None]) & (index < end[:, None]) & (gain > LEAST_GAIN)[:, None]
    first, second = pairs[:, pair, None]
    source = torch.arange(n_sources, device=features.device)
    partner = torch.where(source == first, second, torch.where(source == second, first, source))
    return torch.where(inside[..., None], partner[:, None], source)


def _gains(difference: Tensor, nearness: Tensor) -> Tensor:
    """Agreement won over every stretch of blocks [i, j), (B, P, K + 1, K + 1).

    Of ``Σ_kl w_kl Σ_n f_nk · f_nl`` an exchange of two sources changes the terms with one of the
    blocks k, l in the stretch, each by ``−w_kl d_k · d_l`` with their differences d (B, K, P, T).
    Sums over all stretches come from an integral image.
    """
    agreement = nearness * torch.einsum("bkpt,blpt->bpkl", difference, difference)
    image = functional.pad(agreement.cumsum(-1).cumsum(-2), (1, 0, 1, 0))
    rows, corner = image[..., -1], image.diagonal(dim1=-2, dim2=-1)
    inside = corner[..., None, :] + corner[..., :, None] - image - image.mT
    everything = rows[..., None, :] - rows[..., :, None]
    return (inside - everything).triu(1)


def reorder(values: Tensor, order: Tensor) -> Tensor:
    """Apply the order (B, F, N) of :func:`align` to axis 2 of ``values`` (B, F, N, ...)."""
    return _take(values, order)


def best_assignment(similarity: Tensor) -> Tensor:
    """For each matrix (..., candidates i, slots j) the i of every j with the largest total.

    Exact, by dynamic programming over the sets of candidates that the first slots take; of many
    candidates, matrix by matrix.
    """
    if similarity.shape[-1] > MOST_AT_ONCE:
        return _one_by_one(similarity)
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


def _one_by_one(similarity: Tensor) -> Tensor:
    """:func:`best_assignment` by the Hungarian method."""
    matrices = similarity.detach().cpu().flatten(0, -3).mT.numpy()
    order = np.stack([linear_sum_assignment(matrix, maximize=True)[1] for matrix in matrices])
    return torch.from_numpy(order).to(similarity.device).view(similarity.shape[:-1])


@functools.cache
@torch.inference_mode(False)
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
    """Alignments to the mean of what is aligned, outwards from one frequency.

    Several frequencies at once where these are few beside those that the mean is already of.
    """
    n_freq = features.shape[1]
    order = torch.arange(features.shape[2], device=features.device).repeat(*features.shape[:2], 1)
    outwards = _outwards(n_freq, n_freq // 4, features.device)
    total, done = features[:, outwards[0]], 1
    while done < n_freq:
        chunk = outwards[done : done + max(done // AT_ONCE, 1)]
        candidates = features[:, chunk]
        similarity = torch.einsum("bfit,bjt->bfij", candidates, total / done)
        order[:, chunk] = best_assignment(similarity)
        total = total + _take(candidates, order[:, chunk]).sum(1)
        done += len(chunk)
    return order


def _outwards(size: int, centre: int, device: torch.device) -> Tensor:
    """Indices (size,), those near the centre first."""
    return (torch.arange(size, device=device) - centre).abs().argsort(stable=True)


def _standardise(values: Tensor) -> Tensor:
    centred = values - values.mean(-1, keepdim=True)
    result: Tensor = centred / centred.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return result


def _take(values: Tensor, order: Tensor) -> Tensor:
    batch, n_freq, _ = order.shape
    items = torch.arange(batch, device=order.device)[:, None, None]
    frequencies = torch.arange(n_freq, device=order.device)[:, None]
    return values[items, frequencies, order]  # rows at once: gather would go one by one
