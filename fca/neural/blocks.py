"""Blocks of the published encoders; tensors are time-major, (B, T, C), as in all networks here."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fca.prior.networks import shift


class GlobalNorm(nn.Module):
    """Zero mean and unit variance over frames and channels, then a gain and bias per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) to the same shape."""
        return functional.layer_norm(frames, frames.shape[-2:]) * self.weight + self.bias


class Depthwise(nn.Module):
    """Depthwise convolution: every channel is filtered over time with weights of its own.

    Parameters
    ----------
    width : int
        C, the number of channels.
    taps : int
        Length of the filters, odd.
    dilation : int
        Frames between taps.
    """

    def __init__(self, width: int, taps: int, dilation: int = 1) -> None:
        super().__init__()
        self.delays = [dilation * (k - taps // 2) for k in range(taps)]
        self.weight = nn.Parameter(torch.empty(taps, width).uniform_(-1, 1) / taps**0.5)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) to the same shape; zeros beyond the ends."""
        filtered = self.bias
        for delay, weight in zip(self.delays, self.weight, strict=True):
            filtered = filtered + weight * (shift(frames, delay) if delay else frames)
        return filtered


class Separable(nn.Module):
    """``h + W₂ n(depthwise(n(W₁ h)))``, where n is a rectifier (PReLU) and normalisation."""

    def __init__(self, width: int, hidden: int, dilation: int, taps: int = 3) -> None:
        super().__init__()
        layers = nn.Linear(width, hidden), Depthwise(hidden, taps, dilation)
        self.change = nn.Sequential(
            *(part for layer in layers for part in (layer, nn.PReLU(), GlobalNorm(hidden))),
            nn.Linear(hidden, width),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) to the same shape."""
        change: Tensor = self.change(frames)
        return frames + change


class DilatedBlock(nn.Sequential):
    """Separable convolutions with dilations 1, 2, 4, ... (Bando et al. 2021).

    Parameters
    ----------
    width, hidden : int
        Channels outside and inside.
    n_layers : int
        Number of dilations.
    """

    def __init__(self, width: int, hidden: int, n_layers: int) -> None:
        super().__init__(*(Separable(width, hidden, 2**k) for k in range(n_layers)))


class UNetBlock(nn.Module):
    """Residual one-dimensional U-Net: layers halve the number of frames, then double it again.

    Parameters
    ----------
    width, hidden : int
        Channels outside and inside.
    n_layers : int
        Number of layers; the first one keeps all frames.
    taps : int
        Length of the filters.
    """

    def __init__(self, width: int, hidden: int, n_layers: int, taps: int = 5) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Linear(width, hidden), GlobalNorm(hidden), nn.PReLU())
        self.down = nn.ModuleList(Depthwise(hidden, taps) for _ in range(n_layers))
        self.rectify = nn.ModuleList(
            nn.Sequential(GlobalNorm(hidden), nn.PReLU()) for _ in range(n_layers)
        )
        self.leave = nn.Sequential(GlobalNorm(hidden), nn.PReLU(), nn.Linear(hidden, width))

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, C) to the same shape."""
        hidden, levels = self.enter(frames), []
        for k, (filter_, rectify) in enumerate(zip(self.down, self.rectify, strict=True)):
            filtered = filter_(hidden)
            hidden = rectify(filtered if k == 0 else filtered[:, ::2])
            levels.append(hidden)
        for level in levels[-2::-1]:
            hidden = level + hidden.repeat_interleave(2, dim=1)[:, : level.shape[1]]
        change: Tensor = self.leave(hidden)
        return frames + change


BLOCKS: dict[str, type[DilatedBlock] | type[UNetBlock]] = {
    "dilated": DilatedBlock,
    "unet": UNetBlock,
}
