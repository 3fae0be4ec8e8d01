"""Inputs of a separation: a file, an array or a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fca import audio
from fca.errors import InputError, whole
from fca.frontend import SAMPLE_RATE

Signal = Tensor | ArrayLike | str | Path | Sequence[str | Path]


def load(mixture: Signal, sample_rate: int | None) -> tuple[Tensor, int]:
    """Recording (..., channels, samples) as a float tensor, and its rate.

    Raises
    ------
    InputError
        For a file, a shape or a type of samples that cannot be separated.
    """
    if isinstance(mixture, str | Path) or _are_paths(mixture):
        waveform, rate = audio.read(mixture)
        if sample_rate not in (None, rate):
            raise InputError(f"{mixture} has {rate} Hz, but sample_rate={sample_rate} was given")
        return torch.from_numpy(waveform), rate
    try:
        waves = as_tensor(mixture)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        kind = type(mixture).__name__
        raise InputError(f"expected an array, a tensor or a path, got {kind}") from None
    if waves.ndim not in (2, 3) or waves.numel() == 0:
        raise InputError(
            f"expected (channels, samples) or (batch, channels, samples), got {tuple(waves.shape)}"
        )
    check_floating(waves)
    plain = waves.clone() if waves.is_inference() else waves
    return plain, SAMPLE_RATE if sample_rate is None else whole("sample_rate", sample_rate)


def _are_paths(mixture: Signal) -> TypeGuard[Sequence[str | Path]]:
    """Whether the mixture is a list of files, one per microphone."""
    items = mixture if isinstance(mixture, list | tuple) else []
    return bool(items) and all(isinstance(item, str | Path) for item in items)


def check_floating(waves: Tensor) -> None:
    """Raise :class:`InputError` for integer samples, whose scale cannot be known."""
    if not waves.is_floating_point():
        raise InputError(
            f"expected floating-point samples, got {waves.dtype}: divide those of 16 bits by 32768"
        )


def as_tensor(samples: Tensor | ArrayLike) -> Tensor:
    """Samples as a tensor; arrays are first made contiguous, writable and native in byte order."""
    if isinstance(samples, np.ndarray):
        samples = np.ascontiguousarray(samples, samples.dtype.newbyteorder("="))
        samples = samples if samples.flags.writeable else samples.copy()
    return torch.as_tensor(samples)
