"""Inference: starts, and the iterations that follow."""

from fca.inference.iterate import Callback, EarlyStop, Progress, iterate
from fca.inference.start import STARTS, Start

__all__ = ["STARTS", "Callback", "EarlyStop", "Progress", "Start", "iterate"]
