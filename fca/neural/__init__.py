"""Networks that infer latent vectors of sources: neural FCA, neural FastFCA and the denoiser."""

from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.neural.model import NeuralConfig, NeuralFCA

__all__ = ["Denoiser", "DenoiserConfig", "NeuralConfig", "NeuralFCA"]
