"""Bins that depart from the PSD that a model expects of them.

λ has an inverse-gamma prior with the expected PSD e as its mode, conjugate to the Gaussian. Its
negative logarithm is ``ν d_IS(e | λ)``: the larger the strength ν, the less a bin departs.
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
    """EM update of λ, (B, F, N, T), under the prior, ``(ν e + M p) / (ν + M)``.

    p are the posterior powers and M is the rank of the covariances. Never raises the cost.
    """
    power = statistics.rank * statistics.posterior_power
    return floored((strength * expected + power) / (strength + statistics.rank))


def departure_penalty(expected: Tensor, strength: float, psd: Tensor) -> Tensor:
    """``ν d_IS(e | λ)`` summed over sources and bins, (B,)."""
    return strength * itakura_saito(expected, psd).sum((1, 2, 3))
