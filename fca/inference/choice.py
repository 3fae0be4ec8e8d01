"""Choice between several fits: which of them each recording of a batch keeps."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fca.clustering import CACGMM
from fca.inference.start import Start
from fca.model import Fittable, Model
from fca.prior.latents import Posterior
from fca.source.base import SourceModel
from fca.spatial.base import SpatialModel
from fca.spatial.inverse_wishart import InverseWishart
from fca.spatial.observation import Observation

CLEAR = 0.05
"""Difference in doubt (nats per bin) above which the more doubtful start is dropped, whatever its
cost after a fit would be."""


_HOLDERS = (
    Model,
    CACGMM,
    SpatialModel,
    SourceModel,
    Start,
    Observation,
    InverseWishart,
    Posterior,
)
"""Classes, besides collections, whose attributes hold state."""


def likelier(first: Fittable, second: Fittable) -> Fittable:
    """Of two models of one kind, the one of lower cost, chosen for each recording separately.

    The result is one model that holds, for each recording, the state of the better of the two.
    """
    chosen: Fittable = choose(second.cost() < first.cost(), second, first)
    return chosen


def worth_fitting(models: Sequence[Fittable]) -> list[Fittable]:
    """Of models at their starts, those that are worth iterating.

    A model is dropped if, in every recording, its start is more doubtful than the best one by more
    than :data:`CLEAR`. Where that holds in some recordings only, these begin from the least
    doubtful start instead. All models are kept if any of them has no measure of doubt. The models
    must be of one kind.
    """
    judged = [model for model in models if isinstance(model, Model)]
    doubts = [model.doubt for model in judged if model.doubt is not None]
    if len(doubts) < len(models):
        return list(models)
    surest = functools.reduce(_surer, judged)
    least = torch.stack(doubts).amin(0)
    in_doubt = [doubt > least + CLEAR for doubt in doubts]
    return [choose(d, surest, m) for d, m in zip(in_doubt, judged, strict=True) if not d.all()]


def _surer(first: Model, second: Model) -> Model:
    assert first.doubt is not None and second.doubt is not None
    chosen: Model = choose(second.doubt < first.doubt, second, first)
    return chosen


def choose(better: Tensor, new: Any, old: Any) -> Any:
    """``new`` where ``better`` (B,) is true, and ``old`` in the other recordings.

    Only tensors, in models and in what these hold, are chosen recording by recording; everything
    else is taken from ``new``.

    Raises
    ------
    TypeError
        For tensors that differ and do not have the recordings first.
    """
    if new is old or not better.any():
        return old
    if better.all():
        return new
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return _chosen_rows(better, new, old)
    if isinstance(new, list | tuple) and isinstance(old, list | tuple):
        return type(new)([choose(better, a, b) for a, b in zip(new, old, strict=True)])
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return {key: choose(better, value, old[key]) for key, value in new.items()}
    if isinstance(new, _HOLDERS):
        chosen = copy.copy(new)
        for name, value in vars(new).items():
            its = choose(better, value, getattr(old, name, value))
            object.__setattr__(chosen, name, its)  # some are frozen
        return chosen
    return new


def _chosen_rows(better: Tensor, new: Tensor, old: Tensor) -> Tensor:
    if new.shape[:1] == better.shape:
        return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    if torch.equal(new, old):
        return new
    raise TypeError(
        f"a model holds a tensor {tuple(new.shape)} that does not have its {len(better)} "
        f"recordings first: they cannot keep different fits"
    )
