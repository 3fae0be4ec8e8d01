"""Choice between several fits: which of them each recording of a batch keeps."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from fca.model import Fittable, Model
from fca.state import choose

CLEAR = 0.05
"""Difference in doubt (nats per bin) above which the more doubtful start is dropped, whatever its
cost after a fit would be."""


def likelier(first: Fittable, second: Fittable) -> Fittable:
    """Of two models of one kind, the one of lower cost, chosen for each recording separately.

    The result is one model that holds, for each recording, the state of the better of the two.
    """
    return choose(second.cost() < first.cost(), second, first)


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
    return choose(second.doubt < first.doubt, second, first)
