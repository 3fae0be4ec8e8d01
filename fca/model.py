"""The composition of a spatial model and a source model: one cost, one step, one filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fca.source.base import SourceModel
from fca.spatial.base import SpatialModel
from fca.state import State


class Fittable(Protocol):
    """What the loop iterates, and what source images are taken from."""

    def cost(self) -> Tensor:
        """Cost per time-frequency bin, (B,)."""

    def step(self) -> None:
        """One iteration."""

    def images(self, channels: slice = slice(None)) -> Tensor:
        """Estimated source images, complex (B, F, N, C, T)."""


@dataclass
class Model(State):
    """Local Gaussian model ``x_ft ~ N(0, Σ_n λ_nft H_nf)`` of one batch of mixtures.

    Attributes
    ----------
    spatial : SpatialModel
        Spatial covariances H; holds the mixture, too.
    source : SourceModel
        Power spectral densities λ.
    spatial_steps : int
        Updates of the spatial model after each update of the source model.
    n_background : int
        Number of sources, the last ones, that were not asked for: noise and interferers.
    doubt, interfered : Tensor, optional
        As in the :class:`~fca.inference.start.Start` that it was built from, (B,).
    """

    spatial: SpatialModel
    source: SourceModel
    spatial_steps: int = 1
    n_background: int = 0
    doubt: Tensor | None = None
    interfered: Tensor | None = None

    def cost(self) -> Tensor:
        """Negative log-likelihood per bin plus the penalties of the priors, (B,)."""
        psd = self.source.psd()
        penalty = self.source.penalty()
        return self.spatial.nll(psd) + penalty / (psd.shape[1] * psd.shape[3])

    def step(self, *, through_space: bool = True) -> None:
        """One iteration: the source model, then the spatial model.

        It never raises the cost, unless the source model is amortised or sampled. With
        ``through_space`` gradients pass the updates of the spatial model as well.
        """
        if self.source.at_microphone:
            self.normalise()
        self.source.update(self.spatial.statistics)
        psd = self.source.psd() if through_space else self.source.psd().detach()
        for _ in range(self.spatial_steps):
            self.spatial.update(psd)

    def refine(self) -> None:
        """One step of :meth:`SourceModel.refine`, then one spatial update.

        Lowers the cost on the whole, but not in every step.
        """
        self.source.refine(self.spatial.statistics)
        self.spatial.update(self.source.psd())

    def normalise(self) -> None:
        """Scale the spatial covariances to unit mean diagonal; λ then is the power at a microphone.

        Where gains are shared over frequency, this holds for the mean over frequency, which fixes
        the scale as well. The cost is unchanged. Source models whose scale is fixed keep it.
        """
        absorbed = self.source.absorb(self.spatial.scale())
        self.spatial.rescale(absorbed.reciprocal())

    def images(self, channels: slice = slice(None)) -> Tensor:
        """Source images by the multichannel Wiener filter, complex (B, F, N, C, T)."""
        return self.spatial.images(self.source.psd(), channels)
