"""Source models: the power spectral density of each source."""

from fca.source.base import SourceModel
from fca.source.free import Fixed, Free, Stationary
from fca.source.invariant import Gauss, Laplace, Student
from fca.source.nmf import NMF
from fca.source.stack import Stack

__all__ = [
    "NMF",
    "Fixed",
    "Free",
    "Gauss",
    "Laplace",
    "SourceModel",
    "Stack",
    "Stationary",
    "Student",
]
