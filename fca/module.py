"""The separator as a torch module, for pipelines and for gradients through the separation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from fca.errors import InputError
from fca.frontend import SAMPLE_RATE
from fca.methods import DEFAULT_METHOD, Method
from fca.separator import Separator


class SeparatorModule(nn.Module):
    """Separates waveforms inside a network.

    Gradients flow through all iterations of the fit, from the sources to the waveforms and to
    whatever made them. They are exact for methods without latent vectors. Where these are found by
    steps of gradient or by refinement, they are constants, and so are the coordinates in which the
    ``deep-fca`` methods start: their gradients are approximate. The module works on the device and
    in the precision of its input. It has no parameters: every mixture is fitted from scratch.

    Parameters
    ----------
    method : str or Method
        Row of :data:`fca.methods.METHODS`.
    n_sources : int
        Number of talkers.
    sample_rate : int
        Sample rate of the waveforms in Hz; gradients pass at 16000 only.
    **options
        Options of :class:`~fca.separator.Separator` but ``device`` and ``dtype``, such as n_iter,
        which bounds the memory that gradients need.

    Raises
    ------
    InputError
        For options that do not exist or make no sense together, and for ``device`` and ``dtype``.

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
        if isinstance(method, Separator):
            raise InputError("a module takes a method and its options, and no separator")
        for name in ("device", "dtype"):
            if name in options:
                raise InputError(f"{name} cannot be chosen: it is that of the waveforms")
        self.separator = Separator(method, n_sources, device="cpu", **options)
        self.sample_rate = sample_rate

    def forward(self, waves: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Tensor:
        """Separate waveforms.

        Parameters
        ----------
        waves : Tensor
            (channels, samples) or (B, channels, samples).
        lengths : Tensor or sequence of int, optional
            Number of samples of each recording in a padded batch (B, channels, samples). Each
            recording is then separated as if it were alone.

        Returns
        -------
        Tensor
            Sources, (N, samples) or (B, N, samples); silent beyond the end of a recording.

        Raises
        ------
        InputError
            For waveforms that cannot be separated, or lengths that do not fit; one line says why.
        """
        separator = copy.copy(self.separator)
        separator.device = waves.device
        separator.dtype = torch.promote_types(waves.dtype, torch.float32)
        if lengths is None:
            return separator(waves, self.sample_rate).sources.to(waves.dtype)
        samples = waves.shape[-1]
        alone = [
            separator(wave[:, :length], self.sample_rate).sources
            for wave, length in zip(waves, _checked(lengths, waves), strict=True)
        ]
        padded = [pad(sources, (0, samples - sources.shape[-1])) for sources in alone]
        return torch.stack(padded).to(waves.dtype)

    def extra_repr(self) -> str:
        separator = self.separator
        return f"{separator.method.name}, n_sources={separator.n_sources}"


def _checked(lengths: Tensor | Sequence[int], waves: Tensor) -> list[int]:
    """Lengths as integers, one for each recording of a batch (B, channels, samples)."""
    counts = [int(length) for length in lengths]
    if waves.ndim != 3 or len(counts) != len(waves):
        raise InputError(
            f"{len(counts)} lengths need waveforms ({len(counts)}, channels, samples), "
            f"got {tuple(waves.shape)}"
        )
    if not all(1 <= count <= waves.shape[-1] for count in counts):
        raise InputError(f"lengths must be between 1 and {waves.shape[-1]}, got {counts}")
    return counts
