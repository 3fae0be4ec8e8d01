"""Mixtures of talkers who stand still, with their references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fca.errors import InputError
from fca.simulate.images import (
    Array,
    Range,
    convolve,
    delayed,
    early_part,
    level_gains,
    scaled_noise,
    stack,
)

__all__ = ["Mixture", "mix"]


@dataclass(frozen=True)
class Mixture:
    """What the microphones record and what it is made of.

    Attributes
    ----------
    images : (talkers, channels, samples), each talker with its full reverberation
    early : (talkers, channels, samples), direct sound and first reflections only
    dry : (talkers, samples), the utterances at the level of their direct sound at channel 0 and
        delayed with it
    noise : (channels, samples)
    """

    images: Array
    early: Array
    dry: Array
    noise: Array

    @property
    def mixture(self) -> Array:
        """The recording (channels, samples): images and noise sum to it exactly."""
        total: Array = self.images.sum(axis=0) + self.noise
        return total


def mix(
    utterances: Sequence[ArrayLike],
    responses: ArrayLike,
    rng: np.random.Generator,
    *,
    level_db: Range = (-5, 5),
    snr_db: float | None = None,
    noise: ArrayLike | None = None,
    early_seconds: float = 0.05,
    sample_rate: int = 16000,
) -> Mixture:
    """Convolve talkers with their responses, set their levels and add noise.

    Parameters
    ----------
    utterances : one (samples,) each; the longest sets the mixture's length, the others are
        followed by silence, reverberation beyond the end is cut
    responses : (talkers, channels, taps)
    level_db : range of each talker's level relative to the first one's, in the images
    snr_db : level of all images together relative to the noise; None for no noise
    noise : (channels, at least samples), scaled to `snr_db`; white if not given
    early_seconds : how much of the response after the direct sound counts as early

    Raises
    ------
    InputError
        For shapes that do not fit, a silent talker, or noise without `snr_db`.
    """
    dry = stack(utterances)
    responses = np.asarray(responses, dtype=float)
    if responses.ndim != 3 or len(responses) != len(dry):
        raise InputError(
            f"{len(dry)} utterances need responses ({len(dry)}, channels, taps), "
            f"not {responses.shape}"
        )
    samples = dry.shape[-1]
    images = convolve(dry[:, None], responses, samples)
    early = convolve(dry[:, None], early_part(responses, early_seconds, sample_rate), samples)
    gain = level_gains(images, rng, level_db)
    images *= gain[:, None, None]
    return Mixture(
        images=images,
        early=gain[:, None, None] * early,
        dry=delayed(gain[:, None] * dry, responses[:, 0]),
        noise=scaled_noise(images, snr_db, noise, rng),
    )
