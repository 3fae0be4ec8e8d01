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
"""Most blocks of frequencies in :func:`follow`, each with its own mean activities."""
REACH = 12.0
"""Standard deviation, in blocks, of a Gaussian of the distance of two blocks, by which their
agreement is weighted."""
LEAST_GAIN = 1e-4
"""Least agreement that an exchange must gain; less is rounding."""
MOST_SWEEPS = 10
"""Most rounds of reassignment in :func:`align`."""
MOST_EXCHANGES = 50
"""Most exchanges in a recording; after these it is left as it is."""
MOST_AT_ONCE = 8
"""Most sources for which all assignments are compared at once; time and memory double with each
further one."""
AT_ONCE = 4
"""Number of frequencies that must be aligned already for each one that is aligned to them in one
step."""


def align(power: Tensor) -> Tensor:
    """Order of the sources at each frequency that makes their activities agree.

    Dominance ratios ``power_n / Σ power`` are correlated with the centroid of each source over all
    frequencies and reassigned until nothing changes (Sawada et al. 2011, sec. IV).

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
    have the sources in different orders (Liang, Naqvi & Chambers 2012). As it ties all frequencies
    together, all of them taken together show no contradiction. The frequencies on either side of a
    seam do; if the seam is a stretch that is not separated itself, those beyond it do. Two sources
    change places over the stretch of frequencies where that makes the activities agree most with
    those nearby, until nothing more is gained.

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
    """Shares (B, K, N, T) of the sources in blocks, at equal levels, minus their mean in time."""
    level = power / power.mean(-1, keepdim=True).clamp_min(1e-20)
    blocks = torch.split(level, block.bincount().tolist(), dim=1)
    mean = torch.stack([values.mean(1) for values in blocks], dim=1)
    share = mean / mean.sum(2, keepdim=True).clamp_min(1e-20)
    return (share - share.mean(-1, keepdim=True)) / math.sqrt(power.shape[-1])


def _nearness(n_blocks: int) -> Tensor:
    """Weights (K, K) of the agreement of two blocks, which fall with their distance."""
    place = torch.arange(n_blocks) * N_BLOCKS / n_blocks
    distance = (place[:, None] - place) / REACH
    return (-0.5 * distance.square()).exp().fill_diagonal_(0)


def _best_exchange(features: Tensor, nearness: Tensor) -> Tensor:
    """Order (B, K, N) that exchanges the two sources over the stretch where it gains most."""
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
    """Agreement gained by exchanging two sources over each stretch [i, j), (B, P, K + 1, K + 1).

    Of ``Σ_kl w_kl Σ_n f_nk · f_nl``, the exchange changes the terms in which one of the blocks k, l
    is in the stretch, each by ``−w_kl d_k · d_l``, where d (B, K, P, T) are the differences of the
    P pairs of sources. The sums over all stretches come from an integral image.
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
    """For each matrix (..., candidates i, slots j), the i of every j with the largest total.

    Exact: by dynamic programming over the sets of candidates that the first slots take, and for
    more than :data:`MOST_AT_ONCE` candidates by the Hungarian method, matrix by matrix.
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
    """:func:`best_assignment` by the Hungarian method, matrix by matrix."""
    matrices = similarity.detach().cpu().reshape(-1, *similarity.shape[-2:]).mT.numpy()
    order = np.stack([linear_sum_assignment(matrix, maximize=True)[1] for matrix in matrices])
    return torch.from_numpy(order).to(similarity.device).view(similarity.shape[:-1])


@functools.cache
@torch.inference_mode(False)
def _subsets(size: int) -> list[tuple[Tensor, Tensor]]:
    """For each count 1 ... size, all sets of ``count`` out of ``size`` candidates, one per row.

    With each set come the indices, among the sets of the count before, of the sets that remain
    without each of its members.
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
    """First order: frequency by frequency, outwards from one, aligned to the mean of those before.

    Several frequencies at once, where they are few compared with those in the mean.
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
    """Indices (size,), the nearest to the centre first."""
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
