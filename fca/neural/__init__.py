"""Networks that infer the latent variables of sources: neural FCA, neural FastFCA, denoiser."""

from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.neural.model import NeuralConfig, NeuralFCA

__all__ = ["Denoiser", "DenoiserConfig", "NeuralConfig", "NeuralFCA"]
