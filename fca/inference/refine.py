"""Refinement of a fitted model on its own recording; the cost never rises."""

from __future__ import annotations

import torch

from fca.errors import InputError
from fca.inference.best import Best
from fca.model import Fittable, Model


class Refinement(Best):
    """A model that is refined step by step, and the best state that was met.

    In each step the source model refines its PSDs in its own way
    (:meth:`~fca.source.SourceModel.refine`): speech models take a step of Adam on the latent
    vectors z (Bando et al. 2021) or let every bin depart from its decoded PSD by EM, and stationary
    noise lets bins depart from its level by EM. The spatial parameters are then updated once.

    Gradient steps may overshoot; every recording therefore keeps the parameters with which its cost
    was lowest. For Gaussian latent vectors that cost is the negative joint log-density of mixture
    and z.

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
        super().__init__(model, Model.refine)

    @torch.no_grad()
    def step(self) -> None:
        super().step()


def check_refinable(model: Fittable) -> None:
    """Raise :class:`InputError` unless the source model has a refinement of its own."""
    if not (isinstance(model, Model) and model.source.refinable):
        raise nothing_to_refine("it")


def nothing_to_refine(what: str) -> InputError:
    """The exception for a model, or a method, without a refinement."""
    return InputError(f"nothing to refine: {what} has no Gaussian latent vectors and no other step")
