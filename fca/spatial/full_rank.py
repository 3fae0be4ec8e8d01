"""Full-rank spatial covariance matrices (Duong et al. 2010; Sawada et al. 2013)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from fca.errors import check_choice
from fca.likelihood import Gaussian, Likelihood
from fca.linalg import (
    apply_packed,
    dual,
    hermitise,
    inverse_and_logdet,
    pack,
    pack_outer,
    regularise,
    riccati,
    weighted_covariance,
)
from fca.spatial.base import SpatialModel, Statistics
from fca.spatial.inverse_wishart import InverseWishart

NOISE = 1e-6
"""Sensor noise ε in ``Y = Σ_n λ_n H_n + εI``, relative to mixtures of unit mean power."""

_CONDITION = 30.0
"""Diagonal load of H in units of rounding, as its smallest eigenvalues are small differences."""


class FullRank(SpatialModel):
    """One unconstrained Hermitian matrix per source and frequency.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    scm : Tensor
        Initial H, (B, F, N, M, M).
    update : {"em", "mu"}
        EM (Duong et al. 2010) or the multiplicative update by a Riccati equation (Sawada et al.
        2013), which takes larger steps.
    likelihood : Likelihood
        Gaussian unless given.
    noise : float
        ε, the power of the sensor noise; the same in the cost, the updates and the filter.
    prior : InverseWishart, optional
        Prior of H, which is part of the cost.
    """

    def __init__(
        self,
        mixture: Tensor,
        scm: Tensor,
        update: str = "mu",
        likelihood: Likelihood | None = None,
        noise: float = NOISE,
        prior: InverseWishart | None = None,
    ) -> None:
        check_choice("update", update, FULL_RANK_UPDATES, " of full-rank covariances")
        self.mixture = mixture
        self.n_sources = scm.shape[2]
        self.likelihood: Likelihood = likelihood or Gaussian()
        self.noise = noise
        self.prior = prior
        self._step = FULL_RANK_UPDATES[update]
        self._h = scm
        self._outer = pack_outer(mixture)

    def statistics(self, psd: Tensor) -> Statistics:
        precision, whitened_outer = self._whiten(psd)
        h = dual(pack(self._h))
        quadratic, trace = h @ whitened_outer, h @ precision
        return Statistics(psd, quadratic, trace, self.mixture.shape[2], lambda: self.bin_nll(psd))

    def update(self, psd: Tensor) -> None:
        precision, whitened_outer = self._whiten(psd)
        a = weighted_covariance(whitened_outer, psd)
        b = weighted_covariance(precision, psd)
        self._h = regularise(self._step(self._h, a, b, *self._pull()), _CONDITION)

    def bin_nll(self, psd: Tensor) -> Tensor:
        precision, logdet = inverse_and_logdet(self._covariance(psd))
        return self.likelihood.energy(self._energy(precision), self.mixture.shape[2]) + logdet

    def nll(self, psd: Tensor) -> Tensor:
        nll = super().nll(psd)
        if self.prior is not None:
            nll = nll + self.prior.penalty(self._h) / (psd.shape[1] * psd.shape[3])
        return nll

    def scale(self) -> Tensor:
        return self._h.diagonal(dim1=-2, dim2=-1).real.mean(-1)

    def rescale(self, factor: Tensor) -> None:
        self._h = self._h * factor[..., None, None]

    def images(self, psd: Tensor, channels: slice = slice(None)) -> Tensor:
        """``x̂_n = λ_n H_n Y⁻¹ x``; see :meth:`SpatialModel.images`."""
        precision, _ = inverse_and_logdet(self._covariance(psd))
        whitened = apply_packed(precision, self.mixture)
        return psd[:, :, :, None] * (self._h[:, :, :, channels] @ whitened[:, :, None])

    def scm(self) -> Tensor:
        return self._h

    def with_diffuse(self) -> FullRank:
        wider = copy.copy(self)
        eye = torch.eye(self._h.shape[-1], dtype=self._h.dtype, device=self._h.device)
        level = self.scale().mean(2, keepdim=True)[..., None, None]
        wider._h = torch.cat([self._h, level * eye], dim=2)
        wider.n_sources += 1
        return wider

    def _covariance(self, psd: Tensor) -> Tensor:
        """Packed ``Y_ft = Σ_n λ_nft H_nf + εI``, (B, F, M², T)."""
        n_channels = self.mixture.shape[2]
        noise = torch.zeros(n_channels**2, 1, dtype=psd.dtype, device=psd.device)
        noise[:n_channels] = self.noise
        return pack(self._h).mT @ psd + noise

    def _pull(self) -> tuple[Tensor | float, Tensor | float]:
        """``ν H̄`` and ν of the prior, divided by the number of frames."""
        if self.prior is None:
            return 0.0, 0.0
        strength = self.prior.strength.reshape(-1, 1, 1, 1, 1) / self.mixture.shape[-1]
        return strength * self.prior.mean(self._h), strength

    def _energy(self, precision: Tensor) -> Tensor:
        """``xᴴ Y⁻¹ x``, (B, F, T)."""
        n_channels = self.mixture.shape[2]
        product = precision * self._outer
        return product[:, :, :n_channels].sum(2) + 2 * product[:, :, n_channels:].sum(2)

    def _whiten(self, psd: Tensor) -> tuple[Tensor, Tensor]:
        """Packed ``Y⁻¹`` and (weighted) ``Y⁻¹ x xᴴ Y⁻¹``, each (B, F, M², T)."""
        precision, _ = inverse_and_logdet(self._covariance(psd))
        outer = pack_outer(apply_packed(precision, self.mixture))
        if self.likelihood.heavy_tailed:
            weight = self.likelihood.weight(self._energy(precision), self.mixture.shape[2])
            outer = outer * weight[:, :, None]
        return precision, outer


def _em(h: Tensor, a: Tensor, b: Tensor, pull: Tensor | float, strength: Tensor | float) -> Tensor:
    """``H ← H + H (A − B) H``: mean over frames of the posterior second moment divided by λ.

    With a prior, its mean is averaged in with the weight of ν frames. The value is computed as
    ``L (I + Lᴴ (A − B) L) Lᴴ`` with H = L Lᴴ: where a source has hardly any power in some
    direction, the terms of the plain form cancel, and the sum could become indefinite. The gradient
    is that of the plain form.
    """
    plain = hermitise(h + h @ (a - b) @ h)
    with torch.no_grad():
        root = torch.linalg.cholesky(regularise(h))
        values, vectors = torch.linalg.eigh(hermitise(root.mH @ (a - b) @ root))
        factor = root @ vectors * (1 + values).clamp_min(0).sqrt()[..., None, :]
        safe = factor @ factor.mH
    updated: Tensor = safe + (plain - plain.detach())
    return (updated + pull) / (1 + strength)


def _mu(h: Tensor, a: Tensor, b: Tensor, pull: Tensor | float, strength: Tensor | float) -> Tensor:
    """Solve ``H B H + ν H = H_old A H_old + ν H̄`` (Sawada et al. 2013, eq. 36, for ν = 0)."""
    return riccati(regularise(b), hermitise(h @ a @ h) + pull, strength)


FULL_RANK_UPDATES = {"em": _em, "mu": _mu}
