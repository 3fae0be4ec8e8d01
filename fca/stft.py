"""Short-time Fourier transform with a periodic Hann window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fca.errors import InputError, whole


@dataclass(frozen=True)
class STFT:
    """Analysis and perfect-reconstruction synthesis of waveforms.

    Equal to ``torchaudio.transforms.Spectrogram(n_fft, hop_length=hop, power=None)`` except that
    the ends are padded with zeros, so that signals shorter than a window are defined too.

    Parameters
    ----------
    n_fft : int
        Window length in samples, even and at least 4.
    hop : int
        Frame shift in samples, at most half a window.

    Raises
    ------
    InputError
        For other windows or shifts.
    """

    n_fft: int = 1024
    hop: int = 256

    def __post_init__(self) -> None:
        for name in ("n_fft", "hop"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.n_fft < 4 or self.n_fft % 2:
            raise InputError(f"n_fft must be even and at least 4, got {self.n_fft}")
        if not 1 <= self.hop <= self.n_fft // 2:
            raise InputError(f"hop must be from 1 to n_fft / 2 = {self.n_fft // 2}, got {self.hop}")

    @property
    def n_freq(self) -> int:
        """Number of frequency bins F."""
        return self.n_fft // 2 + 1

    def padded(self, length: int) -> int:
        """Least length, ``length`` or more, at which every sample is well inside some frame.

        With hops of more than a third of a window, the last samples may be seen only by the edge of
        a frame; the synthesis of filtered frames would then divide them by almost nothing.
        """
        return length if 3 * self.hop <= self.n_fft else -(-length // self.hop) * self.hop

    def analyse(self, signal: Tensor) -> Tensor:
        """Complex spectrogram (..., F, T) of ``signal`` (..., samples), T = samples // hop + 1."""
        flat = signal.reshape(-1, signal.shape[-1])
        spectrum = torch.stft(
            flat,
            self.n_fft,
            self.hop,
            window=self._window(flat),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        return spectrum.reshape(*signal.shape[:-1], *spectrum.shape[-2:])

    def synthesise(self, spectrum: Tensor, length: int) -> Tensor:
        """Waveform (..., length) of a complex spectrogram (..., F, T)."""
        flat = spectrum.reshape(-1, *spectrum.shape[-2:])
        window = self._window(flat.real)
        signal = torch.istft(flat, self.n_fft, self.hop, window=window, center=True, length=length)
        return signal.reshape(*spectrum.shape[:-2], length)

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.n_fft, dtype=like.dtype, device=like.device)
