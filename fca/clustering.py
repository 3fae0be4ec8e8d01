"""Spatial clustering by complex angular central Gaussian mixtures (Ito et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.beamforming import beamformed
from fca.errors import InputError
from fca.linalg import (
    abs2,
    dual,
    inverse_and_logdet,
    pack,
    regularise,
    weighted_covariance,
)
from fca.permutation import align, reorder
from fca.spatial.observation import Observation
from fca.state import State

_TINY = 1e-10
"""Least probability of a class."""
_FAINTEST = 1e-20
"""Least power of a bin, relative to that of the mixture."""


class CACGMM(State):
    """Mixture of complex angular central Gaussians over the directions ``ŷ = x / ‖x‖``.

    The mixture weights ``π_kt`` are shared over frequencies, which ties most of them together;
    remaining permutations are aligned by the activities of the masks. Sources are extracted by an
    MVDR beamformer for each class.

    Parameters
    ----------
    observation : Observation
        The mixture.
    masks : Tensor
        Initial masks of the K classes, talkers and noise, (B, F, K, T): from :func:`random_masks`,
        or known from elsewhere.
    activity : Tensor, optional
        Known activities of the classes (B, K, T); see :meth:`guided`.

    Attributes
    ----------
    weights : Tensor or None
        Mixture weights π_kft of every bin, (B, F, K, T), if they are known from elsewhere, else
        None. They then tie the frequencies together, which are no longer aligned.
    """

    def __init__(
        self, observation: Observation, masks: Tensor, activity: Tensor | None = None
    ) -> None:
        self.mixture = observation.mixture
        self._outer = observation.outer
        self._power = abs2(self.mixture).sum(2, keepdim=True).clamp_min(_FAINTEST)
        self._barrier = None if activity is None else _barrier(activity.to(self._power))
        self._posterior = masks.clamp_min(_TINY)
        self.weights: Tensor | None = None
        self._energy = self._power.expand_as(self._posterior)  # B_k = I
        self._logdet = torch.zeros_like(self._posterior[..., 0])
        self._prior = self._posterior.mean(1, keepdim=True)
        self._steps = 0

    @classmethod
    def guided(cls, observation: Observation, activity: Tensor) -> CACGMM:
        """Classes of known activities (guided source separation, Boeddeker et al. 2018).

        A class takes no part in frames in which its activity is below one half; the others begin
        with equal masks there.

        Parameters
        ----------
        observation : Observation
            The mixture.
        activity : Tensor
            (B, K, T); at least one class must be active in each frame.
        """
        equal = _barrier(activity.to(observation.mixture.real)).softmax(2)
        masks = equal.expand(-1, observation.mixture.shape[1], -1, -1)
        return cls(observation, masks, activity)

    @property
    def masks(self) -> Tensor:
        """Posterior class probabilities γ, (B, F, K, T), aligned over frequency."""
        if self._tied:
            return self._posterior
        return reorder(self._posterior, align(self._posterior))

    @property
    def _tied(self) -> bool:
        """Whether the classes have the same order at every frequency already."""
        return self._barrier is not None or self.weights is not None

    def step(self) -> None:
        """One EM iteration; every tenth one first aligns the frequencies."""
        if self._steps % 10 == 9 and not self._tied:
            order = align(self._posterior)
            self._posterior = reorder(self._posterior, order)
            self._energy = reorder(self._energy, order)
        self._steps += 1
        weights = self.weights
        if weights is None:
            weights = self._posterior.mean(1, keepdim=True)
        self._prior = weights.clamp_min(_TINY)
        precision, self._logdet = _covariance_update(self._outer, self._posterior, self._energy)
        self._energy = _energies(self._outer, precision)
        self._posterior = self._log_joint().softmax(dim=2).clamp_min(_TINY)

    def cost(self) -> Tensor:
        """Negative log-likelihood per bin without constants, (B,)."""
        scale = self.mixture.shape[2] * self._power[:, :, 0].log()
        return -(self._log_joint().logsumexp(2) + scale).mean((1, 2))

    def images(self, channels: slice = slice(None)) -> Tensor:
        """MVDR estimates of the class images, complex (B, F, K, C, T)."""
        masks = self.masks
        target = weighted_covariance(self._outer, masks)
        noise = weighted_covariance(self._outer, 1 - masks)
        return beamformed(target, noise, self.mixture, channels)

    def _log_joint(self) -> Tensor:
        """``log π_k − log|B_k| − M log xᴴB_k⁻¹x``, (B, F, K, T): eq. 19 less ``M log ‖x‖²``."""
        n_channels = self.mixture.shape[2]
        joint = self._prior.log() - self._logdet[..., None] - n_channels * self._energy.log()
        return joint if self._barrier is None else joint + self._barrier


def _barrier(activity: Tensor) -> Tensor:
    """Log-probability (B, 1, K, T) that excludes classes from frames in which they are silent."""
    return torch.where(activity > 0.5, 0.0, -1e4).to(activity)[:, None]


def _covariance_update(outer: Tensor, masks: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
    """``B_k = M Σ_t γ ŷŷᴴ/(ŷᴴB_k⁻¹ŷ) / Σ_t γ`` (eq. 21), as packed inverses and log-determinants.

    The norm of x cancels in the fraction.
    """
    n_channels = round(outer.shape[2] ** 0.5)
    covariance = weighted_covariance(outer, masks / energy)
    covariance = n_channels * covariance / masks.mean(-1).clamp_min(_TINY)[..., None, None]
    eye = torch.eye(n_channels, dtype=covariance.dtype, device=covariance.device)
    covariance = regularise(covariance + 1e-4 * eye)
    return inverse_and_logdet(pack(covariance).mT)


def _energies(outer: Tensor, precision: Tensor) -> Tensor:
    """``xᴴ B_k⁻¹ x = tr(B_k⁻¹ xxᴴ)`` for every class, (B, F, K, T)."""
    return (dual(precision.mT) @ outer).clamp_min(_FAINTEST)


def random_masks(mixture: Tensor, n_classes: int, generator: torch.Generator) -> Tensor:
    """Masks (B, F, K, T) of random activities, each of which is held for about 16 frames.

    They are the same at all frequencies and in all recordings, so that none depends on the others
    of its batch.

    Raises
    ------
    InputError
        If there is no class.
    """
    if n_classes < 1:
        raise InputError(f"clustering needs at least one class, got {n_classes}")
    batch, n_freq, _, n_frames = mixture.shape
    n_blocks = max(n_frames // 16, 1)
    weights = torch.rand((n_classes, n_blocks), generator=generator) ** 2 + 0.05
    index = torch.arange(n_frames) * n_blocks // n_frames
    weights = weights[..., index].to(mixture.real)
    return (weights / weights.sum(0, keepdim=True)).expand(batch, n_freq, -1, -1)
