"""Spatial models whose covariances are diagonal in one common basis Q_f.

``H_nf = Q_f⁻¹ diag(g_nf) Q_f⁻ᴴ``: with free gains g these are the jointly diagonalisable models of
FastMNMF (Sekiguchi et al. 2020) and FastFCA (Ito et al. 2018); with g fixed to the rows of an
identity they are the rank-1 models of IVA and ILRMA, Q being the demixing matrix.
"""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod

import torch
from torch import Tensor

from fca.errors import InputError, check_choice
from fca.likelihood import Gaussian, Likelihood
from fca.linalg import abs2, hermitise, real_form
from fca.memo import Latest
from fca.spatial.base import (
    FLOOR,
    ObservedStatistics,
    SpatialModel,
    Statistics,
    inverse_psd,
    log_abs_det,
    log_psd,
)
from fca.spatial.demixing import DEMIXING_UPDATES, orthogonal_background
from fca.spatial.observation import Observation


class Diagonal(SpatialModel):
    """Common basis Q, the powers of its outputs ``x̃ = |Qx|²``, and its updates.

    Parameters
    ----------
    mixture : Tensor or Observation
        X, complex (B, F, M, T), or an observation that Q is applied to.
    demixing : Tensor
        Initial Q, (B, F, M, M).
    n_sources : int
        N.
    update : {"ip", "ip2", "iss"}
        How Q is updated.
    likelihood : Likelihood
        Gaussian unless given.
    """

    def __init__(
        self,
        mixture: Tensor | Observation,
        demixing: Tensor,
        n_sources: int,
        update: str = "ip",
        likelihood: Likelihood | None = None,
    ) -> None:
        check_choice("update", update, DEMIXING_UPDATES, " of a demixing matrix")
        self.observation = mixture if isinstance(mixture, Observation) else Observation(mixture)
        self.mixture = self.observation.mixture
        self.n_sources = n_sources
        self.likelihood: Likelihood = likelihood or Gaussian()
        self._step = DEMIXING_UPDATES[update]
        self._power_of = Latest(_power)
        self.demixing = self._refresh(demixing)

    @property
    def mixing(self) -> Tensor:
        """Q⁻¹ at the microphones, (B, F, M, D); D < M where Q sees a subspace."""
        return self.observation.at_microphones(torch.linalg.inv(self.demixing))

    @property
    def outputs(self) -> Tensor:
        """Q x, complex (B, F, M, T)."""
        result: Tensor = self.observation.rows(self.demixing) @ self.observation.frames
        return result

    @property
    def power(self) -> Tensor:
        """x̃ = |Qx|², (B, F, M, T); cached until Q is replaced."""
        observation = self.observation
        return self._power_of(observation.rows(self.demixing), observation.stacked)

    def _update_demixing(self, weight: Tensor) -> None:
        """One pass over the first K rows of Q, with frame weights (B, F, K, T)."""
        observation, complete = self.observation, weight.shape[2] == self.demixing.shape[2]
        # otherwise the background is refreshed with the covariance of all frequencies
        bands = observation.by_bands(weight) if complete else [observation.adapt(weight)]
        updated, at = [], 0
        for covariance in bands:
            rows = self.demixing[:, at : at + covariance.shape[1]]
            updated.append(self._step(rows, covariance, self._refresh))
            at += covariance.shape[1]
        self.demixing = torch.cat(updated, dim=1)

    def images(self, psd: Tensor, channels: slice = slice(None)) -> Tensor:
        early = functools.partial(self.early_images, psd)
        return self.observation.images(self.demixing, early, channels)

    @abstractmethod
    def early_images(self, psd: Tensor, channels: slice) -> Tensor:
        """:meth:`images` of what the rows of Q pass, without any late reverberation."""

    def _refresh(self, demixing: Tensor) -> Tensor:
        return demixing


class Rank1(Diagonal):
    """One demixing row per source: ``H_n = a_n a_nᴴ`` with a_n a column of ``Q⁻¹``.

    With N < M sources the remaining rows span a stationary background, uncorrelated with the
    sources (OverIVA, Scheibler & Ono 2019).

    Raises
    ------
    InputError
        If there are more sources than microphones.
    """

    def __init__(
        self,
        mixture: Tensor | Observation,
        demixing: Tensor,
        n_sources: int,
        update: str = "ip",
        likelihood: Likelihood | None = None,
    ) -> None:
        check_rank1(n_sources, demixing.shape[2])
        super().__init__(mixture, demixing, n_sources, update, likelihood)
        self._weight_of = Latest(inverse_psd)

    def statistics(self, psd: Tensor) -> Statistics:
        power = self.power[:, :, : self.n_sources]
        if self.likelihood.heavy_tailed:
            power = self.likelihood.weight(power / psd, 1) * power
            return ObservedStatistics(psd, power, lambda: self.bin_nll(psd))
        return ObservedStatistics(psd, power)

    def update(self, psd: Tensor) -> None:
        weight = self._weight_of(psd)
        if self.likelihood.heavy_tailed:
            weight = self.likelihood.weight(self.power[:, :, : self.n_sources] / psd, 1) * weight
        self._update_demixing(weight)

    def bin_nll(self, psd: Tensor) -> Tensor:
        precision = self._weight_of(psd)
        energy = self.likelihood.energy(self.power[:, :, : self.n_sources] * precision, 1)
        sources = energy.sum(2) + log_psd(psd).sum(2)
        log_volume = self._background_log_det() - 2 * log_abs_det(self.demixing)
        return sources + log_volume[..., None]

    def scale(self) -> Tensor:
        return column_power(self.mixing)[..., : self.n_sources]

    def rescale(self, factor: Tensor) -> None:
        rows = self.demixing[:, :, : self.n_sources] / factor.sqrt()[..., None]
        self.demixing = torch.cat([rows, self.demixing[:, :, self.n_sources :]], dim=2)

    def of(self, recordings: slice) -> Rank1:
        """The model of some recordings of the batch, of which it observes the plain mixture."""
        mixture, demixing = self.mixture[recordings], self.demixing[recordings]
        other = Rank1(mixture, demixing, self.n_sources, likelihood=self.likelihood)
        other._step = self._step
        return other

    def early_images(self, psd: Tensor, channels: slice) -> Tensor:
        """``x̂_n = a_n q_nᴴ x``: the Wiener filter of a rank-1 model does not depend on λ."""
        columns = self.mixing[:, :, channels, : self.n_sources].mT
        return columns[..., None] * self.outputs[:, :, : self.n_sources, None]

    def scm(self) -> Tensor:
        columns = self.mixing[..., : self.n_sources].mT
        return columns[..., :, None] * columns[..., None, :].conj()

    def background_covariance(self) -> Tensor | None:
        """``B (W C Wᴴ) Bᴴ`` with the background's rows W of Q and columns B of Q⁻¹."""
        rows, columns = self.demixing[:, :, self.n_sources :], self.mixing[..., self.n_sources :]
        if rows.shape[2] == 0:
            return None
        return hermitise(columns @ (rows @ self._mixture_covariance @ rows.mH) @ columns.mH)

    @functools.cached_property
    def _mixture_covariance(self) -> Tensor:
        return self.observation.covariance(torch.ones_like(self.mixture.real[:, :, :1]))[:, :, 0]

    def _refresh(self, demixing: Tensor) -> Tensor:
        if self.n_sources == demixing.shape[-1]:
            return demixing
        return orthogonal_background(demixing, self._mixture_covariance, self.n_sources)

    def _background_log_det(self) -> Tensor:
        """Log-determinant of the background's covariance, for its likelihood at the optimum."""
        rows = self.demixing[:, :, self.n_sources :]
        if rows.shape[2] == 0:
            return torch.zeros_like(self.power[:, :, 0, 0])
        return log_abs_det(rows @ self._mixture_covariance @ rows.mH)


def column_power(mixing: Tensor) -> Tensor:
    """Mean power over the microphones, (B, F, M), of the columns of Q⁻¹ (B, F, M, M)."""
    return abs2(mixing).mean(2)


def check_rank1(n_sources: int, n_channels: int) -> None:
    """Raise :class:`InputError` if there are more sources than a demixing matrix has rows."""
    if n_sources > n_channels:
        raise InputError(
            f"a rank-1 model separates at most as many sources as microphones: "
            f"{n_sources} sources, {n_channels} microphones"
        )


GAIN_UPDATES = {"mm": 0.5, "me": 1.0}
"""Exponents of the multiplicative updates of gains."""


class JointlyDiagonal(Diagonal):
    """Jointly diagonalisable full-rank covariances with multiplicative updates of the gains.

    Parameters
    ----------
    mixture, demixing, update, likelihood
        As in :class:`Diagonal`.
    gains : Tensor
        Initial g, (B, F, N, M); (B, 1, N, M) shares them over frequency (FastMNMF2).
    gain_update : {"mm", "me"}
        How far a multiplicative update of the gains goes on the majoriser ``p/g + q g`` of the
        cost. "mm" (majorisation-minimisation) goes to its minimum. "me" (majorisation-equalisation,
        Févotte & Idier 2011, sec. 4.3) goes on to where it has its old value again: about twice as
        far, and still without raising the cost.
    """

    def __init__(
        self,
        mixture: Tensor | Observation,
        demixing: Tensor,
        gains: Tensor,
        update: str = "ip",
        likelihood: Likelihood | None = None,
        gain_update: str = "mm",
    ) -> None:
        check_choice("update", gain_update, GAIN_UPDATES, " of gains")
        super().__init__(mixture, demixing, gains.shape[2], update, likelihood)
        self.gains = gains
        self._exponent = GAIN_UPDATES[gain_update]
        self._precision_of = Latest(_precision)

    def statistics(self, psd: Tensor) -> Statistics:
        weighted, precision = self._weights(psd)
        quadratic, trace = self.gains @ weighted, self.gains @ precision
        return Statistics(psd, quadratic, trace, self.power.shape[2], lambda: self.bin_nll(psd))

    def update(self, psd: Tensor) -> None:
        """Update of g (Sekiguchi et al. 2020, eq. 33, for "mm"), then one pass over Q."""
        weighted, precision = self._weights(psd)
        numerator, denominator = weighted @ psd.mT, precision @ psd.mT
        if self.gains.shape[1] == 1:
            numerator = numerator.sum(1, keepdim=True)
            denominator = denominator.sum(1, keepdim=True)
        denominator = denominator.clamp_min(torch.finfo(psd.dtype).tiny)  # 0 if a copy is too late
        self._scale_gains((numerator / denominator).pow(self._exponent).mT)
        self._update_demixing(self._row_weights(psd))

    def untie(self) -> None:
        self.gains = self.gains.expand(-1, self.mixture.shape[1], -1, -1).contiguous()

    def with_diffuse(self) -> JointlyDiagonal:
        mean = self.gains.mean((2, 3), keepdim=True).expand_as(self.gains[:, :, :1])
        return self.with_gains(torch.cat([self.gains, mean], dim=2))

    def on_whole_array(self, psd: Tensor) -> JointlyDiagonal:
        whole = self.observation.complete(self.demixing)
        n_others = whole.shape[-1] - self.demixing.shape[-1]
        heard = (self.gains > 0).any(-1, keepdim=True).to(psd)  # some copies may be unused
        level = (heard * psd.mean(-1, keepdim=True)).sum(2, keepdim=True)
        others = (heard / level).expand(-1, -1, -1, n_others)
        known = self.gains.expand(-1, psd.shape[1], -1, -1)
        gains = torch.cat([known, others], dim=3)
        return self.with_gains(gains).at(Observation(self.mixture), whole)

    def at(self, observation: Observation, demixing: Tensor) -> JointlyDiagonal:
        """The same sources in another observation, with the basis Q there, (B, F, M, M)."""
        other = copy.copy(self)
        other.observation, other.mixture = observation, observation.mixture
        other.demixing = demixing
        return other

    def with_gains(self, gains: Tensor) -> JointlyDiagonal:
        """The same basis with other sources, described by gains (B, F or 1, N, M)."""
        other = copy.copy(self)
        other.gains, other.n_sources = gains, gains.shape[2]
        return other

    def bin_nll(self, psd: Tensor) -> Tensor:
        precision = self._precision(psd)
        energy = self.likelihood.energy((self.power * precision).sum(2), self.power.shape[2])
        volume = self.observation.unseen_nll - 2 * log_abs_det(self.demixing)
        return energy - precision.log().sum(2) + volume[..., None]

    def scale(self) -> Tensor:
        trace = column_power(self.mixing)[:, :, None] @ self.gains.mT
        scale: Tensor = trace[:, :, 0]
        return scale.mean(1, keepdim=True) if self.gains.shape[1] == 1 else scale

    def rescale(self, factor: Tensor) -> None:
        self._scale_gains(factor[..., None])

    def early_images(self, psd: Tensor, channels: slice) -> Tensor:
        """``x̂_n = Q⁻¹ diag(λ_n g_n / ỹ) Q x``; see :meth:`SpatialModel.images`."""
        mixing = self.mixing[:, :, None, channels] * self.gains[..., None, :]
        whitened = self.outputs * self._precision(psd)
        images = (mixing.flatten(2, 3) @ whitened).view(*mixing.shape[:4], -1)
        return images * psd[:, :, :, None]

    def scm(self) -> Tensor:
        mixing = self.mixing[:, :, None]
        return (mixing * self.gains[..., None, :]) @ mixing.mH

    def _scale_gains(self, factor: Tensor) -> None:
        """Multiply g and keep it above the floor; gains that are zero stay zero."""
        scaled = (self.gains * factor).clamp_min(FLOOR)
        self.gains = torch.where(self.gains > 0, scaled, self.gains)

    def _precision(self, psd: Tensor) -> Tensor:
        """``1/ỹ``, (B, F, M, T); cached until λ or g is replaced."""
        return self._precision_of(psd, self.gains)

    def _weights(self, psd: Tensor) -> tuple[Tensor, Tensor]:
        """``x̃/ỹ²``, weighted by the likelihood, and ``1/ỹ``, both (B, F, M, T)."""
        precision = self._precision(psd)
        energy = self.power * precision
        if self.likelihood.heavy_tailed:
            energy = energy * self._frame_weight(energy)
        return energy.mul_(precision), precision

    def _row_weights(self, psd: Tensor) -> Tensor:
        """``1/ỹ``, weighted by the likelihood, (B, F, M, T): the weights for Q's covariances."""
        precision = self._precision(psd)
        if self.likelihood.heavy_tailed:
            precision = precision * self._frame_weight(self.power * precision)
        return precision

    def _frame_weight(self, energy: Tensor) -> Tensor:
        """Weight of each frame under the likelihood, (B, F, 1, T), from energies ``x̃/ỹ``."""
        return self.likelihood.weight(energy.sum(2, keepdim=True), energy.shape[2])


def _power(rows: Tensor, stacked: Tensor) -> Tensor:
    """``|Qx|²`` from the rows of Q.

    A product of real matrices is faster, as its squares are then read in memory order.
    """
    real, imag = (real_form(rows) @ stacked).chunk(2, dim=2)
    return real.square().addcmul_(imag, imag)


def _precision(psd: Tensor, gains: Tensor) -> Tensor:
    """``1/ỹ`` with ``ỹ_ftm = Σ_n λ_nft g_nfm``, (B, F, M, T)."""
    return (gains.mT @ psd).reciprocal_()
