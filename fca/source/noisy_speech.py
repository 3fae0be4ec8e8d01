"""One talker in noise: the speech prior beside a factorisation that learns the noise."""

from __future__ import annotations

from fca.prior import SpeechPrior
from fca.source.nmf import NMF
from fca.source.stack import Stack
from fca.source.vae import VAE


def noisy_speech(
    prior: SpeechPrior | str = "speech-prior",
    inference: str = "gradient",
    n_steps: int = 10,
    rate: float = 0.05,
    n_bases: int = 4,
    warmup: int = 20,
) -> Stack:
    """VAE-NMF (Bando et al. 2018): two sources, speech first.

    Parameters
    ----------
    prior, inference, n_steps, rate
        As in :class:`VAE`.
    n_bases, warmup
        As in :class:`NMF`, of the noise.

    Raises
    ------
    InputError
        For choices that :class:`VAE` or :class:`NMF` refuse.
    """
    speech = VAE(prior, inference, n_steps, rate)
    return Stack([(speech, 1), (NMF(n_bases, warmup), 1)])
