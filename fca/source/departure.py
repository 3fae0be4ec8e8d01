"""Departure: PSDs of single bins that may differ from what a model expects.

λ has an inverse-gamma prior IG(ν, ν e), conjugate to the Gaussian likelihood, with its density
taken with respect to ``dλ/λ``, so that its mode is the expected PSD e. Up to constants, the
negative logarithm is ``ν d_IS(e | λ)``; the larger the strength ν, the less the bins depart.
"""

from __future__ import annotations

from torch import Tensor

from fca.errors import InputError
from fca.prior.model import itakura_saito
from fca.source.base import floored
from fca.spatial.base import Statistics


def check_strength(strength: float) -> None:
    """Raise :class:`InputError` unless a strength is positive."""
    if not strength > 0:
        raise InputError(f"the strength of a prior must be positive, got {strength}")


def departed(expected: Tensor, strength: float, statistics: Statistics) -> Tensor:
    """EM update of λ, (B, F, N, T), under that prior: ``(ν e + M p) / (ν + M)``.

    p are the posterior powers and M is the rank of the covariances. It never raises the cost.
    """
    power = statistics.rank * statistics.posterior_power
    return floored((strength * expected + power) / (strength + statistics.rank))


def departure_penalty(expected: Tensor, strength: float, psd: Tensor) -> Tensor:
    """``ν d_IS(e | λ)`` summed over sources and bins, (B,)."""
    return strength * itakura_saito(expected, psd).sum((1, 2, 3))
