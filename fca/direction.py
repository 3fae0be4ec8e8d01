"""Azimuths of sources, by the steered response power of their covariances.

Separation does not need the positions of the microphones. Where they are known, the spatial
covariances that a model has found give the directions of its sources.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fca.errors import InputError
from fca.frontend import SAMPLE_RATE
from fca.positions import SPEED_OF_SOUND
from fca.tracks import LOWEST_HZ

if TYPE_CHECKING:
    from fca.blocks import Block

STEP_DEGREES = 1.0
IN_LINE = "microphones in a line hear both of its sides alike: azimuths may be mirrored"
_FLAT = 0.01
"""Microphones are in a line if their second principal axis is shorter than this share of the
first."""

Array = NDArray[np.float64]


class Directions:
    """Azimuths of the tracks of a recording, gathered block by block.

    Azimuths are in degrees, from the x axis towards the y axis of the positions, for talkers far
    away and at about the height of the array. Microphones in a line hear both sides of it alike:
    azimuths are then those on the left of the line from the first microphone to the last.

    Parameters
    ----------
    positions : array
        Positions of the microphones (m), (M, 3), in the order of the channels.

    Attributes
    ----------
    azimuths : array (A,)
        Azimuths that are tried, in degrees.
    in_line : bool
        Whether the microphones are in a line, as seen from above.

    Raises
    ------
    InputError
        If there are fewer than two microphones or all are in one place, seen from above.
    """

    def __init__(self, positions: Array) -> None:
        self._positions = np.asarray(positions, dtype=float)
        flat = self._positions[:, :2] - self._positions[:, :2].mean(0)
        if len(flat) < 2 or not np.ptp(flat, axis=0).any():
            raise InputError("directions need microphones at two places, seen from above")
        spread = np.linalg.svd(flat, compute_uv=False)
        self.in_line = bool(spread[1] < _FLAT * spread[0])
        along = np.degrees(np.arctan2(*(flat[-1] - flat[0])[::-1])) if self.in_line else 0.0
        self.azimuths = (along + np.arange(0, 181 if self.in_line else 360, STEP_DEGREES)) % 360
        self._total = np.zeros((0, len(self.azimuths)))
        self._weight = np.zeros(0)

    def check(self, n_channels: int) -> None:
        """Raise :class:`InputError` unless there is one position for each channel."""
        if n_channels != len(self._positions):
            raise InputError(
                f"positions of {len(self._positions)} microphones, but {n_channels} channels"
            )

    def add(self, block: Block) -> None:
        """Add what was found in a block; louder sources weigh more.

        Raises
        ------
        InputError
            If there are not as many channels as positions, or the method has no covariances.
        """
        self.check(len(block.mixture))
        missing = len(block.sources) - len(self._weight)
        self._weight = np.pad(self._weight, (0, missing))
        self._total = np.pad(self._total, [(0, missing), (0, 0)])
        if block.separation is None:
            return
        scm, alive = block.separation.covariances()
        response = steered_response(scm, self._positions[list(alive)], self.azimuths)
        energy = block.separation.sources.detach().cpu().double().square().sum(-1).numpy()
        for track, row, loudness in zip(block.track, response, energy, strict=True):
            if track >= 0:
                self._total[track] += loudness * row
                self._weight[track] += loudness

    @property
    def response(self) -> Array:
        """Mean steered response of every track, (K, A), at most 1; zero where none was heard."""
        return self._total / np.maximum(self._weight, np.finfo(float).tiny)[:, None]

    @property
    def found(self) -> list[float | None]:
        """Azimuth of every track, None for tracks that were never heard."""
        best = self.azimuths[self.response.argmax(-1)]
        return [
            round(float(azimuth), 1) if weight > 0 else None
            for azimuth, weight in zip(best, self._weight, strict=True)
        ]


def steered_response(covariance: Tensor, positions: Array, azimuths: Array) -> Array:
    """Steered response power with phase transform (SRP-PHAT) of sources, for plane waves.

    ``P_n(θ) = Σ_f w_nf mean_{i<j} Re[R_nfij / |R_nfij| · exp(−jω_f τ_ij(θ))]``, the sum over pairs
    (DiBiase 2000) of generalised cross-correlations (Knapp & Carter 1976), with the covariance R of
    the source's image instead of the cross-spectrum of a recording. The weights
    ``w_nf ∝ √tr(R_nf)`` sum to one over the frequencies from :data:`~fca.tracks.LOWEST_HZ` on. They
    are equal in the papers, but a model knows little about frequencies at which a source hardly
    sounds.

    Parameters
    ----------
    covariance : Tensor
        R, complex (N, F, M, M), for the frequencies from 0 to half of
        :data:`~fca.frontend.SAMPLE_RATE`.
    positions : array
        Positions of the microphones (m), (M, 3).
    azimuths : array
        θ, in degrees, (A,).

    Returns
    -------
    array
        Steered response (N, A), at most 1, which a single plane wave reaches.
    """
    angle = np.radians(azimuths)
    ahead = positions[:, :2] @ np.stack([np.cos(angle), np.sin(angle)]) / SPEED_OF_SOUND  # (M, A)
    frequency = np.linspace(0, SAMPLE_RATE / 2, covariance.shape[1])
    heard = frequency >= LOWEST_HZ
    omega = 2 * np.pi * frequency[heard, None]
    cross = covariance.detach().cpu().to(torch.complex128).numpy()[:, heard]
    weight = np.sqrt(np.einsum("nfmm->nf", cross).real)
    weight /= np.maximum(weight.sum(1, keepdims=True), np.finfo(float).tiny)
    response = np.zeros((len(cross), len(angle)))
    pairs = list(itertools.combinations(range(len(positions)), 2))
    for i, j in pairs:
        steered = np.exp(-1j * omega * (ahead[i] - ahead[j]))
        phase = np.exp(1j * np.angle(cross[:, :, i, j]))
        response += (weight * phase @ steered).real / len(pairs)
    return response
