"""Choice of the sources among the outputs of a rank-1 model that has more outputs than sources.

The spare outputs hold noise and parts of talkers. The loudest outputs need not all be talkers:
where a loud talker is split into two of them, a quiet talker is left among the spare ones. The two
parts then explain the mixture less well than another choice does, and their spectra rise and fall
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from fca.linalg import abs2
from fca.spatial import JointlyDiagonal, Rank1
from fca.spatial.base import FLOOR

FREQUENCIES = 16
"""Step between the frequencies on which choices are judged."""
FRAMES = 4
"""Step between the frames on which choices are judged."""
NOISE_DB = -10.0
"""Initial level of the noise beside the sources of a choice, relative to the mixture."""
STEPS = 2
"""Updates of the spatial model before a choice is judged."""
COMPARED = 4
"""Step between the frequencies at which outputs are compared (:func:`likeness`)."""
ALIKE = 3.0
"""Cost, in nats per bin, of a choice with two identical outputs; in proportion to their likeness
otherwise."""
MARGIN = 0.5
"""Nats per bin by which another choice has to be likelier than the loudest outputs to be taken."""


def by_loudness(spatial: Rank1) -> Tensor:
    """Order (B, M) of the rows of Q by the power of the output images at the microphones.

    The background rows, which are no outputs, come last in their own order.
    """
    n_outputs = spatial.n_sources
    energy = spatial.scale() * spatial.power[:, :, :n_outputs].mean(-1)
    order = energy.sum(1).argsort(dim=-1, descending=True)
    background = torch.arange(n_outputs, spatial.power.shape[2], device=order.device)
    return torch.cat([order, background.expand(len(order), -1)], dim=1)


def by_likelihood(spatial: Rank1, psd: Tensor, n_sources: int) -> Tensor:
    """Order (B, M) of the rows of Q with the outputs first that explain all outputs best.

    These are the loudest ones unless another choice is clearly better (:data:`MARGIN`); the rest
    follow as in :func:`by_loudness`. Every choice of ``n_sources`` outputs is tried, on a part of
    the bins, as the sources of a jointly diagonal model with shared gains and stationary noise. Two
    outputs that are alike add to its cost (:data:`ALIKE`).

    Parameters
    ----------
    spatial : Rank1
        Rank-1 model with at least as many outputs as sources are wanted.
    psd : Tensor
        λ of its outputs, (B, F, K, T).
    n_sources : int
        Sources wanted, at most K.
    """
    order, n_outputs = by_loudness(spatial), spatial.n_sources
    if n_outputs == n_sources:
        return order
    choices = list(combinations(range(n_outputs), n_sources))
    costs = choice_costs(spatial, take_rows(seen(psd), order[:, :n_outputs]), choices)
    costs += ALIKE * _most_alike(likeness(take_rows(compared(psd), order[:, :n_outputs])), choices)
    costs[0] -= MARGIN
    best = costs.argmin(0)
    first = in_front(torch.tensor(choices, device=order.device), order.shape[1])
    return order.gather(1, first[best])


def likeness(psd: Tensor) -> Tensor:
    """Correlation over time of the amplitudes √λ of outputs, (B, K, K).

    Over all frequencies together, from the PSDs (B, F, K, T) at the frequencies that
    :func:`compared` picks.
    """
    amplitude = psd.sqrt()
    change = (amplitude - amplitude.mean(-1, keepdim=True)).transpose(1, 2).flatten(2)
    change = change / change.norm(dim=-1, keepdim=True).clamp_min(FLOOR)
    correlation: Tensor = change @ change.mT
    return correlation


def _most_alike(alike: Tensor, choices: Sequence[tuple[int, ...]]) -> Tensor:
    """Likeness (C, B) of the two outputs of each choice that are most alike."""
    others = alike - 2 * torch.eye(alike.shape[-1]).to(alike)  # not with itself
    return torch.stack([others[:, choice][:, :, choice].amax((1, 2)) for choice in choices])


def choice_costs(spatial: Rank1, psd: Tensor, choices: Sequence[tuple[int, ...]]) -> Tensor:
    """Costs (C, B) of choices of outputs; PSDs (B, F, K, T) are those of the bins :func:`seen`."""
    outputs = spatial.demixing[:, ::FREQUENCIES, : psd.shape[2]] @ seen(spatial.mixture)
    each = torch.cat([psd[:, :, list(choice)] for choice in choices])
    cost = choice_cost(outputs.repeat(len(choices), 1, 1, 1), each)
    return cost.view(len(choices), -1)


def choice_cost(outputs: Tensor, psd: Tensor) -> Tensor:
    """Cost (B,) of complex outputs (B, F, K, T) that sources with PSDs λ (B, F, N, T) make up."""
    batch, n_freq, n_outputs, n_frames = outputs.shape
    noise = 10 ** (NOISE_DB / 10) * abs2(outputs).mean((2, 3), keepdim=True)
    psd = torch.cat([psd, noise.expand(-1, -1, 1, n_frames)], dim=2)
    eye = torch.eye(n_outputs, dtype=outputs.dtype, device=outputs.device)
    gains = psd.new_full((batch, 1, psd.shape[2], n_outputs), 1 / psd.shape[2])
    spatial = JointlyDiagonal(outputs, eye.expand(batch, n_freq, -1, -1), gains)
    for _ in range(STEPS):
        spatial.update(psd)
    return spatial.nll(psd)


def seen(values: Tensor) -> Tensor:
    """The bins of values (..., F, K, T) on which choices are judged: a sparse grid."""
    return values[..., ::FREQUENCIES, :, ::FRAMES]


def compared(values: Tensor) -> Tensor:
    """The frequencies of values (B, F, K, T) at which outputs are compared."""
    return values[:, ::COMPARED]


def in_front(first: Tensor, n_rows: int) -> Tensor:
    """Order (B, M) with the rows ``first`` (B, N) in front; the others keep their order."""
    place = torch.arange(first.shape[1], device=first.device).expand_as(first)
    after = first.new_full((len(first), n_rows), n_rows)
    return after.scatter(1, first, place).argsort(dim=1, stable=True)


def take_rows(values: Tensor, order: Tensor) -> Tensor:
    """Rows (axis 2) of (B, F, M, ...) in the order (B, K) of each recording."""
    each = zip(values, order, strict=True)
    return torch.stack([recording.index_select(1, rows) for recording, rows in each])
