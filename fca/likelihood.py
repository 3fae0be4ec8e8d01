"""The likelihood shared by every method, as a function of the whitened energy of an observation.

A complex vector of dimension d with covariance Y has energy ``q = xᴴ Y⁻¹ x`` and, up to a constant,
negative log-likelihood ``log|Y| + energy(q)``. A heavy-tailed likelihood only changes the second
term: it is majorised by ``weight(q) * q``, so that every update made for the Gaussian serves it
too once each frame is weighted (Kitamura et al. 2018; Kamo et al. 2020, t-FastMNMF).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from fca.errors import InputError


class Likelihood(Protocol):
    """Radial function of the complex distribution of an observed vector.

    Attributes
    ----------
    heavy_tailed : bool
        Whether :meth:`weight` is anything but one.
    """

    heavy_tailed: ClassVar[bool]

    def energy(self, q: Tensor, dim: int) -> Tensor:
        """Negative log-likelihood without the log-determinant, of whitened energies ``q``."""

    def weight(self, q: Tensor, dim: int) -> Tensor:
        """Derivative of :meth:`energy` in q."""


@dataclass(frozen=True)
class Gaussian:
    """Circular complex Gaussian: ``energy(q) = q``."""

    heavy_tailed: ClassVar[bool] = False

    def energy(self, q: Tensor, dim: int) -> Tensor:
        return q

    def weight(self, q: Tensor, dim: int) -> Tensor:
        return q.new_ones(()).expand_as(q)


@dataclass(frozen=True)
class StudentT:
    """Circular complex Student's t: ``energy(q) = (ν/2 + d) log(1 + 2q/ν)``.

    Parameters
    ----------
    dof : float
        Degrees of freedom ν > 0; the Gaussian is the limit of large ν.
    """

    heavy_tailed: ClassVar[bool] = True
    dof: float = 10.0

    def __post_init__(self) -> None:
        if not self.dof > 0:
            raise InputError(f"degrees of freedom must be positive, got {self.dof}")

    def energy(self, q: Tensor, dim: int) -> Tensor:
        return (self.dof / 2 + dim) * (2 / self.dof * q).log1p()

    def weight(self, q: Tensor, dim: int) -> Tensor:
        return (self.dof / 2 + dim) / (self.dof / 2 + q)
