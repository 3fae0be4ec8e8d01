"""Values that several steps ask for before what they depend on has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_ANEW = ContextVar("anew", default=False)


@contextmanager
def computed_anew() -> Iterator[None]:
    """Keep nothing in this block: checkpointed work must be the same whenever it is repeated."""
    token = _ANEW.set(True)
    try:
        yield
    finally:
        _ANEW.reset(token)


def _version(tensor: Tensor) -> int:
    """Number of writes into a tensor, which those of inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version


class Latest:
    """A function of tensors that keeps its latest value until one of them is replaced.

    Their identity tells tensors apart, and where PyTorch counts them, so do writes into one. A
    value from without gradients does not stand in for one with them.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._state: tuple[int, ...] = ()
        self._arguments: tuple[Tensor, ...] = ()  # kept, so that none takes over their identity

    def __call__(self, *arguments: Tensor) -> Tensor:
        if _ANEW.get():
            return self._function(*arguments)
        state = (*map(id, arguments), *map(_version, arguments), torch.is_grad_enabled())
        if state != self._state:
            self._value = self._function(*arguments)
            self._state, self._arguments = state, arguments
        return self._value
