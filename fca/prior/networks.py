"""Small networks over frames, fast on a CPU.

Tensors are time-major, (..., T, C). Temporal context is a concatenation of shifted copies before a
linear layer, which runs several times faster on a CPU than a dilated convolution.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def shift(frames: Tensor, by: int) -> Tensor:
    """Frames (..., T, C) delayed by ``by`` (advanced if it is negative), filled with zeros."""
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
        C, the number of channels.
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
    """Linear layer, residual blocks with temporal context, linear layer.

    With fixed weights, matrix products are computed in bfloat16 on processors that have
    instructions for it: twice as fast, with results as good.

    Parameters
    ----------
    n_in, width, n_out : int
        Channels before, inside and after.
    dilations : sequence of int
        Context of each block; the receptive field is ``1 + 2 Σ dilations`` frames.
    """

    def __init__(self, n_in: int, width: int, n_out: int, dilations: Sequence[int]) -> None:
        blocks = [ContextBlock(width, dilation) for dilation in dilations]
        ends = nn.Linear(n_in, width), nn.LayerNorm(width), nn.Linear(width, n_out)
        super().__init__(ends[0], *blocks, *ends[1:])
        self._half: tuple[object, nn.Sequential] | None = None

    def forward(self, frames: Tensor) -> Tensor:
        """(..., T, n_in) to (..., T, n_out) in the same precision."""
        half = self._in_bfloat16(frames)
        out = frames.to(torch.bfloat16) if half else frames
        for layer in self._in_half() if half else self:
            out = layer(out)
        return out.to(frames.dtype)

    @torch.inference_mode(False)  # callers may want gradients
    def _in_half(self) -> nn.Sequential:
        """The layers with matrices in bfloat16, converted again only when the weights have changed.

        They compute the same as automatic mixed precision, which however converts the weights in
        every call, and that takes as long as the products.
        """
        weights = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.parameters()]
        if self._half is None or self._half[0] != weights:
            layers = copy.deepcopy(nn.Sequential(*self))
            for layer in layers.modules():
                if isinstance(layer, nn.Linear):
                    layer.to(torch.bfloat16)
            self._half = weights, layers
        return self._half[1]

    def _in_bfloat16(self, frames: Tensor) -> bool:
        if _is_exporting() or any(p.requires_grad for p in self.parameters()):
            return False
        usual = frames.device.type == "cpu" and frames.dtype == torch.float32
        return usual and processor_has_bfloat16()


def _is_exporting() -> bool:
    """Whether the network is being exported, as far as torch can tell: from 2.7 on."""
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


@functools.cache
def processor_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products, as far as torch can tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
