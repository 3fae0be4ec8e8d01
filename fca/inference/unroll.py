"""The evidence lower bound of a model after some iterations, differentiable through them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from fca.memo import computed_anew
from fca.model import Model
from fca.prior import Elbo


def unroll(model: Model, n_iter: int, *, tracked: int | None = None, lean: bool = False) -> Model:
    """Model after ``n_iter`` iterations; gradients flow back through them.

    Parameters
    ----------
    model : Model
        The model to begin with, which stays as it is.
    n_iter : int
        Number of iterations.
    tracked : int, optional
        Number of iterations, counted from the last, that gradients pass; all of them unless given.
    lean : bool
        Keep only the states between iterations, and compute each iteration again in the backward
        pass (Chen et al. 2016, "Training deep nets with sublinear memory cost"): the same
        gradients, with less memory, for a third more computation.
    """
    model = model.copy()
    free = n_iter - min(n_iter, n_iter if tracked is None else tracked)
    with torch.no_grad():
        for _ in range(free):
            model.step()
    for _ in range(n_iter - free):
        if lean:  # with a tensor, which tells the device whose random numbers are to be the same
            model = checkpoint(_stepped, model, model.spatial.mixture, use_reentrant=False)
        else:
            model.step()
    return model


def rounds(model: Model, n_iter: int) -> Iterator[Model]:
    """Model after each of ``n_iter`` iterations, for training networks that infer in rounds.

    Gradients reach the networks only through the PSDs that the latest round has inferred. Before
    every iteration but the first, the tensors of the spatial and the source model are detached
    (:func:`_constant`), and the spatial parameters are always updated with detached PSDs. They are
    near their optimum given the PSDs, where the bound has no derivative in them, so that its
    gradient is right without the cost of passing through their updates.
    """
    for iteration in range(n_iter):
        model = _constant(model) if iteration else model.copy()
        model.step(through_space=False)
        yield model


def elbo(model: Model) -> Elbo:
    """Evidence lower bound of the mixtures, ``E_q[log p(X | Z)] − KL(q(Z | X) ‖ p(Z))``.

    The expectation is taken at the model's latent vectors: one draw if these are stochastic.
    Parameters without a prior, spatial ones among them, are taken at their estimates.
    """
    psd = model.source.psd()
    nll = model.spatial.nll(psd)
    kl = torch.as_tensor(model.source.divergence(), dtype=nll.dtype, device=nll.device)
    return Elbo(nll, kl.expand_as(nll) / psd.shape[3], psd.shape[1])


def _constant(model: Model) -> Model:
    """Copy of a model in which the tensors of its spatial and source model are detached.

    Only tensors that are attributes of these two themselves are detached; the weights of networks
    that a source model holds still receive gradients.
    """
    model = model.copy()
    for part in (model.spatial, model.source):
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                setattr(part, name, value.detach())
    return model


def _stepped(model: Model, _: Tensor) -> Model:
    model = model.copy()
    with computed_anew():
        model.step()
    return model
