"""From a mixture to the posteriors of its sources' latent vectors, and to the basis Q if wanted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fca.linalg import abs2
from fca.neural.blocks import BLOCKS
from fca.prior.model import LOG_POWER_SPREAD, TYPICAL_LOG_POWER
from fca.spatial.base import FLOOR
from fca.spatial.demixing import iss
from fca.spatial.observation import Observation, identity_demixing

_EPSILON = 1e-6
_LOG_WEIGHT_RANGE = 6.0


@dataclass(frozen=True)
class Encoding:
    """Output of the encoder for a mixture.

    Attributes
    ----------
    raw : Tensor
        Unconstrained parameters of the posteriors, (B, N, T, P).
    log_level : Tensor
        Logarithm of the sources' levels e, (B, 1, N, 1).
    demixing : Tensor
        Q, (B, F, M, M); the identity from encoders of full-rank models.
    gains : Tensor
        g, (B, F, N, M); ones from encoders of full-rank models.
    """

    raw: Tensor
    log_level: Tensor
    demixing: Tensor
    gains: Tensor


class Encoder(nn.Module):
    """Blocks of layers over frames; in FastFCA with a sweep of ISS between successive blocks.

    The input is ``log |x₁|²``, and the phase differences of the other microphones to the first as
    unit phasors (Bando et al. 2021). The encoder of a jointly diagonal model outputs, between
    blocks, weights in place of ``1/ỹ`` for a sweep of iterative source steering; the next block
    also sees the outputs ``log |Qx|²`` of the resulting basis (Bando et al. 2023). The last block
    outputs the gains, as weights on the mean output powers.

    Parameters
    ----------
    n_freq, n_channels, n_sources : int
        F, M and N, the background included.
    n_parameters : int
        P, the number of parameters per posterior.
    raw_prior : Tensor, optional
        Parameters (P,) with which all posteriors begin; random unless given.
    block : str
        A key of :data:`fca.neural.blocks.BLOCKS`.
    n_blocks, n_layers : int
        Number of blocks, and of layers in each.
    width, hidden : int
        Channels between and inside blocks.
    diagonal : bool
        Whether to output Q and g.
    levels : bool
        Whether to output the sources' levels; otherwise they are one.
    """

    def __init__(
        self,
        n_freq: int,
        n_channels: int,
        n_sources: int,
        n_parameters: int,
        raw_prior: Tensor | None,
        *,
        block: str,
        n_blocks: int,
        n_layers: int,
        width: int,
        hidden: int,
        diagonal: bool,
        levels: bool,
    ) -> None:
        super().__init__()
        self.n_sources = n_sources
        self.lean = False
        self.enter = nn.Linear((2 * n_channels - 1) * n_freq, width)
        self.blocks = nn.ModuleList(BLOCKS[block](width, hidden, n_layers) for _ in range(n_blocks))
        self.posterior = nn.Linear(width, n_sources * n_parameters)
        if raw_prior is not None:
            _begin_at(self.posterior, raw_prior.repeat(n_sources))
        self.level = nn.Linear(width, n_sources) if levels else None
        n_outputs = n_freq * n_channels
        sweeps = n_blocks - 1 if diagonal else 0
        self.weigh = nn.ModuleList(nn.Linear(width, n_outputs) for _ in range(sweeps))
        self.see = nn.ModuleList(nn.Linear(n_outputs, width) for _ in range(sweeps))
        self.gains = nn.Linear(width, n_outputs * n_sources) if diagonal else None

    def forward(self, mixture: Tensor) -> Encoding:
        """Encoding of mixtures X (B, F, M, T) of unit mean power.

        If ``lean`` is set, activations inside blocks are recomputed in the backward pass.
        """
        hidden = self.enter(features(mixture))
        demixing = identity_demixing(mixture)
        for k in range(len(self.blocks)):
            if self.lean:
                stage = checkpoint(self._stage, k, hidden, demixing, mixture, use_reentrant=False)
            else:
                stage = self._stage(k, hidden, demixing, mixture)
            hidden, demixing = stage
        raw = self.posterior(hidden).unflatten(-1, (self.n_sources, -1)).transpose(1, 2)
        return Encoding(
            raw, self._log_level(hidden), demixing, self._gains(hidden, demixing, mixture)
        )

    def _stage(
        self, k: int, hidden: Tensor, demixing: Tensor, mixture: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One block and the sweep of ISS that follows it, if any."""
        hidden = self.blocks[k](hidden)
        if k >= len(self.weigh):
            return hidden, demixing
        log_weight = _frequency_major(self.weigh[k](hidden), mixture.shape[2])
        demixing = sweep(demixing, mixture, _bounded(log_weight).exp())
        seen = _time_major(_standardised(abs2(demixing @ mixture)))
        return hidden + self.see[k](seen), demixing

    def _log_level(self, hidden: Tensor) -> Tensor:
        if self.level is None:
            return hidden.new_zeros(len(hidden), 1, self.n_sources, 1)
        return _bounded(self.level(hidden).mean(1))[:, None, :, None]

    def _gains(self, hidden: Tensor, demixing: Tensor, mixture: Tensor) -> Tensor:
        """``g_nfm ∝ Σ_t σ(·) |Qx|²``, of unit mean over m, (B, F, N, M)."""
        batch, n_freq, n_channels, n_frames = mixture.shape
        if self.gains is None:
            return hidden.new_ones(batch, n_freq, self.n_sources, n_channels)
        masks = self.gains(hidden).sigmoid().reshape(batch, n_frames, self.n_sources, n_freq, -1)
        gains = torch.einsum("btnfm,bfmt->bfnm", masks, abs2(demixing @ mixture))
        return (gains / gains.mean(-1, keepdim=True)).clamp_min(FLOOR)


@torch.no_grad()
def _begin_at(layer: nn.Linear, outputs: Tensor) -> None:
    """Let a layer give these ``outputs`` at first, whatever it is given."""
    layer.weight.zero_()
    layer.bias.copy_(outputs)


def features(mixture: Tensor) -> Tensor:
    """``log |x₁|²`` and phasors ``x_m x₁*/|x_m x₁*|`` of X (B, F, M, T), (B, T, (2M − 1) F)."""
    first = mixture[:, :, :1]
    product = mixture[:, :, 1:] * first.conj()
    phasor = product / product.abs().clamp_min(_EPSILON)
    parts = [_standardised(abs2(first)), phasor.real, phasor.imag]
    return torch.cat([_time_major(part) for part in parts], dim=-1)


def sweep(demixing: Tensor, mixture: Tensor, weight: Tensor) -> Tensor:
    """One sweep of ISS on Q with frame weights (B, F, M, T), then outputs scaled to unit power.

    Otherwise the scale of Q would be that of the weights, which the network may choose freely.
    """
    moved = iss(demixing, Observation(mixture).covariance(weight), lambda rows: rows)
    power = abs2(moved @ mixture).mean((1, 2, 3), keepdim=True)
    return moved / power.sqrt()


def _standardised(power: Tensor) -> Tensor:
    """Log-power of about zero mean and unit variance."""
    return ((power + _EPSILON).log() - TYPICAL_LOG_POWER) / LOG_POWER_SPREAD


def _bounded(values: Tensor) -> Tensor:
    return _LOG_WEIGHT_RANGE * torch.tanh(values / _LOG_WEIGHT_RANGE)


def _time_major(values: Tensor) -> Tensor:
    """(B, F, M, T) to (B, T, F M)."""
    return values.permute(0, 3, 1, 2).flatten(2)


def _frequency_major(values: Tensor, n_channels: int) -> Tensor:
    """(B, T, F M) to (B, F, M, T)."""
    split = values.reshape(*values.shape[:2], -1, n_channels)
    return split.permute(0, 2, 3, 1)
