"""What a source model offers to the rest of the toolkit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fca.errors import InputError
from fca.spatial.base import FLOOR, Statistics
from fca.state import State

if TYPE_CHECKING:
    from fca.inference.start import Start

Evaluate = Callable[[Tensor], Statistics]
"""Statistics of the mixture at given PSDs (B, F, N, T), under the current spatial model."""


class SourceModel(State, ABC):
    """Power spectral densities λ of N sources.

    A new model defines :meth:`initialise`, :meth:`psd` and :meth:`update`; it then works with every
    spatial model, because all of them summarise the mixture by :class:`Statistics`.

    Tensors that a model holds have the recordings of the batch first, so that each can keep the
    better of two fits, and updates replace them: copies and gradients rely on that.
    """

    at_microphone: bool = False
    """Whether PSDs must be powers at a microphone: the spatial covariances are then normalised
    before every update, instead of sharing their scale with the PSDs as they like."""
    judges: ClassVar[bool] = False
    """Whether :meth:`surprise` tells sources from other sounds."""

    @property
    def refinable(self) -> bool:
        """Whether :meth:`refine` does more than :meth:`update`."""
        return False

    def start(self, mixture: Tensor, n_sources: int) -> Start:
        """Start of all parameters, from models that see the mixture (B, F, M, T) itself.

        Raises
        ------
        InputError
            From all others.
        """
        raise InputError("start 'network' is for source models with a network that sees mixtures")

    @abstractmethod
    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        """Set the parameters from first estimates of the source powers, (B, F, N, T)."""

    @abstractmethod
    def psd(self) -> Tensor:
        """λ, (B, F, N, T), at least :data:`~fca.spatial.base.FLOOR`."""

    @abstractmethod
    def update(self, evaluate: Evaluate) -> None:
        """One pass over all parameters.

        ``evaluate(psd)`` may be called after each block of parameters, so that every block moves on
        up-to-date statistics and the cost never rises.
        """

    def refine(self, evaluate: Evaluate) -> None:
        """One step towards a lower cost that, unlike :meth:`update`, may overshoot."""
        self.update(evaluate)

    def surprise(self, power: Tensor) -> Tensor:
        """How unlike a source each of the powers (B, F, K, T) is, in nats per bin, (B, K).

        Zero from models that know nothing of sources before they see a mixture.
        """
        return power.new_zeros(power.shape[0], power.shape[2])

    def divergence(self) -> Tensor | float:
        """``KL(q(Z | X) ‖ p(Z))`` of latent variables, summed over sources and frames, (B,)."""
        return 0.0

    def penalty(self) -> Tensor | float:
        """Negative log-prior of the PSDs, summed over sources and bins, (B,)."""
        return 0.0

    def absorb(self, factor: Tensor) -> Tensor:
        """Multiply the PSDs by ``factor`` (B, F or 1, N) as far as the model can.

        Returns the part that was absorbed; a model with a fixed scale absorbs nothing.
        """
        return torch.ones_like(factor)


def floored(psd: Tensor) -> Tensor:
    """``psd`` kept away from zero, where multiplicative updates would stall."""
    return psd.clamp_min(FLOOR)
