"""Sources that a network infers from the mixture itself, as in neural FCA."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from fca.errors import InputError
from fca.inference.start import Start
from fca.neural import NeuralFCA
from fca.source.base import Evaluate
from fca.source.latent import Latent


class Neural(Latent):
    """Latent vectors and spatial start from :class:`~fca.neural.NeuralFCA`; iterations keep z.

    Given these PSDs, the iterations update the spatial parameters only: five EM updates of
    full-rank covariances in neural FCA (Bando et al. 2021), none in neural FastFCA (Bando et al.
    2023).

    Parameters
    ----------
    weights : NeuralFCA, str or path
        The network, or anything that :meth:`NeuralFCA.from_pretrained` takes.
    rate : float
        Step size on z in refinement.
    stochastic : bool
        Draw z from its posterior, for training by the evidence lower bound.

    Raises
    ------
    InputError
        If there are no weights, or the rate is not positive.
    """

    def __init__(
        self,
        weights: NeuralFCA | str | os.PathLike[str] | None = None,
        rate: float = 0.2,
        stochastic: bool = False,
    ) -> None:
        self.network = load_weights(weights)
        gaussian = self.network.config.latent == "gaussian"
        super().__init__(self.network, gaussian, 1, rate, stochastic)

    def start(self, mixture: Tensor, n_sources: int) -> Start:
        config = self.network.config
        if n_sources != config.n_sources:
            raise InputError(f"this network is for {config.n_talkers} talkers, not {n_sources - 1}")
        self.network = self.network.like(mixture.real)
        self._use(self.network)
        encoding = self.network.encode(mixture)
        self._infer(self.network.latent.posterior(encoding.raw))
        self._level = encoding.log_level.exp()
        return Start(encoding.demixing, self.psd(), encoding.gains)

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        if not hasattr(self, "_z"):
            raise InputError("neural sources start from their network: choose start=network")

    def update(self, evaluate: Evaluate) -> None:
        """Nothing to do: inference is amortised."""


def load_weights(weights: NeuralFCA | str | os.PathLike[str] | None) -> NeuralFCA:
    """The network, read if it is given by name; an :class:`InputError` if there is none.

    No network for these methods ships with the toolkit.
    """
    if weights is None:
        raise InputError(
            "no weights ship for this method: train a network (recipes/neural) and give weights"
        )
    return weights if isinstance(weights, NeuralFCA) else NeuralFCA.from_pretrained(weights)
