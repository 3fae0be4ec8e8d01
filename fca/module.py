"""The separator as a layer: for pipelines of torch modules, and for gradients through it."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from fca.frontend import SAMPLE_RATE
from fca.methods import DEFAULT_METHOD, Method
from fca.separator import Separator


class SeparatorModule(nn.Module):
    """Separates waveforms inside a network.

    The fit is unrolled, so that gradients flow from the sources to the waveforms and to whatever
    made them. It works on the device and in the precision of its input. There are no parameters:
    every mixture is fitted from scratch.

    Parameters
    ----------
    method : str or Method
        Row of :data:`fca.methods.METHODS`.
    n_sources : int
        Number of talkers.
    sample_rate : int
        Of the waveforms, in Hz; gradients pass at 16000 only.
    **options
        Of :class:`~fca.separator.Separator`, such as n_iter, which bounds the memory that gradients
        need.

    Raises
    ------
    InputError
        For options that do not exist or make no sense together.

    Examples
    --------
    >>> import torch
    >>> from fca.module import SeparatorModule
    >>> layer = SeparatorModule("auxiva", n_sources=2, n_iter=2, n_fft=512)
    >>> waves = torch.randn(2, 8000, requires_grad=True)
    >>> layer(waves).square().sum().backward()
    >>> waves.grad.shape
    torch.Size([2, 8000])
    """

    def __init__(
        self,
        method: str | Method = DEFAULT_METHOD,
        n_sources: int = 2,
        sample_rate: int = SAMPLE_RATE,
        **options: Any,
    ) -> None:
        super().__init__()
        self.separator = Separator(method, n_sources, device="cpu", **options)
        self.sample_rate = sample_rate

    def forward(self, waves: Tensor) -> Tensor:
        """Sources (..., N, samples) of waveforms (..., channels, samples).

        Raises
        ------
        InputError
            For waveforms that cannot be separated; one line says why.
        """
        separator = copy.copy(self.separator)
        separator.device = waves.device
        return separator(waves, self.sample_rate).sources.to(waves.dtype)

    def extra_repr(self) -> str:
        separator = self.separator
        return f"{separator.method.name}, n_sources={separator.n_sources}"
