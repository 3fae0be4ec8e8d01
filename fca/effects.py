"""Which choices of a method have an effect."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from fca.arguments import parameters
from fca.errors import InputError

if TYPE_CHECKING:
    from fca.method import Method

_OF_MODELS = ("source", "start", "dof", "spatial_steps")
"""Choices that mask clustering does not have."""


def check_effect(row: Method, given: Collection[str], judges: bool) -> None:
    """Raise :class:`InputError` for choices that were given but have no effect in this method."""
    idle = row.mixing.idle(given)
    if idle:
        raise InputError(f"{row.name}: {idle[0]} does nothing without {idle[1]}")
    needs = needs_of(row, judges)
    for name in given:
        met, need = needs.get(name, (True, ""))
        if not met:
            raise InputError(f"{row.name}: {name} does nothing without {need}")


def needs_of(row: Method, judges: bool) -> dict[str, tuple[bool, str]]:
    """For choices that need something to have an effect: whether it is there, and what."""
    models, known = row.spatial != "cACGMM", parameters(row.source)
    diagonal = "jointly diagonal" in row.spatial
    by_sources = models and row.start == "rank-1"
    steps = not str(_argument(row, "inference")).startswith("encode")
    descends = _argument(row, "refinement") == "gradient"
    finds = by_sources and (judges or not row.interferers)
    return {
        **dict.fromkeys([*_OF_MODELS, *known], (models, "a model of each source")),
        "gain_update": (diagonal, "jointly diagonal covariances"),
        "spare": (diagonal and row.mixing.plain, "jointly diagonal covariances of a dry mixture"),
        "fast_start": (by_sources, "start=rank-1"),
        "interferers": (finds, "start=rank-1 of a source model that knows talkers"),
        "walkers": (by_sources, "start=rank-1"),
        "n_steps": (steps, "inference=gradient or sample"),
        "rate": (steps or descends, "inference=gradient or sample, or refinement=gradient"),
        "strength": (not descends, "refinement=em"),
    }


def _argument(row: Method, name: str) -> Any:
    """Value of an argument of a method's source model; None if it has no such argument."""
    known = parameters(row.source)
    return row.options.get(name, known[name].default) if name in known else None
