"""Families of latent variables: posterior, prior, KL divergence and reparameterised samples.

There is one vector z_t per frame. In this module the last axis holds its D coordinates, and the
axis before it is time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import kl_divergence
from torch.nn import functional

from fca.errors import InputError, check_choice
from fca.state import State

_LOG_VARIANCE_RANGE = (-12.0, 6.0)
_SMALLEST_ALPHA = 0.02
_N_ANGLES = 4097


class Posterior(State, ABC):
    """``q(z_t | X)``, independent over frames.

    Attributes
    ----------
    mean : Tensor
        Point estimate of z, in the space of z, (..., T, D).
    """

    mean: Tensor

    @abstractmethod
    def sample(self) -> Tensor:
        """One draw of z, (..., T, D); gradients reach the parameters of the posterior."""

    @abstractmethod
    def kl(self) -> Tensor:
        """``KL(q(z_t | X) ‖ p(z_t))`` in nats, (..., T)."""


class Latent(ABC):
    """A family of distributions of D-dimensional latent vectors.

    Attributes
    ----------
    dim : int
        D.
    n_parameters : int
        Number of unconstrained parameters of a posterior.
    """

    dim: int
    n_parameters: int

    @abstractmethod
    def posterior(self, raw: Tensor) -> Posterior:
        """Posterior with unconstrained parameters ``raw`` (..., T, n_parameters)."""

    @property
    def raw_prior(self) -> Tensor | None:
        """Parameters (n_parameters,) of the posterior that is the prior; None if there is none."""
        return None

    @abstractmethod
    def sample_prior(self, *shape: int) -> Tensor:
        """Draws (*shape, D) of the prior, from torch's global generator."""

    @abstractmethod
    def embed(self, z: Tensor) -> Tensor:
        """``z`` scaled to about unit variance per coordinate under the prior, for the decoder."""


class Gaussian(Latent):
    """``z ~ N(0, I)`` with Gaussian posteriors of diagonal covariance (Kingma & Welling 2014)."""

    def __init__(self, dim: int, concentration: float | None = None) -> None:
        _refuse(concentration)
        self.dim, self.n_parameters = dim, 2 * dim

    def posterior(self, raw: Tensor) -> GaussianPosterior:
        mean, log_variance = raw.chunk(2, dim=-1)
        return GaussianPosterior(mean, log_variance.clamp(*_LOG_VARIANCE_RANGE))

    @property
    def raw_prior(self) -> Tensor:
        return torch.zeros(self.n_parameters)

    def sample_prior(self, *shape: int) -> Tensor:
        return torch.randn(*shape, self.dim)

    def embed(self, z: Tensor) -> Tensor:
        return z


class GaussianPosterior(Posterior):
    """``N(μ, diag σ²)``."""

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean, self.log_variance = mean, log_variance

    def sample(self) -> Tensor:
        return self.mean + (0.5 * self.log_variance).exp() * torch.randn_like(self.mean)

    def kl(self) -> Tensor:
        """``½ Σ_d (μ² + σ² − log σ² − 1)``."""
        variance = self.log_variance.exp()
        return 0.5 * (self.mean.square() + variance - self.log_variance - 1).sum(-1)


class VonMisesFisher(Latent):
    """Uniform prior on the unit sphere, von Mises-Fisher posteriors (Xu & Durrett 2018).

    The concentration κ is the same for all posteriors; the divergence is thereby a constant, and
    the posterior cannot collapse. The angle to the mean direction has a one-dimensional density.
    Its normaliser is computed by the trapezoidal rule, and samples are drawn by inverting its
    distribution function, without rejection.

    Parameters
    ----------
    concentration : float, optional
        κ, 4 D unless given.
    """

    def __init__(self, dim: int, concentration: float | None = None) -> None:
        if dim < 2:
            raise InputError(f"a sphere needs at least two dimensions, got {dim}")
        self.dim = self.n_parameters = dim
        self.concentration = 4.0 * dim if concentration is None else concentration
        if self.concentration <= 0:
            raise InputError(f"the concentration must be positive, got {concentration}")
        self._angles = torch.linspace(0, torch.pi, _N_ANGLES, dtype=torch.float64)
        density, log_normaliser = _angle_density(self._angles, dim, self.concentration)
        _, log_uniform = _angle_density(self._angles, dim, 0.0)
        mean_cosine = torch.trapezoid(density * self._angles.cos(), self._angles)
        self.divergence = float(self.concentration * mean_cosine - log_normaliser + log_uniform)
        self._distribution = torch.cumulative_trapezoid(density, self._angles)

    def posterior(self, raw: Tensor) -> VonMisesFisherPosterior:
        return VonMisesFisherPosterior(functional.normalize(raw, dim=-1), self)

    def sample_prior(self, *shape: int) -> Tensor:
        return functional.normalize(torch.randn(*shape, self.dim), dim=-1)

    def embed(self, z: Tensor) -> Tensor:
        return math.sqrt(self.dim) * z

    def sample_angle(self, like: Tensor) -> Tensor:
        """Angles to the mean direction, of the shape and type of ``like``."""
        distribution, angles = self._distribution.to(like.device), self._angles.to(like.device)
        uniform = torch.rand(like.shape, dtype=torch.float64, device=like.device)
        upper = torch.searchsorted(distribution, uniform).clamp_max(len(distribution) - 1)
        lower = torch.where(upper > 0, distribution[upper - 1], 0.0)
        part = (uniform - lower) / (distribution[upper] - lower).clamp_min(1e-300)
        angle: Tensor = angles[upper] + part.clamp(0, 1) * angles[1]
        return angle.to(like.dtype)


def _angle_density(angles: Tensor, dim: int, concentration: float) -> tuple[Tensor, Tensor]:
    """Density of the angle θ, ``∝ sin^{D−2} θ exp(κ cos θ)``, and the log of its normaliser."""
    log_density = (dim - 2) * angles.sin().clamp_min(1e-300).log() + concentration * angles.cos()
    peak = log_density.max()
    mass = torch.trapezoid((log_density - peak).exp(), angles)
    return (log_density - peak).exp() / mass, mass.log() + peak


class VonMisesFisherPosterior(Posterior):
    """``vMF(μ, κ)`` with unit mean direction μ."""

    def __init__(self, direction: Tensor, family: VonMisesFisher) -> None:
        self.mean, self._family = direction, family

    def sample(self) -> Tensor:
        """``cos θ μ + sin θ v`` with v uniform among the directions orthogonal to μ."""
        angle = self._family.sample_angle(self.mean[..., :1])
        noise = torch.randn_like(self.mean)
        tangent = noise - (noise * self.mean).sum(-1, keepdim=True) * self.mean
        z = angle.cos() * self.mean + angle.sin() * functional.normalize(tangent, dim=-1)
        return functional.normalize(z, dim=-1)  # rounding may have left a tangent askew

    def kl(self) -> Tensor:
        """``κ E[cos θ] − log Z(κ) + log Z(0)``, the same for every frame."""
        return torch.full_like(self.mean[..., 0], self._family.divergence)


class Dirichlet(Latent):
    """Dirichlet prior and posteriors on the simplex (Joo et al. 2020).

    Samples are reparameterised by implicit gradients of the Gamma distribution (Figurnov et al.
    2018) as implemented in ``torch.distributions``.

    Parameters
    ----------
    concentration : float, optional
        α of the symmetric prior, 1 (uniform on the simplex) unless given.
    """

    def __init__(self, dim: int, concentration: float | None = None) -> None:
        if dim < 2:
            raise InputError(f"a simplex needs at least two dimensions, got {dim}")
        self.dim = self.n_parameters = dim
        self.concentration = 1.0 if concentration is None else concentration
        if self.concentration <= 0:
            raise InputError(f"the concentration must be positive, got {concentration}")

    def posterior(self, raw: Tensor) -> DirichletPosterior:
        alpha: Tensor = functional.softplus(raw) + _SMALLEST_ALPHA
        return DirichletPosterior(alpha, self.concentration)

    @property
    def raw_prior(self) -> Tensor | None:
        if self.concentration <= _SMALLEST_ALPHA:
            return None
        alpha = torch.full((self.dim,), self.concentration - _SMALLEST_ALPHA)
        return alpha + (-torch.expm1(-alpha)).log()  # of which alpha is the softplus

    def sample_prior(self, *shape: int) -> Tensor:
        alpha = torch.full((*shape, self.dim), self.concentration)
        draws: Tensor = DirichletDistribution(alpha).sample()
        return draws

    def embed(self, z: Tensor) -> Tensor:
        """Zero mean and unit variance: ``var z_d = (D − 1) / (D² (D α + 1))``."""
        scale = math.sqrt((self.dim * self.concentration + 1) / (self.dim - 1))
        return scale * (self.dim * z - 1)


class DirichletPosterior(Posterior):
    """``Dir(α)``."""

    def __init__(self, alpha: Tensor, prior: float) -> None:
        self.mean = alpha / alpha.sum(-1, keepdim=True)
        self._posterior = DirichletDistribution(alpha)
        self._prior = DirichletDistribution(torch.full_like(alpha, prior))

    def sample(self) -> Tensor:
        draw: Tensor = self._posterior.rsample()
        return draw

    def kl(self) -> Tensor:
        """Closed form in log-gamma and digamma functions."""
        divergence: Tensor = kl_divergence(self._posterior, self._prior)
        return divergence


def _refuse(concentration: float | None) -> None:
    if concentration is not None:
        raise InputError("the standard Gaussian latent has no concentration")


LATENTS: dict[str, Callable[[int, float | None], Latent]] = {
    "gaussian": Gaussian,
    "von-mises-fisher": VonMisesFisher,
    "dirichlet": Dirichlet,
}


def make_latent(name: str, dim: int, concentration: float | None = None) -> Latent:
    """Family ``name`` (a key of :data:`LATENTS`) of D = ``dim`` dimensions.

    Raises
    ------
    InputError
        For an unknown name, too few dimensions, or a concentration that is not positive.
    """
    check_choice("latent", name, LATENTS)
    if dim < 1:
        raise InputError(f"the latent needs at least one dimension, got {dim}")
    return LATENTS[name](dim, concentration)
