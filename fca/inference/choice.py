"""Of several models of one kind, which one every recording of a batch keeps."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from fca.model import Fittable, Model
from fca.state import choose

CLEAR = 0.05
"""Difference of doubt, in nats per bin, from which on the cost after a fit has no say."""


def likelier(first: Fittable, second: Fittable) -> Fittable:
    """For every recording the state of the model of lower cost; of two models of one kind."""
    return choose(second.cost() < first.cost(), second, first)


def worth_fitting(models: Sequence[Fittable]) -> list[Fittable]:
    """Models at their starts, of one kind, but for those whose start is clearly in doubt.

    A recording of which only some starts are begins from the surest in their place. Starts that
    nobody has judged are all worth it.
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
