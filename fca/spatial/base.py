"""Interface of spatial models to the rest of the toolkit."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fca.errors import InputError
from fca.state import State

FLOOR = 1e-8
"""Least PSD and gain, relative to mixtures of unit mean power."""


@dataclass(frozen=True)
class Statistics:
    """All that a source model needs to know about the mixture and the spatial model.

    With Y the mixture covariance and H a source's spatial covariance, the negative log-likelihood
    has the derivative ``trace - quadratic`` in the source's PSD. This one pair of arrays therefore
    serves multiplicative updates, EM, gradients and encoders alike.

    Attributes
    ----------
    psd : Tensor
        PSDs λ at which the statistics were taken, (B, F, N, T).
    quadratic : Tensor
        ``xᴴ Y⁻¹ H Y⁻¹ x`` (weighted, for a heavy-tailed likelihood), (B, F, N, T).
    trace : Tensor
        ``tr(H Y⁻¹)``, (B, F, N, T).
    rank : int
        Rank of the covariance that one λ scales: 1, the number of microphones (or components), or
        that number times the number of delayed copies.
    bin_nll : callable
        Computes the negative log-likelihood of every bin at ``psd``, (B, F, T).
    """

    psd: Tensor
    quadratic: Tensor
    trace: Tensor
    rank: int
    bin_nll: Callable[[], Tensor]

    @property
    def posterior_power(self) -> Tensor:
        """``E[tr(H⁻¹ x_n x_nᴴ)] / rank`` given the mixture (Duong et al. 2010, eq. 31).

        The EM update of an unconstrained PSD: power of the Wiener estimate plus its posterior
        variance, (B, F, N, T).
        """
        change = self.psd.square() * (self.quadratic - self.trace) / self.rank
        return (self.psd + change).clamp_min(FLOOR)

    @property
    def multiplier(self) -> Tensor:
        """Majorisation-minimisation factor ``√(quadratic/trace)`` of an unconstrained PSD."""
        return (self.quadratic / self.trace).sqrt()

    def select(self, sources: slice) -> Statistics:
        """The statistics of a subset of the sources."""
        return Statistics(
            self.psd[:, :, sources],
            self.quadratic[:, :, sources],
            self.trace[:, :, sources],
            self.rank,
            self.bin_nll,
        )


class ObservedStatistics(Statistics):
    """Statistics of sources that are observed themselves, as the outputs of rank-1 models are.

    Parameters
    ----------
    psd : Tensor
        λ, (B, F, N, T).
    power : Tensor
        Observed powers ``|y|²``, (B, F, N, T), which are also the posterior powers.
    nll : callable, optional
        Computes the negative log-likelihood of every bin, if it is not the Gaussian one.
    """

    _power: Tensor
    _nll: Callable[[], Tensor] | None

    def __init__(self, psd: Tensor, power: Tensor, nll: Callable[[], Tensor] | None = None) -> None:
        object.__setattr__(self, "psd", psd)
        object.__setattr__(self, "_nll", nll)
        object.__setattr__(self, "rank", 1)
        object.__setattr__(self, "_power", power)

    @functools.cached_property
    def trace(self) -> Tensor:
        return inverse_psd(self.psd)

    @functools.cached_property
    def quadratic(self) -> Tensor:
        return self._power * self.trace.square()

    @property
    def posterior_power(self) -> Tensor:
        return self._power

    def bin_nll(self) -> Tensor:
        if self._nll is not None:
            return self._nll()
        return (self._power * self.trace).sum(2) + log_psd(self.psd).sum(2)


class SpatialModel(State, ABC):
    """Spatial covariances of N sources, fitted to one batch of mixtures.

    Implementations hold the mixture X (B, F, M, T) and their parameters. Methods take the PSDs λ
    (B, F, N, T) that the source model gives at the time. Updates replace tensors instead of writing
    to them, so that gradients flow through any number of iterations.
    """

    n_sources: int
    mixture: Tensor

    @abstractmethod
    def statistics(self, psd: Tensor) -> Statistics:
        """The statistics that the source model needs for its own update."""

    @abstractmethod
    def update(self, psd: Tensor) -> None:
        """One pass over all spatial parameters; never raises the cost."""

    @abstractmethod
    def bin_nll(self, psd: Tensor) -> Tensor:
        """Negative log-likelihood of every bin without constants, (B, F, T)."""

    def nll(self, psd: Tensor) -> Tensor:
        """Mean of :meth:`bin_nll` over a recording, (B,)."""
        return self.bin_nll(psd).mean((1, 2))

    @abstractmethod
    def scale(self) -> Tensor:
        """Mean diagonal of the spatial covariances, ``tr(H) / M``, (B, F or 1, N)."""

    @abstractmethod
    def rescale(self, factor: Tensor) -> None:
        """Multiply the spatial covariances by ``factor`` (B, F or 1, N)."""

    def untie(self) -> None:
        """Give every frequency parameters of its own from now on; the cost is unchanged."""

    def with_diffuse(self) -> SpatialModel:
        """The model with one more source, the last, heard equally from everywhere at first.

        Raises
        ------
        InputError
            If the model has no room for one more source.
        """
        raise InputError(f"no source can be added to a {type(self).__name__} model")

    def on_whole_array(self, psd: Tensor) -> SpatialModel:
        """The model extended to all microphones, if it sees a subspace; otherwise the model itself.

        The components that it did not see get the same gains for all sources, whose PSDs are λ.
        """
        return self

    @abstractmethod
    def images(self, psd: Tensor, channels: slice = slice(None)) -> Tensor:
        """Multichannel Wiener estimates of the source images, (B, F, N, C, T).

        These are the posterior means ``λ H Y⁻¹ x`` at the chosen channels. Summed over all sources,
        the background included, they give what the model sees of the mixture.
        """

    @abstractmethod
    def scm(self) -> Tensor:
        """Spatial covariance matrices H, (B, F, N, M, M)."""

    def mean_covariance(self, psd: Tensor) -> Tensor:
        """Covariances of the source images, ``mean_t λ_nft H_nf``, (B, F, N, M, M)."""
        return psd.mean(-1)[..., None, None] * self.scm()

    def background_covariance(self) -> Tensor | None:
        """Covariance (B, F, M, M) of a background besides the N sources, None without one."""
        return None


def inverse_psd(psd: Tensor) -> Tensor:
    """``1/λ``, (B, F, N, T)."""
    return _once(torch.reciprocal, psd)


def log_psd(psd: Tensor) -> Tensor:
    """``log λ``, (B, F, N, T)."""
    return _once(torch.log, psd)


def _once(function: Callable[[Tensor], Tensor], psd: Tensor) -> Tensor:
    """A function of PSDs; if they are shared over frequency, it is computed and kept only once."""
    if psd.stride(1) == 0:
        return function(psd[:, :1]).expand_as(psd)
    return function(psd)


def log_abs_det(matrix: Tensor) -> Tensor:
    """``log|det|`` of square matrices."""
    result: Tensor = torch.linalg.slogdet(matrix).logabsdet
    return result
