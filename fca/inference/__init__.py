"""Inference: where the iterations start, the loop itself, and what follows it."""

from fca.inference.iterate import Callback, EarlyStop, Progress, iterate
from fca.inference.start import STARTS, Start

__all__ = ["STARTS", "Callback", "EarlyStop", "Progress", "Start", "iterate"]
