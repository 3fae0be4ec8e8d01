"""Which outputs of a rank-1 model are the sources that were asked for.

A model with more outputs than sources keeps noise and parts of talkers in the spare ones. The
loudest need not be all talkers: where a loud one comes out twice, a quiet one is among the spare.
The two then explain the mixture less well than others, and their spectra go together.
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
"""Of how many frequencies one is looked at ..."""
FRAMES = 4
"""... and of how many frames."""
NOISE_DB = -10.0
"""Level that noise beside the sources starts with, relative to the mixture."""
STEPS = 2
"""Updates of the spatial model before a choice is judged."""
COMPARED = 4
"""Of how many frequencies one is compared between outputs."""
ALIKE = 3.0
"""What it costs if two sources are the same, in nats per bin."""
MARGIN = 0.5
"""How much likelier than the loudest outputs others have to be to be taken, in nats per bin."""


def by_loudness(spatial: Rank1) -> Tensor:
    """Order (B, M) of the rows of Q by the power of their images at the microphones.

    The background, which is no output, comes last as it is.
    """
    n_outputs = spatial.n_sources
    energy = spatial.scale() * spatial.power[:, :, :n_outputs].mean(-1)
    order = energy.sum(1).argsort(dim=-1, descending=True)
    background = torch.arange(n_outputs, spatial.power.shape[2], device=order.device)
    return torch.cat([order, background.expand(len(order), -1)], dim=1)


def by_likelihood(spatial: Rank1, psd: Tensor, n_sources: int) -> Tensor:
    """The same, but others than the loudest outputs first where these explain all of them better.

    Every choice of ``n_sources`` outputs is tried, on some of the bins, as the sources of a jointly
    diagonal model with shared gains and stationary noise. It is dear if two of them are alike.

    Parameters
    ----------
    spatial : Rank1
        With as many outputs as sources are wanted, or more.
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

    Of all frequencies together, from what is :func:`compared` of their PSDs (B, F, K, T).
    """
    amplitude = psd.sqrt()
    change = (amplitude - amplitude.mean(-1, keepdim=True)).transpose(1, 2).flatten(2)
    change = change / change.norm(dim=-1, keepdim=True).clamp_min(FLOOR)
    correlation: Tensor = change @ change.mT
    return correlation


def _most_alike(alike: Tensor, choices: Sequence[tuple[int, ...]]) -> Tensor:
    """Likeness (C, B) of the two outputs of every choice that are most alike."""
    others = alike - 2 * torch.eye(alike.shape[-1]).to(alike)  # than itself
    return torch.stack([others[:, choice][:, :, choice].amax((1, 2)) for choice in choices])


def choice_costs(spatial: Rank1, psd: Tensor, choices: Sequence[tuple[int, ...]]) -> Tensor:
    """Costs (C, B) of choices of outputs; from what is :func:`seen` of their PSDs (B, F, K, T)."""
    outputs = spatial.demixing[:, ::FREQUENCIES, : psd.shape[2]] @ seen(spatial.mixture)
    each = torch.cat([psd[:, :, list(choice)] for choice in choices])
    cost = choice_cost(outputs.repeat(len(choices), 1, 1, 1), each)
    return cost.view(len(choices), -1)


def choice_cost(outputs: Tensor, psd: Tensor) -> Tensor:
    """Cost (B,) of complex outputs (B, F, K, T) when sources with PSDs λ (B, F, N, T) make them."""
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
    """What is looked at of values (..., F, K, T)."""
    return values[..., ::FREQUENCIES, :, ::FRAMES]


def compared(values: Tensor) -> Tensor:
    """What is compared of values (B, F, K, T)."""
    return values[:, ::COMPARED]


def in_front(first: Tensor, n_rows: int) -> Tensor:
    """Order (B, M) of rows that begins with (B, N) of them; the others stay in theirs."""
    place = torch.arange(first.shape[1], device=first.device).expand_as(first)
    after = first.new_full((len(first), n_rows), n_rows)
    return after.scatter(1, first, place).argsort(dim=1, stable=True)


def take_rows(values: Tensor, order: Tensor) -> Tensor:
    """Rows (axis 2) of (B, F, M, ...) in an order (B, K)."""
    each = zip(values, order, strict=True)
    return torch.stack([recording.index_select(1, rows) for recording, rows in each])
