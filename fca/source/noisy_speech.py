"""One talker in noise: the speech prior beside a model of the noise."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.neural.denoiser import Denoiser
from fca.prior import SpeechPrior
from fca.source.base import Evaluate
from fca.source.free import Stationary
from fca.source.nmf import NMF
from fca.source.stack import Stack
from fca.source.vae import VAE, observed_power


def noisy_speech(
    prior: SpeechPrior | str = "speech-prior",
    inference: str = "gradient",
    n_steps: int = 10,
    rate: float = 0.05,
    n_bases: int = 4,
    warmup: int = 20,
) -> Stack:
    """VAE-NMF (Bando et al. 2018): two sources, speech first, then noise.

    Parameters
    ----------
    prior, inference, n_steps, rate
        As in :class:`VAE`.
    n_bases, warmup
        As in :class:`NMF`, for the noise.

    Raises
    ------
    InputError
        For choices that :class:`VAE` or :class:`NMF` refuse.
    """
    speech = VAE(prior, inference, n_steps, rate)
    return Stack([(speech, 1), (NMF(n_bases, warmup), 1)])


class DenoisedSpeech(Stack):
    """Two sources, speech first, then stationary noise.

    The z of the speech is inferred by a denoiser, which is shown the noise as the power of the
    others.

    Parameters
    ----------
    denoiser, rate
        As in :class:`VAE`.
    strength
        As in :class:`Stationary`, for the noise.

    Raises
    ------
    InputError
        For choices that :class:`VAE` or :class:`Stationary` refuse.
    """

    def __init__(
        self, denoiser: Denoiser | str = "denoiser", rate: float = 0.1, strength: float = 2.0
    ) -> None:
        speech = VAE(denoiser=denoiser, rate=rate)
        super().__init__([(speech, 1), (Stationary(strength), 1)])

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._hear(power)
        super().initialise(power, generator)

    def update(self, evaluate: Evaluate) -> None:
        self._hear(observed_power(evaluate(self.psd())))
        super().update(evaluate)

    def _hear(self, power: Tensor) -> None:
        """Show the denoiser the noise, given the powers (B, F, 2, T) of both sources."""
        speech, _ = self._parts[0]
        assert isinstance(speech, VAE)
        speech.beside = power[:, :, 1:].transpose(1, 2)
