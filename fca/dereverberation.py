"""Dereverberation before separation, by weighted prediction error (nara_wpe)."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.extras import require
from fca.stft import STFT

WPE_STFT = STFT(512, 128)
"""A window of 32 ms: one as long as the models' would leave nothing to predict."""


def require_nara_wpe() -> None:
    """Raise :class:`~fca.errors.InputError` if nara_wpe is not installed."""
    require("nara_wpe.wpe", "dereverberation", "dereverberation needs")


def dereverberate(signal: Tensor, taps: int = 10, delay: int = 3, n_iter: int = 3) -> Tensor:
    """Recordings without their late reverberation (Nakatani et al. 2010; Drude et al. 2018).

    Parameters
    ----------
    signal : Tensor
        Recordings (..., channels, samples) at 16 kHz; gradients do not pass.
    taps, delay : int
        Number of frames of 8 ms that predict, and how far back the latest of them is.
    n_iter : int
        Iterations.

    Returns
    -------
    Tensor
        Recordings of the same shape.

    Raises
    ------
    InputError
        If nara_wpe is not installed.
    """
    require_nara_wpe()
    from nara_wpe.wpe import wpe

    spectrum = WPE_STFT.analyse(signal.detach().cpu().double()).movedim(-3, -2)
    early = wpe(spectrum.numpy(), taps=taps, delay=delay, iterations=n_iter)
    restored = torch.from_numpy(early).movedim(-2, -3)
    return WPE_STFT.synthesise(restored, signal.shape[-1]).to(signal)
