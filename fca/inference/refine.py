"""Refinement of a fitted model on its own recording, never to its disadvantage."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.model import Fittable, Model
from fca.state import choose


class Refinement:
    """A model whose latent vectors move by Adam, and the best that was met.

    Each step moves z and then updates the spatial parameters (Bando et al. 2021), which are no
    longer shared over frequency: that made a poor start robust, and holds a good one back.
    The cost is the negative evidence lower bound at the latent vectors; as Adam overshoots at
    times, every recording keeps the parameters with which its cost was lowest. The loop that fits
    models iterates it like any of them.

    Parameters
    ----------
    model : Model
        Where it begins; stays as it is.

    Raises
    ------
    InputError
        From :func:`check_refinable`.
    """

    def __init__(self, model: Model) -> None:
        check_refinable(model)
        self._model = model.copy()
        self._model.spatial.untie()
        self.best = model
        self._cost = model.cost()

    def cost(self) -> Tensor:
        """Lowest cost so far, (B,)."""
        return self._cost

    @torch.no_grad()
    def step(self) -> None:
        """Move, and keep what became better."""
        self._model = self._model.copy()
        self._model.refine()
        cost = self._model.cost()
        better = cost < self._cost
        self._cost = torch.where(better, cost, self._cost)
        self.best = choose(better, self._model, self.best)

    def images(self, channels: slice = slice(None)) -> Tensor:
        """Source images of the best, complex (B, F, N, C, T)."""
        return self.best.images(channels)


def check_refinable(model: Fittable) -> None:
    """Raise :class:`InputError` unless the source model of a model has a step of refinement."""
    if not (isinstance(model, Model) and model.source.refinable):
        raise InputError("nothing to refine: it has no Gaussian latent vectors and no other step")
