"""Sources described by decoded latent vectors: ``λ_nft = e_nf g_f(z_nt)`` with levels e."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam

from fca.errors import InputError
from fca.memo import Latest
from fca.prior.latents import Posterior
from fca.source.base import Evaluate, SourceModel, floored
from fca.source.departure import departed, departure_penalty
from fca.spatial.base import Statistics


class Decoder(Protocol):
    """Turns latent vectors into power spectral densities."""

    def decode(self, z: Tensor) -> Tensor:
        """PSD (..., F, T) of latent vectors ``z`` (..., D, T)."""


class Latent(SourceModel):
    """Latent vectors z, one per source and frame, and what all ways to infer them have in common.

    A subclass sets the posterior by :meth:`_infer`, and the levels.

    Parameters
    ----------
    decoder : Decoder
        The decoder g.
    gaussian : bool
        Whether the prior of z is standard Gaussian; only then can gradients move it.
    n_steps, rate : int, float
        Gradient steps per update and their size (Adam).
    stochastic : bool
        Draw z from its posterior instead of taking the mean, as the evidence lower bound requires
        while networks are trained; from torch's global generator.
    strength : float
        ν, how strongly bins are held to the decoded PSD when :meth:`_relax` lets them depart from
        it; see :mod:`fca.source.departure`.

    Raises
    ------
    InputError
        For a rate that is not positive.
    """

    _z: Tensor
    _level: Tensor
    _posterior: Posterior
    _moments: list[Tensor]

    def __init__(
        self,
        decoder: Decoder,
        gaussian: bool,
        n_steps: int,
        rate: float,
        stochastic: bool,
        strength: float = 1.0,
    ) -> None:
        if not 0 < rate < math.inf:
            raise InputError(f"rate must be positive and finite, got {rate}")
        self._gaussian = gaussian
        self.n_steps, self.rate, self.stochastic = n_steps, rate, stochastic
        self.strength = strength
        self._tied = Latest(_at_level)
        self._relaxed: Tensor | None = None
        self._use(decoder)

    @property
    def refinable(self) -> bool:
        return self._gaussian

    def psd(self) -> Tensor:
        return self._decoded_psd() if self._relaxed is None else self._relaxed

    def penalty(self) -> Tensor | float:
        """Negative log-prior: ``½ ‖z‖²`` of Gaussian latents, plus ``ν d_IS`` of bins that depart.

        Latents of other families are never moved, so that they need no penalty.
        """
        latent = energy(self._z).sum((1, 2)) if self._gaussian else 0.0
        if self._relaxed is None:
            return latent
        return latent + departure_penalty(self._decoded_psd(), self.strength, self._relaxed)

    def divergence(self) -> Tensor | float:
        return self._posterior.kl().sum((1, 2))

    def absorb(self, factor: Tensor) -> Tensor:
        self._level = self._level * factor[..., None]
        if self._relaxed is not None:
            self._relaxed = floored(self._relaxed * factor[..., None])
        return factor

    def refine(self, evaluate: Evaluate) -> None:
        """One step of Adam on the cost in z; the moments of Adam are kept from step to step.

        Every z is a leaf of the graph, so that it is decoded only once for its PSD and its
        gradient.
        """
        if not (self._z.is_leaf and self._z.requires_grad):
            self._z = self._z.detach().requires_grad_()
        statistics = evaluate(self.psd())
        with torch.enable_grad():
            bound = self._bound(self._decoded(self._z), self._z, statistics).sum()
        (gradient,) = torch.autograd.grad(bound, self._z)
        z, *self._moments = _adam_step(self.rate, gradient, self._z.detach(), *self._moments)
        self._z = z.requires_grad_()

    def _use(self, decoder: Decoder) -> None:
        """Use this decoder from now on."""
        self._decoder = decoder
        # Refers to the decoder, not to this model: a cycle would keep it until garbage collection.
        self._decoded = Latest(partial(_decode, decoder))

    def _infer(self, posterior: Posterior) -> None:
        """Take z from posteriors of all sources, (B, N, T, D), and forget steps and departures."""
        self._posterior = posterior
        self._z = (posterior.sample() if self.stochastic else posterior.mean).mT
        self._relaxed = None
        self._moments = [torch.zeros_like(self._z), torch.zeros_like(self._z)]
        self._moments.append(self._z.new_zeros(len(self._z)))

    def _relax(self, statistics: Statistics) -> None:
        """Let every bin depart from its decoded PSD, by EM."""
        self._relaxed = departed(self._decoded_psd(), self.strength, statistics)

    def _decoded_psd(self) -> Tensor:
        """``e_nf g_f(z_nt)``, (B, F, N, T)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() or self._z.requires_grad):
            decoded = self._decoded(self._z)
        return self._tied(decoded, self._level)

    def _descend(self, statistics: Statistics) -> None:
        """Steps of Adam on the majoriser; a source for which it did not fall keeps its z."""
        before = self._z.detach()
        optimizer = self._adam(before)
        (z,) = optimizer.param_groups[0]["params"]
        for _ in range(self.n_steps):
            with torch.enable_grad():
                bound = self._majoriser(z, statistics).sum()
            (z.grad,) = torch.autograd.grad(bound, z)
            optimizer.step()
        with torch.no_grad():
            fell = self._majoriser(z, statistics) < self._majoriser(before, statistics)
        self._z = torch.where(fell[:, :, None, None], z.detach(), before)

    def _adam(self, z: Tensor) -> torch.optim.Adam:
        return torch.optim.Adam([z.detach().clone().requires_grad_()], lr=self.rate)

    def _majoriser(self, z: Tensor, statistics: Statistics) -> Tensor:
        """``Σ_ft (λ₀² a / λ + b λ) + ½ ‖z‖²`` of each source, (B, N), with a and b the statistics.

        Up to a constant, it touches the cost at the PSDs λ₀ of the statistics and lies above it
        elsewhere: the quadratic form is convex in 1/λ and the log-determinant concave in λ (Févotte
        & Idier 2011; Sawada et al. 2013, eq. 28).
        """
        return self._bound(_decode(self._decoder, z), z, statistics)

    def _bound(self, decoded: Tensor, z: Tensor, statistics: Statistics) -> Tensor:
        """The majoriser at z, given ``decoded``, the PSD g(z)."""
        psd = _at_level(decoded, self._level)
        convex = statistics.quadratic.detach() * statistics.psd.detach().square() / psd
        return (convex + statistics.trace.detach() * psd).sum((1, 3)) + energy(z).sum(2)


def _adam_step(rate: float, gradient: Tensor, *state: Tensor) -> list[Tensor]:
    """One step of Adam, separately for each recording.

    ``state`` is z (B, ...), the first and second moments, and the number of steps (B,); the new
    state is returned, in the same order.
    """
    after = [values.clone() for values in state]
    z, first, second, steps = (list(values) for values in after)
    adam(
        z,
        list(gradient),
        first,
        second,
        [],
        steps,
        foreach=False,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=rate,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
    return after


def _decode(decoder: Decoder, z: Tensor) -> Tensor:
    """g(z) as (B, F, N, T), contiguous in this order like everything that it meets."""
    return decoder.decode(z).transpose(1, 2).contiguous()


def _at_level(decoded: Tensor, level: Tensor) -> Tensor:
    return floored(level * decoded)


def energy(z: Tensor) -> Tensor:
    """−log of the standard Gaussian density of z (B, N, D, T) without constants, (B, N, T)."""
    return 0.5 * z.square().sum(2)
