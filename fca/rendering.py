"""From a fitted model to the waveforms of the sources wanted."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fca.beamforming import mvdr_images
from fca.errors import InputError
from fca.frontend import Frontend
from fca.linalg import abs2
from fca.method import Method
from fca.model import Fittable, Model
from fca.permutation import align, reorder


@dataclass(frozen=True)
class Renderer:
    """Waveforms of the sources wanted of a fitted model.

    These are the loudest ones at the reference channel; if an ``activity`` (B, N, T) is known, the
    first N, of which those that are never active are silent.
    """

    model: Fittable
    frontend: Frontend
    method: Method
    n_sources: int
    reference_index: int
    output_filter: str
    activity: Tensor | None

    def reference(self) -> Tensor:
        """Sources at the reference channel, (B, N, samples)."""
        images = self._wanted(self._at_reference)
        return self.frontend.synthesise(images)[:, :, 0]

    def all_channels(self) -> Tensor:
        """Source images, (B, N, channels, samples)."""
        images = self._wanted(self._images(slice(None)))
        return self.frontend.with_dead_channels(self.frontend.synthesise(images))

    def covariances(self) -> Tensor:
        """Covariances of the images at the live channels, mean_t λ_nft H_nf, (B, N, F, M, M).

        Raises
        ------
        InputError
            If the method does not describe sources by covariances.
        """
        if not isinstance(self.model, Model):
            raise InputError(f"{self.method.name} does not describe sources by covariances")
        covariances = self.model.spatial.mean_covariance(self.model.source.psd())
        return self.frontend.over_whole_band(self._wanted(covariances)).transpose(1, 2)

    def _wanted(self, values: Tensor) -> Tensor:
        """The sources wanted, in order, of values (B, F, N, ...) of all sources."""
        wanted = reorder(values, self._order)
        if self.activity is None:
            return wanted
        speaks = (self.activity > 0.5).any(-1)
        return wanted * speaks.reshape(len(speaks), 1, -1, *[1] * (values.ndim - 3))

    @functools.cached_property
    def _at_reference(self) -> Tensor:
        """Images of all sources at the reference channel, (B, F, N, 1, T)."""
        return self._images(slice(self.reference_index, self.reference_index + 1))

    def _images(self, channels: slice) -> Tensor:
        """Images of all sources, (B, F, N, C, T)."""
        if self.output_filter == "wiener" or not isinstance(self.model, Model):
            return self.model.images(channels)  # clustering uses MVDR anyway
        spatial = self.model.spatial
        covariances = spatial.mean_covariance(self.model.source.psd())
        background = spatial.background_covariance()
        return mvdr_images(spatial.mixture, covariances, channels, background)

    @functools.cached_property
    def _order(self) -> Tensor:
        """Index in the model of each source that is returned, (B, F, N)."""
        power = abs2(self._at_reference.detach()).mean(3)
        batch, n_freq, n_fitted, _ = power.shape
        order = torch.arange(n_fitted, device=power.device).expand(batch, n_freq, -1)
        if self.activity is not None:
            return order[:, :, : self.n_sources]
        if self.method.align:
            order = align(power)
        loudness = reorder(power, order).sum((1, 3))
        if isinstance(self.model, Model):
            loudness = loudness[:, : n_fitted - self.model.n_background]
        loudest = loudness.argsort(dim=-1, descending=True)[:, : self.n_sources]
        return order.gather(2, loudest[:, None].expand(-1, n_freq, -1))
