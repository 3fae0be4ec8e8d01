"""Source models: the power spectral density of each source."""

from fca.source.base import SourceModel
from fca.source.free import Fixed, Free, Stationary
from fca.source.gated import Gated
from fca.source.invariant import Gauss, Laplace, Student
from fca.source.nmf import NMF
from fca.source.noisy_speech import DenoisedSpeech, noisy_speech
from fca.source.sliding import SlidingNMF
from fca.source.stack import Stack
from fca.source.vae import VAE

__all__ = [
    "NMF",
    "VAE",
    "DenoisedSpeech",
    "Fixed",
    "Free",
    "Gated",
    "Gauss",
    "Laplace",
    "SlidingNMF",
    "SourceModel",
    "Stack",
    "Stationary",
    "Student",
    "noisy_speech",
]
