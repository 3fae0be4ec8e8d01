"""Small networks over frames, fast on a CPU.

Time-major, (..., T, C): temporal context is a concatenation of shifted copies in front of a linear
layer, which runs several times faster on a CPU than a dilated convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def shift(frames: Tensor, by: int) -> Tensor:
    """Frames (..., T, C) delayed by ``by`` (advanced if negative), zeros moving in."""
    length = frames.shape[-2]
    if abs(by) >= length:
        return torch.zeros_like(frames)
    kept = frames[..., : length - by, :] if by > 0 else frames[..., -by:, :]
    return functional.pad(kept, (0, 0, max(by, 0), max(-by, 0)))


class ContextBlock(nn.Module):
    """Residual block ``h + W₂ GELU(W₁ [h_{t−d}; h_t; h_{t+d}])`` on normalised h.

    Parameters
    ----------
    width : int
        C.
    dilation : int
        d in frames; 0 for a block without temporal context.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.shifts = (dilation, 0, -dilation) if dilation else (0,)
        self.norm = nn.LayerNorm(width)
        self.gather = nn.Linear(len(self.shifts) * width, width)
        self.update = nn.Linear(width, width)

    def forward(self, frames: Tensor) -> Tensor:
        """(..., T, C) to the same shape."""
        normed = self.norm(frames)
        context = torch.cat([shift(normed, s) if s else normed for s in self.shifts], dim=-1)
        change: Tensor = self.update(functional.gelu(self.gather(context)))
        return frames + change


class FrameNetwork(nn.Sequential):
    """Linear layer, residual blocks with growing context, linear layer.

    Parameters
    ----------
    n_in, width, n_out : int
        Channels before, inside and after.
    dilations : sequence of int
        One block each; the receptive field is ``1 + 2 Σ dilations`` frames.
    """

    def __init__(self, n_in: int, width: int, n_out: int, dilations: Sequence[int]) -> None:
        blocks = [ContextBlock(width, dilation) for dilation in dilations]
        ends = nn.Linear(n_in, width), nn.LayerNorm(width), nn.Linear(width, n_out)
        super().__init__(ends[0], *blocks, *ends[1:])
