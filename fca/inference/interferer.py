"""Interferers: a sound from one place, such as a machine, that is none of the talkers asked for.

A model without a source for it leaves it in the talkers. Among the spare outputs of a rank-1 model,
it is the one that is unlike every source; the others hold noise and reverberation of the talkers,
and rise and fall with them.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from fca.inference.outputs import choice_costs, compared, likeness, seen
from fca.source import SourceModel
from fca.spatial import Rank1
from fca.spatial.base import FLOOR

UNLIKE = 0.25
"""Likeness (:func:`~fca.inference.outputs.likeness`) below which two outputs are different
sounds."""
CROWDED = 0.4
"""Likeness below which they may be, when they are not yet well separated."""
AUDIBLE_DB = -12.0
"""Outputs that are further than this below the loudest one are too faint to be compared."""
SPOKEN = -0.4
"""Least excess over a single spectrum (:func:`above_one_spectrum`) of an interferer, in nats per
bin; talkers have less."""
APART = 0.1
"""Least difference, in nats per bin, between the excess of an interferer and that of any talker."""
N_ITER = 5
"""Iterations that fit a single spectrum."""


def with_interferer(
    spatial: Rank1,
    order: Tensor,
    psd: Tensor,
    n_sources: int,
    source: SourceModel,
    whole: Rank1 | None = None,
) -> tuple[Tensor, Tensor]:
    """Order of the outputs with an interferer right after the sources, and where there is one.

    An interferer is found where N + 1 outputs, one more than the sources wanted, are all unlike
    each other, and one of them is no talker according to the source model. Of several such choices
    of outputs the likeliest is taken, as in :func:`~fca.inference.outputs.by_likelihood`.

    Parameters
    ----------
    spatial : Rank1
        Rank-1 model with at least as many outputs as sources are wanted.
    order : Tensor
        Order of the rows of Q, (B, M), those of the sources first.
    psd : Tensor
        λ of the outputs, (B, F, K, T).
    n_sources : int
        Sources wanted, at most K.
    source : SourceModel
        The model that inferred ``psd``. If it does not judge, no interferer is found.
    whole : Rank1, optional
        The same rank-1 model on all frames, if ``spatial`` is on some of them: the source model
        judges what it knows, successive frames.

    Returns
    -------
    order : Tensor
        (B, M).
    found : Tensor
        Whether there is an interferer, (B,).
    """
    choices = []
    if source.judges and spatial.n_sources > n_sources:
        choices = [_unlike(alike, n_sources + 1, UNLIKE) for alike in likeness(compared(psd))]
    if not any(choices):
        return order, order.new_zeros(len(order), dtype=torch.bool)
    whole = whole or spatial
    power = whole.power[:, :, : whole.n_sources] * whole.scale()[..., None]
    placed = []
    for index, rows in enumerate(order):
        one = slice(index, index + 1)
        audible = _audible(choices[index], power[index].mean((0, 2)))
        present = _likeliest(spatial.of(one), psd[one], audible)
        placed.append(_placed(rows, present, power[one], source))
    found = torch.tensor([rows is not None for rows in placed], device=order.device)
    each = zip(placed, order, strict=True)
    return torch.stack([old if rows is None else rows for rows, old in each]), found


def crowded(psd: Tensor, n_sources: int) -> Tensor:
    """Whether there may be more sounds than the sources wanted, (B,).

    From the λ (B, F, K, T) of outputs that are only just being separated.
    """
    found = [bool(_unlike(alike, n_sources + 1, CROWDED)) for alike in likeness(compared(psd))]
    return torch.tensor(found, device=psd.device)


def _unlike(alike: Tensor, count: int, most: float) -> list[tuple[int, ...]]:
    """All choices of ``count`` outputs whose likeness, from (K, K), is below ``most``."""
    far = (alike < most).tolist()
    return [
        chosen
        for chosen in combinations(range(len(far)), count)
        if all(far[a][b] for a, b in combinations(chosen, 2))
    ]


def _audible(choices: list[tuple[int, ...]], level: Tensor) -> list[tuple[int, ...]]:
    """Choices without a faint output; from the levels (K,)."""
    loud = (level > 10 ** (AUDIBLE_DB / 10) * level.max()).tolist()
    return [chosen for chosen in choices if all(loud[output] for output in chosen)]


def _likeliest(spatial: Rank1, psd: Tensor, choices: list[tuple[int, ...]]) -> list[int]:
    """The choice that explains all outputs of one recording best; empty if there are no choices."""
    if len(choices) < 2:
        return [output for chosen in choices for output in chosen]
    return list(choices[int(choice_costs(spatial, seen(psd), choices).argmin())])


def _placed(rows: Tensor, present: list[int], power: Tensor, source: SourceModel) -> Tensor | None:
    """Rows (M,) with those of ``present`` first, the interferer last among them.

    None if none of them is an interferer. From the powers (1, F, K, T) of all outputs.
    """
    if not present:
        return None
    excess = above_one_spectrum(power[:, :, present], source)[0]
    highest, place = excess.sort(descending=True)
    if highest[0] < SPOKEN or highest[0] - highest[1] < APART:
        return None
    interferer = present[int(place[0])]
    talkers = [row for row in present if row != interferer]
    others = [row for row in rows.tolist() if row not in present]
    return rows.new_tensor([*talkers, interferer, *others])


def above_one_spectrum(power: Tensor, source: SourceModel) -> Tensor:
    """Excess surprise of the source model over a single spectrum, in nats per bin, (B, K).

    How much less likely it finds powers (B, F, K, T) than ``w_f h_t`` does, a spectrum whose level
    changes. Machines and weather swell and fade; what talkers say has many spectra.
    """
    unit = (power / power.mean((1, 3), keepdim=True).clamp_min(FLOOR)).clamp_min(FLOOR)
    level = torch.ones_like(unit[:, :1])
    for _ in range(N_ITER):  # each step has the least Itakura-Saito divergence
        spectrum = (unit / level).mean(-1, keepdim=True)
        level = (unit / spectrum).mean(1, keepdim=True)
    single = 1 + (spectrum * level).log().mean((1, 3))
    return source.surprise(power) - single
