"""Updates of the spatial parameters alone, given sources that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fca.model import Model

ARRAY_STEPS = 16
"""Updates with which the spatial parameters settle on all microphones of a large array."""
WINDOW_SECONDS = 2.0
"""Length of the windows, in seconds, in which the spatial parameters settle where talkers walk."""
WINDOW_STEPS = 8
"""Updates with which they do."""


@dataclass
class Settling:
    """A model of which only the spatial parameters are updated, with free gains at every frequency.

    Gains that are shared over frequency make a poor start robust, but hold a good one back. Like
    all updates of spatial models, a step does not raise the cost but for rounding.

    Attributes
    ----------
    model : Model
        Changed in place.
    """

    model: Model

    def __post_init__(self) -> None:
        self.model.spatial.untie()

    def cost(self) -> Tensor:
        """Cost of the model, (B,)."""
        return self.model.cost()

    def step(self) -> None:
        """One pass over the spatial parameters."""
        settle(self.model)

    def images(self, channels: slice = slice(None)) -> Tensor:
        """Source images of the model, complex (B, F, N, C, T)."""
        return self.model.images(channels)


def settle(model: Model) -> None:
    """One pass over the spatial parameters, in place."""
    model.spatial.update(model.source.psd())
