"""Interface of source models to the rest of the toolkit."""

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

    A new model defines :meth:`initialise`, :meth:`psd` and :meth:`update`. It then works with every
    spatial model, because all of them summarise the mixture by
    :class:`~fca.spatial.base.Statistics`.

    In all tensors that a model holds, the first axis is the recordings of the batch, so that each
    recording can keep the better of two fits. Updates replace tensors instead of writing to them:
    copies and gradients rely on that.
    """

    at_microphone: bool = False
    """Whether PSDs must be powers at a microphone. The spatial covariances are then normalised
    before every update; otherwise the scale may be shared between them and the PSDs in any way."""
    judges: ClassVar[bool] = False
    """Whether :meth:`surprise` tells the sources from other sounds."""

    @property
    def refinable(self) -> bool:
        """Whether :meth:`refine` does something other than :meth:`update`."""
        return False

    def start(self, mixture: Tensor, n_sources: int) -> Start:
        """Start of all parameters, from models whose network sees the mixture (B, F, M, T) itself.

        Raises
        ------
        InputError
            From all other models.
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
        """One step of refinement, which may overshoot and raise the cost.

        It is an :meth:`update` unless the model says by :attr:`refinable` that it is something
        else.
        """
        self.update(evaluate)

    def surprise(self, power: Tensor) -> Tensor:
        """How little the powers (B, F, K, T) resemble sources, in nats per bin, (B, K).

        Zero from models without prior knowledge of sources.
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
