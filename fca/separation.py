"""What a separation gives: the sources, what they leave, and the model that was fitted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.method import Method
from fca.model import Fittable
from fca.rendering import Renderer


@dataclass(frozen=True)
class Separation:
    """What :func:`separate` returns.

    Attributes
    ----------
    sources : Tensor
        Source images at the reference channel, (N, samples) or (batch, N, samples), as long as the
        mixture and in its scale: the loudest first, or in the order of known activities.
    residual : Tensor
        What the sources leave of the mixture at the reference channel, (..., samples): background,
        surplus sources and the mean. ``sources.sum(-2) + residual`` is the mixture.
    sample_rate : int
        In Hz, that of the mixture.
    method : Method
        The row of the table that was used, options included.
    reference_channel : int
        Microphone whose images the sources are.
    cost : list of (int, float)
        Iteration and cost per time-frequency bin.
    seconds : float
        Time taken.
    model : Fittable
        The fitted model: spatial covariances, PSDs, cost.
    """

    sources: Tensor
    residual: Tensor
    sample_rate: int
    method: Method
    reference_channel: int
    cost: list[tuple[int, float]]
    seconds: float
    model: Fittable
    _renderer: Renderer

    @property
    def remarks(self) -> list[str]:
        """What is wrong with channels of the recording: silent ones, and copies of others."""
        return self._renderer.frontend.remarks

    def images(self) -> Tensor:
        """Source images at all microphones, (..., N, channels, samples); zero at dead ones."""
        with torch.set_grad_enabled(self.sources.requires_grad):
            images = self._renderer.all_channels()
        return images if self.sources.ndim == 3 else images[0]

    def covariances(self) -> tuple[Tensor, tuple[int, ...]]:
        """Covariances of the source images, (..., N, F, M, M), and the M channels they are of.

        The model's, ``mean_t λ_nft H_nf``, at the channels that carry a signal; F frequencies from
        0 to half of :data:`~fca.frontend.SAMPLE_RATE`. Their scale is not that of the recording.

        Raises
        ------
        InputError
            If the method does not describe sources by covariances.
        """
        with torch.set_grad_enabled(self.sources.requires_grad):
            scm = self._renderer.covariances()
        return scm if self.sources.ndim == 3 else scm[0], self._renderer.frontend.alive
