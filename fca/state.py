"""State of a batch of recordings: copies that move on their own, and choices between two fits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fca.memo import Latest

S = TypeVar("S", bound="State")
T = TypeVar("T")


class State:
    """Base of everything that holds tensors of a batch and is updated by replacing them."""

    def copy(self: S) -> S:
        """One in the same state that moves on its own, and so does the state that it holds.

        Tensors are shared, as updates replace them.
        """
        duplicate = object.__new__(type(self))
        vars(duplicate).update({name: _copied(value) for name, value in vars(self).items()})
        return duplicate

    __copy__ = copy

    def unless(self: S, better: Tensor, old: S) -> S:
        """One with the state of ``old`` in recordings that are not ``better``: :func:`choose`."""
        chosen = object.__new__(type(self))
        held = vars(self).items()
        vars(chosen).update({k: choose(better, its, getattr(old, k, its)) for k, its in held})
        return chosen


def _copied(value: Any) -> Any:
    if isinstance(value, State):
        return value.copy()
    if isinstance(value, list | tuple):
        return type(value)([_copied(item) for item in value])
    return value


def choose(better: Tensor, new: T, old: T) -> T:
    """``new`` with the state of ``old`` in those recordings that are not ``better``, (B,).

    State is tensors: those given, and those in collections, dataclasses and each :class:`State`.
    Everything else is that of ``new``.

    Raises
    ------
    TypeError
        For tensors that differ and do not have the recordings first, and for objects of other
        kinds that hold tensors.
    """
    if new is old or not better.any():
        return old
    if better.all():
        return new
    chosen: Any = _mixed(better, new, old)
    result: T = chosen
    return result


def _mixed(better: Tensor, new: Any, old: Any) -> Any:
    """:func:`choose` where some recordings, but not all, are better."""
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        return _chosen_rows(better, new, old)
    if isinstance(new, list | tuple) and isinstance(old, list | tuple):
        return type(new)([choose(better, a, b) for a, b in zip(new, old, strict=True)])
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return {key: choose(better, value, old[key]) for key, value in new.items()}
    if isinstance(new, State):
        return new.unless(better, old)
    if dataclasses.is_dataclass(new) and not isinstance(new, type):
        held = vars(new).items()
        chosen = object.__new__(type(new))
        vars(chosen).update({k: choose(better, its, getattr(old, k, its)) for k, its in held})
        return chosen
    _check_stateless(new)
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


def _check_stateless(value: Any) -> None:
    """Refuse what holds tensors of which nothing says that they belong to recordings."""
    if isinstance(value, nn.Module | Latest):  # weights, and values that are computed again
        return
    held = vars(value) if hasattr(value, "__dict__") else {}
    names = [name for name, its in held.items() if isinstance(its, Tensor)]
    if names:
        raise TypeError(
            f"{type(value).__name__} holds tensors ({', '.join(names)}) and is neither a dataclass "
            f"nor a fca.state.State: recordings cannot keep different fits"
        )
