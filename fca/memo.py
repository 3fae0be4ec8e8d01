"""Memoised functions of tensors: values that several steps need are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_ANEW = ContextVar("anew", default=False)


@contextmanager
def computed_anew() -> Iterator[None]:
    """Memoise nothing inside this context.

    Checkpointed computations need it: when they are repeated, they must do exactly what they did
    before.
    """
    token = _ANEW.set(True)
    try:
        yield
    finally:
        _ANEW.reset(token)


def _version(tensor: Tensor) -> int:
    """Number of in-place writes to a tensor; 0 in inference mode, where none are counted."""
    return 0 if tensor.is_inference() else tensor._version


class Latest:
    """A function of tensors that keeps its latest value and returns it for the same arguments.

    The value is computed again when an argument is another tensor object or, where PyTorch counts
    in-place writes, has been written to; equal contents do not count. It is also computed again
    when gradients have been switched on or off, since a value computed without them has no graph.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._state: tuple[int, ...] = ()
        self._arguments: tuple[Tensor, ...] = ()  # kept alive, so that no other gets their id

    def __call__(self, *arguments: Tensor) -> Tensor:
        if _ANEW.get():
            return self._function(*arguments)
        state = (*map(id, arguments), *map(_version, arguments), torch.is_grad_enabled())
        if state != self._state:
            self._value = self._function(*arguments)
            self._state, self._arguments = state, arguments
        return self._value
