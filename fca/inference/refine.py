"""Refinement of a fitted model on its own recording; the cost never rises."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.model import Fittable, Model
from fca.state import choose


class Refinement:
    """A model that is refined step by step, and the best state that was met.

    In each step the source model refines its PSDs in its own way
    (:meth:`~fca.source.SourceModel.refine`): speech models take a step of Adam on the latent
    vectors z (Bando et al. 2021) or let every bin depart from its decoded PSD by EM, and stationary
    noise lets bins depart from its level by EM. The spatial parameters are then updated once. Their
    gains are no longer shared over frequency: sharing makes a poor start robust, but holds a good
    one back.

    Gradient steps may overshoot; every recording therefore keeps the parameters with which its cost
    was lowest. For Gaussian latent vectors that cost is the negative joint log-density of mixture
    and z. The loop that fits models (:func:`~fca.inference.iterate.iterate`) iterates a refinement,
    too.

    Parameters
    ----------
    model : Model
        The model to begin with, which stays as it is.

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
        """Refine by one step, and keep it in the recordings where the cost is the lowest so far."""
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
    """Raise :class:`InputError` unless the source model has a refinement of its own."""
    if not (isinstance(model, Model) and model.source.refinable):
        raise nothing_to_refine("it")


def nothing_to_refine(what: str) -> InputError:
    """The exception for a model, or a method, without a refinement."""
    return InputError(f"nothing to refine: {what} has no Gaussian latent vectors and no other step")
