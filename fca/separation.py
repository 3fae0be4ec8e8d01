"""The result of a separation: the sources, the residual, and the fitted model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.method import Method
from fca.model import Fittable
from fca.rendering import Renderer


@dataclass(frozen=True, repr=False)
class Separation:
    """The result of :func:`~fca.separator.separate`.

    Attributes
    ----------
    sources : Tensor
        Source images at the reference channel, (N, samples) or (batch, N, samples), with the length
        and scale of the mixture; the loudest first, or in the order of known activities.
    residual : Tensor
        The mixture at the reference channel minus all sources, (..., samples): background, surplus
        sources and the constant offset. ``sources.sum(-2) + residual`` is the mixture.
    sample_rate : int
        Sample rate of the mixture in Hz.
    method : Method
        The row of the table that was used, with its options.
    reference_channel : int
        Microphone of the source images.
    cost : list of (int, float)
        Iterations, and the cost per time-frequency bin after each.
    seconds : float
        Computation time.
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

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.sources.shape))
        return f"<Separation by {self.method.name}: sources {shape} at {self.sample_rate} Hz>"

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
        """Covariances of the source images, (..., N, F, M, M), and the M channels that they cover.

        They are those of the model, ``mean_t λ_nft H_nf``, at the channels that carry a signal, for
        F frequencies from 0 to half of :data:`~fca.frontend.SAMPLE_RATE`. Their scale is not that
        of the recording.

        Raises
        ------
        InputError
            If the method does not describe sources by covariances.
        """
        with torch.set_grad_enabled(self.sources.requires_grad):
            scm = self._renderer.covariances()
        return scm if self.sources.ndim == 3 else scm[0], self._renderer.frontend.alive
