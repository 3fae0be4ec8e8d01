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
        Stays as it is.
    n_iter : int
        Number of iterations.
    tracked : int, optional
        How many of the iterations, counted from the last, gradients pass; all unless given.
    lean : bool
        Keep the states between iterations only and compute each iteration again on the way back
        (Chen et al. 2016, "Training deep nets with sublinear memory cost"): the same gradients for
        a third more computation.
    """
    model = model.copy()
    free = n_iter - min(n_iter, n_iter if tracked is None else tracked)
    with torch.no_grad():
        for _ in range(free):
            model.step()
    for _ in range(n_iter - free):
        if lean:
            model = checkpoint(_stepped, model, use_reentrant=False)
        else:
            model.step()
    return model


def rounds(model: Model, n_iter: int) -> Iterator[Model]:
    """Model after each of ``n_iter`` iterations, for amortised inference that is used in rounds.

    Gradients reach the networks through the PSDs that the iteration itself has inferred: what it
    began with and the spatial parameters are constants. The latter are near their optimum given the
    PSDs, where the bound has no derivative in them, so that its gradient is right without the cost
    of passing their updates.
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
    """Copy of a model whose own parameters pass no gradients; those of parts of it do."""
    model = model.copy()
    for part in (model.spatial, model.source):
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                setattr(part, name, value.detach())
    return model


def _stepped(model: Model) -> Model:
    model = model.copy()
    with computed_anew():
        model.step()
    return model
