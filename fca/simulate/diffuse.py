"""Diffuse noise: what an array hears of a sound that comes from everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fca.errors import InputError
from fca.positions import SPEED_OF_SOUND
from fca.simulate.images import Array

__all__ = ["diffuse_coherence", "diffuse_noise"]


def diffuse_coherence(mics: ArrayLike, frequencies: ArrayLike) -> NDArray[np.float64]:
    """Coherence (frequencies, M, M) of a spherically isotropic field: sinc(2 f d / c)."""
    mics = np.asarray(mics, dtype=float)
    spacing = np.linalg.norm(mics[:, None] - mics[None], axis=-1)
    frequencies = np.asarray(frequencies, dtype=float)
    coherence: Array = np.sinc(2 * frequencies[:, None, None] * spacing / SPEED_OF_SOUND)
    return coherence


def diffuse_noise(
    sources: ArrayLike, mics: ArrayLike, sample_rate: int = 16000
) -> NDArray[np.float64]:
    """Spherically isotropic noise (M, samples) from independent noises (M, samples).

    The noises are mixed by the principal root of the coherence matrix at each frequency, as in
    Habets et al. (2008, J. Acoust. Soc. Am. 124), over the whole signal at once: the filters are
    as short as sound takes across the array, so that the circular wrap is inaudible.

    Parameters
    ----------
    sources : uncorrelated signals of equal spectrum, e.g. M excerpts of one recording; they are
        brought to equal power
    mics : positions (M, 3) (m)
    """
    sources, mics = np.asarray(sources, dtype=float), np.asarray(mics, dtype=float)
    if sources.ndim != 2 or sources.shape[0] != len(mics):
        raise InputError(
            f"{len(mics)} microphones need noises ({len(mics)}, samples), not {sources.shape}"
        )
    rms = np.sqrt(np.mean(sources**2, axis=-1, keepdims=True))
    if not rms.all():
        raise InputError("a noise excerpt is silent")
    samples = sources.shape[-1]
    spectra = np.fft.rfft(sources / rms)
    eigenvalues, vectors = np.linalg.eigh(
        diffuse_coherence(mics, np.fft.rfftfreq(samples, 1 / sample_rate))
    )
    roots = (vectors * np.sqrt(np.maximum(eigenvalues, 0))[:, None]) @ vectors.swapaxes(-1, -2)
    noise: Array = np.fft.irfft(np.einsum("fij,jf->if", roots, spectra), samples)
    return noise
