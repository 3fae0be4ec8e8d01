"""Outputs of a rank-1 model that are parts of one source, and how good a start they make.

A talker who moves has no direction of his own: he comes out of several outputs, none of which
is a start for all of him.
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
"""Of more sources, there are more groupings than are worth their time."""
NEAR = 0.6
"""Groupings are looked at that are nearer to the likeliest than this, the distance between it and
single outputs being one."""
COST_WEIGHT = 0.4
"""Weight of the cost beside what the source model says of each group."""


def grouped(
    spatial: Rank1,
    order: Tensor,
    psd: Tensor,
    n_sources: int,
    source: SourceModel,
    doubted: bool = True,
) -> Start:
    """Start from the first outputs in an order, or from groups of outputs.

    Groups are taken where any explains all outputs better than single ones do, by more than
    :data:`~fca.inference.outputs.MARGIN`; then the source model says which of the likely ones are
    sources (:meth:`~fca.source.SourceModel.surprise`), as the likelihood alone rather takes two
    talkers together. What it says is the doubt of the start, too.

    Parameters
    ----------
    spatial : Rank1
        With as many outputs as sources are wanted, or more.
    order : Tensor
        Rows of Q, (B, M), those of the sources first if each is one output.
    psd : Tensor
        λ of the outputs, (B, F, K, T).
    n_sources : int
        Sources wanted, at most K.
    source : SourceModel
        Has inferred ``psd``. If it does not judge, there are no groups, and no doubt.
    doubted : bool
        Whether the doubt is wanted where there is nothing to choose from, as it takes time.
    """
    if not source.judges:
        return taken(spatial, order, n_sources)
    n_outputs = spatial.n_sources
    alone = taken(spatial, order, n_outputs).at_microphones()
    groupings = _groupings(n_outputs, n_sources).to(alone.power)
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
    start = _start(alone, groupings[chosen]) if chosen.any() else taken(spatial, order, n_sources)
    return replace(start, doubt=doubt)


def _groupings(n_outputs: int, n_sources: int) -> Tensor:
    """All ways to give every source outputs of its own: zeros and ones, (C, N, K).

    The first outputs alone come first.
    """
    nobody = n_sources
    alone = tuple(min(output, nobody) for output in range(n_outputs))
    owners = [alone]
    if n_sources <= MOST_SOURCES:
        every = product(range(n_sources + 1), repeat=n_outputs)
        owners += [each for each in every if each != alone and _in_order(each, n_sources)]
    return one_hot(torch.tensor(owners), n_sources + 1)[..., :n_sources].mT


def _in_order(owners: tuple[int, ...], n_sources: int) -> bool:
    """Whether all sources own an output, the first output of each after that of the one before."""
    found = dict.fromkeys(owner for owner in owners if owner < n_sources)
    return list(found) == list(range(n_sources))


def _costs(demixing: Tensor, mixture: Tensor, psd: Tensor, groupings: Tensor) -> Tensor:
    """Cost (C,) of all groupings of the outputs Q x of one recording.

    From what is :func:`~fca.inference.outputs.seen` of their PSDs λ (F, K, T).
    """
    demixing = demixing[::FREQUENCIES]
    outputs = demixing @ seen(mixture)
    cost = choice_cost(outputs.expand(len(groupings), -1, -1, -1), groupings[:, None] @ psd)
    return cost - 2 * log_abs_det(demixing).mean()


def _likely(costs: Tensor) -> tuple[Tensor, Tensor]:
    """The groupings that a recording may take, by their costs (C,), and the costs of these."""
    gain = costs[0] - costs.min()
    near = (costs < costs.min() + NEAR * gain).nonzero()[:, 0]
    if not gain > MARGIN:
        near = near.new_zeros(1)
    return near, costs[near]


def _judged(
    groupings: Tensor, near: Tensor, costs: Tensor, power: Tensor, source: SourceModel
) -> tuple[Tensor, Tensor]:
    """Which of the likely groupings a recording takes, and its doubt; from powers (F, K, T)."""
    groups, index = torch.unique(groupings[near].flatten(0, 1), dim=0, return_inverse=True)
    surprise = source.surprise((groups @ power)[None])[0]
    doubt = surprise[index].view(len(near), -1).sum(1) + COST_WEIGHT * costs
    best = doubt.argmin()
    return near[best], doubt[best]


def _start(alone: Start, members: Tensor) -> Start:
    """Start of sources with outputs (B, N, K) of their own, each gain an output's share in them.

    The first output of every source is in front.
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
