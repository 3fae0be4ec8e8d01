"""Images of talkers at the microphones: convolution, levels, and the noise below them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fca.errors import InputError

Array = NDArray[np.float64]
Range = tuple[float, float]

TALKER_RMS = 0.05
"""Root mean square of the first talker's image in a mixture (about -26 dB full scale)."""


def level_gains(images: Array, rng: np.random.Generator, level_db: Range) -> Array:
    """Gains (talkers,) that bring images (talkers, channels, samples) to levels drawn at random."""
    power = np.mean(images**2, axis=(1, 2))
    if not power.all():
        raise InputError("a talker is silent in its reverberant image")
    levels = np.concatenate([[0.0], rng.uniform(*level_db, len(images) - 1)])
    gains: Array = TALKER_RMS * 10 ** (levels / 20) / np.sqrt(power)
    return gains


def scaled_noise(
    images: Array, snr_db: float | None, noise: ArrayLike | None, rng: np.random.Generator
) -> Array:
    """Noise (channels, samples) at ``snr_db`` below the images (talkers, channels, samples)."""
    _, channels, samples = images.shape
    if snr_db is None:
        if noise is not None:
            raise InputError("noise needs a level: give snr_db")
        return np.zeros((channels, samples))
    if noise is None:
        noise = rng.standard_normal((channels, samples))
    noise = np.asarray(noise, dtype=float)
    if noise.ndim != 2 or len(noise) != channels or noise.shape[-1] < samples:
        raise InputError(f"the noise must be ({channels}, {samples} or more), not {noise.shape}")
    noise = noise[:, :samples]
    power = np.mean(noise**2)
    if power == 0:
        raise InputError("the noise is silent")
    target = np.mean(images.sum(axis=0) ** 2) * 10 ** (-snr_db / 10)
    scaled: Array = noise * np.sqrt(target / power)
    return scaled


def _direct(responses: Array) -> NDArray[np.intp]:
    """Sample of the direct sound: the first within 6 dB of the response's peak."""
    size = np.abs(responses)
    first: NDArray[np.intp] = np.argmax(size >= 0.5 * size.max(axis=-1, keepdims=True), axis=-1)
    return first


def early_part(responses: Array, seconds: float, sample_rate: int) -> Array:
    """Responses without what comes later than `seconds` after the direct sound."""
    last = _direct(responses) + round(seconds * sample_rate)
    kept: Array = np.where(np.arange(responses.shape[-1]) <= last[..., None], responses, 0.0)
    return kept


def delayed(dry: Array, responses: Array) -> Array:
    """Dry utterances with the delay and level of the direct sound."""
    out = np.zeros_like(dry)
    for n, delay in enumerate(_direct(responses)):
        out[n, delay:] = responses[n, delay] * dry[n, : dry.shape[-1] - delay]
    return out


def convolve(
    signals: NDArray[np.floating[Any]], responses: NDArray[np.floating[Any]], samples: int
) -> Array:
    """Convolution along the last axis, cut to `samples`."""
    size = 1 << (signals.shape[-1] + responses.shape[-1] - 2).bit_length()
    spectra = np.fft.rfft(signals, size) * np.fft.rfft(responses, size)
    convolved: Array = np.fft.irfft(spectra, size)[..., :samples]
    return convolved


def stack(utterances: Sequence[ArrayLike]) -> Array:
    """Utterances (samples,) as (talkers, samples) of the longest one, followed by silence."""
    signals = [np.asarray(utterance, dtype=float) for utterance in utterances]
    if not signals or any(s.ndim != 1 or not s.size for s in signals):
        shapes = [s.shape for s in signals]
        raise InputError(f"utterances must be one or more non-empty (samples,), not {shapes}")
    stacked = np.zeros((len(signals), max(map(len, signals))))
    for row, signal in zip(stacked, signals, strict=True):
        row[: len(signal)] = signal
    return stacked
