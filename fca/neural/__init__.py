"""Networks that see a mixture and say what its sources are: neural FCA and neural FastFCA."""

from fca.neural.model import NeuralConfig, NeuralFCA

__all__ = ["NeuralConfig", "NeuralFCA"]
