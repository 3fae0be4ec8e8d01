"""Spatial clustering by complex angular central Gaussian mixtures (Ito et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.beamforming import apply, mvdr
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

_TINY = 1e-10
"""Least probability ..."""
_FAINTEST = 1e-20
"""... and power of a bin, relative to that of the mixture."""


class CACGMM:
    """Mixture of complex angular central Gaussians over the directions ``ŷ = x / ‖x‖``.

    The mixture weights ``π_kt`` are shared over frequencies, which ties most of them together;
    what permutations remain are aligned by the activity of the masks. Sources are extracted by an
    MVDR beamformer for each class.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    n_classes : int
        K, talkers plus noise.
    generator : torch.Generator
        Draws the initial masks.
    activity : Tensor, optional
        Known activities of the classes (B, K, T): where a class is below one half, it has no part
        (guided source separation, Boeddeker et al. 2018). Some class must be active in each frame.
    masks : Tensor, optional
        Initial masks of the classes, (B, F, K, T); random ones unless given.
    observation : Observation, optional
        The mixture with its outer products, if there is one already.

    Attributes
    ----------
    weights : Tensor or None
        Mixture weights π_kft of every bin, (B, F, K, T), once they are known from elsewhere; they
        tie the frequencies together, which are then no longer aligned.

    Raises
    ------
    InputError
        If there is no class.
    """

    def __init__(
        self,
        mixture: Tensor,
        n_classes: int,
        generator: torch.Generator,
        activity: Tensor | None = None,
        masks: Tensor | None = None,
        observation: Observation | None = None,
    ) -> None:
        if n_classes < 1:
            raise InputError(f"clustering needs at least one class, got {n_classes}")
        self.mixture = mixture
        self._outer = (observation or Observation(mixture)).outer
        self._power = abs2(mixture).sum(2, keepdim=True).clamp_min(_FAINTEST)
        self._barrier = None if activity is None else _barrier(activity.to(self._power))
        if masks is None:
            masks = random_masks(mixture, n_classes, generator)
        self._posterior = masks.clamp_min(_TINY)
        self.weights: Tensor | None = None
        if self._barrier is not None:
            equal = self._barrier.softmax(2).expand(-1, mixture.shape[1], -1, -1)
            self._posterior = equal.clamp_min(_TINY)
        self._energy = self._power.expand_as(self._posterior)
        self._steps = 0

    @property
    def masks(self) -> Tensor:
        """Posterior class probabilities γ, (B, F, K, T), aligned over frequency."""
        if self._tied:
            return self._posterior
        return reorder(self._posterior, align(self._posterior))

    @property
    def _tied(self) -> bool:
        """Whether it is known which class is whose at every frequency."""
        return self._barrier is not None or self.weights is not None

    def step(self) -> None:
        """One EM iteration; every tenth first aligns the frequencies."""
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
        if self._steps == 0:
            return torch.zeros_like(self._energy[:, 0, 0, 0])
        scale = self.mixture.shape[2] * self._power[:, :, 0].log()
        return -(self._log_joint().logsumexp(2) + scale).mean((1, 2))

    def images(self, channels: slice = slice(None)) -> Tensor:
        """MVDR estimates of the class images, complex (B, F, K, C, T)."""
        masks = self.masks
        target = weighted_covariance(self._outer, masks)
        noise = weighted_covariance(self._outer, 1 - masks)
        references = range(*channels.indices(self.mixture.shape[2]))
        beams = [apply(mvdr(target, noise, m), self.mixture) for m in references]
        return torch.stack(beams, dim=3)

    def _log_joint(self) -> Tensor:
        """``log π_k − log|B_k| − M log xᴴB_k⁻¹x``, (B, F, K, T): eq. 19 less ``M log ‖x‖²``."""
        n_channels = self.mixture.shape[2]
        joint = self._prior.log() - self._logdet[..., None] - n_channels * self._energy.log()
        return joint if self._barrier is None else joint + self._barrier


def _barrier(activity: Tensor) -> Tensor:
    """Log-probability (B, 1, K, T) that keeps classes out of frames in which they are silent."""
    return torch.where(activity > 0.5, 0.0, -1e4).to(activity)[:, None]


def _covariance_update(outer: Tensor, masks: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
    """``B_k = M Σ_t γ ŷŷᴴ/(ŷᴴB_k⁻¹ŷ) / Σ_t γ`` (eq. 21): packed inverses and log-determinants.

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
    """Random activities, the same at all frequencies, held for a quarter of a second or so."""
    batch, n_freq, _, n_frames = mixture.shape
    n_blocks = max(n_frames // 16, 1)
    weights = torch.rand((batch, n_classes, n_blocks), generator=generator) ** 2 + 0.05
    index = torch.arange(n_frames) * n_blocks // n_frames
    weights = weights[..., index].to(mixture.real)
    return (weights / weights.sum(1, keepdim=True))[:, None].expand(-1, n_freq, -1, -1)
