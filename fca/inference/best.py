"""The best state that a model meets on its way."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fca.model import Model
from fca.state import choose


class Best:
    """A model that is changed step by step, and the best state that was met.

    Every recording keeps the state in which its cost was lowest, so that the cost never rises. The
    loop that fits models (:func:`~fca.inference.iterate.iterate`) iterates this, too. Gains are no
    longer shared over frequency: sharing makes a poor start robust, but holds a good one back.

    Parameters
    ----------
    model : Model
        The model to begin with, which stays as it is.
    change : callable
        Takes a model one step on, in place.

    Attributes
    ----------
    best : Model
        The model in its best state.
    """

    def __init__(self, model: Model, change: Callable[[Model], None]) -> None:
        self._model, self._change = model.copy(), change
        self._model.spatial.untie()
        self.best = model
        self._cost = model.cost()

    def cost(self) -> Tensor:
        """Lowest cost so far, (B,)."""
        return self._cost

    def step(self) -> None:
        """Go one step on, and keep it in the recordings where the cost is the lowest so far."""
        self._model = self._model.copy()
        self._change(self._model)
        cost = self._model.cost()
        better = cost < self._cost
        self._cost = torch.where(better, cost, self._cost)
        self.best = choose(better, self._model, self.best)

    def images(self, channels: slice = slice(None)) -> Tensor:
        """Source images of the best, complex (B, F, N, C, T)."""
        return self.best.images(channels)
