"""Groups of outputs of a rank-1 model that make one source each, and how good a start they are.

A talker who moves has no single direction. Such a talker comes out of several outputs, none of
which is a start for the whole of them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

from fca.inference.outputs import FREQUENCIES, MARGIN, choice_cost, in_front, seen, take_rows
from fca.inference.start import LEAKAGE, Start, taken
from fca.source import SourceModel
from fca.spatial import Rank1
from fca.spatial.base import FLOOR, log_abs_det

MOST_SOURCES = 3
"""Most sources for which groupings are tried: with more, there are too many to be worth the
time."""
NEAR = 0.6
"""A grouping is a candidate if its cost exceeds the least one by less than this share of the excess
of single outputs."""
COST_WEIGHT = 0.4
"""Weight of a grouping's cost relative to the source model's surprise at its groups."""


def grouped(
    spatial: Rank1,
    order: Tensor,
    psd: Tensor,
    n_sources: int,
    source: SourceModel,
    doubted: bool = True,
    accompanied: bool = False,
    whole: Rank1 | None = None,
) -> Start:
    """Start from the first outputs in an order, or from groups of outputs.

    Groups are considered only if some grouping explains all outputs better than single outputs do,
    by more than :data:`~fca.inference.outputs.MARGIN`. The likelihood alone would rather put two
    talkers together; hence, among the likely groupings, the source model says which groups are
    sources (:meth:`~fca.source.SourceModel.surprise`). Its surprise, with the weighted cost, is
    also the doubt of the start.

    Parameters
    ----------
    spatial : Rank1
        With as many outputs as sources are wanted, or more.
    order : Tensor
        Order of the rows of Q, (B, M); the sources come first if each is a single output.
    psd : Tensor
        λ of the outputs, (B, F, K, T).
    n_sources : int
        Sources wanted, at most K.
    source : SourceModel
        The model that inferred ``psd``. If it does not judge what is a source, there are neither
        groups nor a doubt.
    doubted : bool
        Whether the doubt is wanted even where there is only one candidate, as computing it takes
        time.
    accompanied : bool
        Whether the last of the sources is an interferer, which then keeps its output and its place.
    whole : Rank1, optional
        The same model on all frames, if ``spatial`` is on some of them; the start has all.
    """
    whole = whole or spatial
    if not source.judges:
        return taken(whole, order, n_sources)
    n_outputs = spatial.n_sources
    alone = taken(whole, order, n_outputs).at_microphones()
    groupings = _groupings(n_outputs, n_sources).to(alone.power)
    if accompanied:
        groupings = groupings[groupings[:, -1, n_sources - 1] == 1]
    scaled = seen(psd) * seen(spatial.scale()[..., None])
    own = take_rows(scaled, order[:, :n_outputs])
    each = zip(alone.demixing, spatial.mixture, own, strict=True)
    likely = [_likely(_costs(q, x, psd, groupings)) for q, x, psd in each]
    if doubted or any(len(near) > 1 for near, _ in likely):
        parts = zip(likely, alone.power, strict=True)
        judged = [_judged(groupings, *choice, power, source) for choice, power in parts]
        chosen, doubt = (torch.stack(values) for values in zip(*judged, strict=True))
    else:
        chosen, doubt = torch.cat([near for near, _ in likely]), None
    start = _start(alone, groupings[chosen]) if chosen.any() else taken(whole, order, n_sources)
    return replace(start, doubt=doubt)


def _groupings(n_outputs: int, n_sources: int) -> Tensor:
    """All ways to give every source outputs of its own, as zeros and ones, (C, N, K).

    The first one gives source n the n-th output alone.
    """
    nobody = n_sources
    alone = tuple(min(output, nobody) for output in range(n_outputs))
    owners = [alone]
    if n_sources <= MOST_SOURCES:
        every = product(range(n_sources + 1), repeat=n_outputs)
        owners += [each for each in every if each != alone and _in_order(each, n_sources)]
    return one_hot(torch.tensor(owners), n_sources + 1)[..., :n_sources].mT


def _in_order(owners: tuple[int, ...], n_sources: int) -> bool:
    """Whether every source owns an output, and sources are numbered by their first output.

    Groupings that differ only in the order of the sources are thus tried once.
    """
    found = dict.fromkeys(owner for owner in owners if owner < n_sources)
    return list(found) == list(range(n_sources))


def _costs(demixing: Tensor, mixture: Tensor, psd: Tensor, groupings: Tensor) -> Tensor:
    """Cost (C,) of every grouping of the outputs Q x of one recording.

    On the bins that :func:`~fca.inference.outputs.seen` picks; their PSDs λ are (F, K, T).
    """
    demixing = demixing[::FREQUENCIES]
    outputs = demixing @ seen(mixture)
    cost = choice_cost(outputs.expand(len(groupings), -1, -1, -1), groupings[:, None] @ psd)
    return cost - 2 * log_abs_det(demixing).mean()


def _likely(costs: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of a recording's candidate groupings, from all costs (C,), and their costs."""
    gain = costs[0] - costs.min()
    near = (costs < costs.min() + NEAR * gain).nonzero()[:, 0]
    if not gain > MARGIN:
        near = near.new_zeros(1)
    return near, costs[near]


def _judged(
    groupings: Tensor, near: Tensor, costs: Tensor, power: Tensor, source: SourceModel
) -> tuple[Tensor, Tensor]:
    """Index and doubt of the grouping that a recording takes; from output powers (F, K, T)."""
    groups, index = torch.unique(groupings[near].flatten(0, 1), dim=0, return_inverse=True)
    surprise = source.surprise((groups @ power)[None])[0]
    doubt = surprise[index].view(len(near), -1).sum(1) + COST_WEIGHT * costs
    best = doubt.argmin()
    return near[best], doubt[best]


def _start(alone: Start, members: Tensor) -> Start:
    """Start of sources that own the outputs ``members`` (B, N, K).

    The gains are each output's share in the energy of its source; the first output of every source
    is put in front.
    """
    n_sources, n_rows = members.shape[1], alone.demixing.shape[2]
    rows = in_front(members.argmax(-1), n_rows)
    energy = members * alone.power.mean((1, 3))[:, None]
    whole = energy.sum(-1, keepdim=True).clamp_min(FLOOR)
    share = energy / whole * members.sum(-1, keepdim=True)
    gains = pad(share, (0, n_rows - share.shape[2])).clamp_min(LEAKAGE)[:, None]
    gains = gains.gather(3, rows[:, None, None].expand(-1, 1, n_sources, -1))
    single = (members.sum(-1) == 1).all(-1)[:, None, None, None]
    usual = replace(alone, power=alone.power[:, :, :n_sources]).gains(shared=True)
    power = members[:, None] @ alone.power
    return Start(take_rows(alone.demixing, rows), power, torch.where(single, usual, gains))
