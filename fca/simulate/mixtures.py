"""Mixtures of talkers who stand or move, with their references: crossfades along their paths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

__all__ = ["Mixture", "mix", "mix_moving"]


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
    said = stack(utterances)
    responses = np.asarray(responses, dtype=float)
    if responses.ndim != 3 or len(responses) != len(said):
        raise InputError(
            f"{len(said)} utterances need responses ({len(said)}, channels, taps), "
            f"not {responses.shape}"
        )
    return mix_moving(
        list(said),
        responses[:, None],
        rng,
        level_db=level_db,
        snr_db=snr_db,
        noise=noise,
        early_seconds=early_seconds,
        sample_rate=sample_rate,
    )


def mix_moving(
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
    """As :func:`mix`, for talkers who pass the places of ``responses`` evenly.

    What is said between two places is heard from both, with weights that sum to one: the response
    in between is their linear interpolation.

    Parameters
    ----------
    utterances, rng, level_db, snr_db, noise, early_seconds, sample_rate
        as in :func:`mix`
    responses : (talkers, P, channels, taps), from :func:`~fca.simulate.motion.path_responses`

    Raises
    ------
    InputError
        For shapes that do not fit, a silent talker, or noise without `snr_db`.
    """
    said = stack(utterances)
    responses = np.asarray(responses, dtype=float)
    if responses.ndim != 4 or len(responses) != len(said) or not responses.size:
        raise InputError(
            f"{len(said)} utterances need responses ({len(said)}, places, channels, taps), "
            f"not {responses.shape}"
        )
    early = early_part(responses, early_seconds, sample_rate)
    images = _walk(said, responses)
    gain = level_gains(images, rng, level_db)[:, None, None]
    images *= gain
    return Mixture(
        images=images,
        early=gain * _walk(said, early),
        dry=_walk_direct(gain[:, 0] * said, responses[:, :, 0]),
        noise=scaled_noise(images, snr_db, noise, rng),
    )


def _walk(said: Array, responses: Array) -> Array:
    """Images (talkers, channels, samples) of utterances (talkers, samples) said along the paths."""
    n_places, samples = responses.shape[1], said.shape[-1]
    return _sum(
        convolve((_weight(place, n_places, samples) * said)[:, None], responses[:, place], samples)
        for place in range(n_places)
    )


def _walk_direct(said: Array, responses: Array) -> Array:
    """The same of the direct sound alone at one microphone, from responses (talkers, P, taps)."""
    n_places, samples = responses.shape[1], said.shape[-1]
    return _sum(
        delayed(_weight(place, n_places, samples) * said, responses[:, place])
        for place in range(n_places)
    )


def _sum(parts: Iterator[Array]) -> Array:
    """Sum of one or more arrays, which the first of them then holds."""
    total = next(parts)
    for part in parts:
        total += part
    return total


def _weight(place: int, n_places: int, samples: int) -> Array:
    """Weights (samples,) of one of the places that are passed evenly."""
    here = np.linspace(0, n_places - 1, samples)
    weight: Array = np.maximum(0, 1 - np.abs(here - place))
    return weight
