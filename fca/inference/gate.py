"""Activities that are inferred from the fitted model and then gate its PSDs.

Neural FCASA (Bando et al. 2024) infers the activities u of ``u_nt λ_nft`` by a network that has
learned from labels. Here they are the posterior of a Markov chain, given how far each source is
above what is left of the others (:mod:`fca.activity`), and no labels are needed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool1d

from fca.activity import MARGIN_SECONDS, Array, activities
from fca.linalg import abs2
from fca.model import Model
from fca.source.gated import Gated, with_background

LEAKAGE_DB = -18.0
"""Level that the others may have in a source, relative to their own, without counting as its
speech."""
DOUBT = 1.5
"""Decibels added to :data:`LEAKAGE_DB` for each decibel by which a source is below the others even
in its best moments: such a source is leakage, as found where more sources are fitted than there are
talkers."""
BEST = 0.9
"""Quantile of a source's level in loud frames, relative to the others, that stands for its best
moments."""
LOUD_DB = 25.0
"""Frames no further than this below the loudest one are loud."""


def gated(model: Model, reference: int, frame_seconds: float) -> Model:
    """The model with its sources gated by their activities; a background is always active.

    In recordings with an interferer no source is gated: how loud a machine is says nothing about a
    talker's pauses.

    Parameters
    ----------
    model : Model
        A fitted model, which stays as it is.
    reference : int
        Microphone whose source images are looked at.
    frame_seconds : float
        Time from one frame to the next.
    """
    n_sources = model.spatial.n_sources
    images = model.images(slice(reference, reference + 1))[:, :, :, 0].detach()
    images = images[:, :, : n_sources - model.n_background]
    residual = model.spatial.mixture[:, :, reference] - images.sum(2)
    power = abs2(torch.cat([images, residual[:, :, None]], dim=2)).sum(1)
    activity = torch.stack([_activity(recording, frame_seconds) for recording in power])
    moving = model.copy()
    gate = with_background(activity, n_sources)
    if model.interfered is not None:
        gate[model.interfered] = 1.0
        gate[~model.interfered, activity.shape[1]] = 0.0
    return replace(moving, source=Gated.around(moving.source, gate))


def _activity(power: Tensor, frame_seconds: float) -> Tensor:
    """Activities (N, T), widened so as not to cut words, of N sources and a residual (N + 1, T)."""
    levels = power.detach().cpu().double().numpy()
    found = activities(levels, frame_seconds, leakage(levels))
    margin = round(MARGIN_SECONDS / frame_seconds)
    activity = torch.from_numpy(found).to(power)
    return max_pool1d(activity, 2 * margin + 1, stride=1, padding=margin)


def leakage(power: Array) -> Array:
    """Leakage that each of K sources may hold of the others (dB), (K, 1).

    From powers (K + 1, T), the residual last.
    """
    sources, total = power[:-1], power.sum(0)
    loud = total > 10 ** (-LOUD_DB / 10) * total.max(initial=0.0)
    if not loud.any():
        return np.full((len(sources), 1), LEAKAGE_DB)
    own = sources[:, loud]
    tiny = np.finfo(float).tiny
    level = 10 * np.log10(np.maximum(own, tiny) / np.maximum(total[loud] - own, tiny))
    best: Array = np.quantile(level, BEST, axis=1, keepdims=True)
    return LEAKAGE_DB - DOUBT * np.minimum(best, 0.0)
