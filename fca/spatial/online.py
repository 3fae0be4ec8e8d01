"""A jointly diagonalisable model of the latest frames of a stream, with statistics of the past.

The basis Q depends on past frames only through weighted covariances, and the gains only through two
sums over frames. Recursive averages of these stand for all frames that have left the window, with
less weight for older ones (Taniguchi et al. 2014 for IVA; Lefèvre, Bach & Févotte 2011 for
multiplicative updates).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fca.spatial.base import FLOOR
from fca.spatial.diagonal import JointlyDiagonal
from fca.spatial.observation import Observation


@dataclass(frozen=True)
class Past:
    """Means over frames that have left the window, with weights that decay.

    Attributes
    ----------
    frames : float
        Sum of the weights: how many frames of full weight the past counts for.
    covariance : Tensor
        Weighted covariances V of the rows of Q, (B, F, M, M, M).
    numerator, denominator : Tensor
        Means of ``g²·x̃λ/ỹ²`` and ``λ/ỹ`` for the update of the gains, (B, F or 1, N, M).
    """

    frames: float
    covariance: Tensor
    numerator: Tensor
    denominator: Tensor

    def decay(self, factor: float) -> Past:
        """The same past with all weights multiplied by ``factor``."""
        return replace(self, frames=factor * self.frames)

    def join(self, other: Past) -> Past:
        """Means over the frames of both."""
        return Past(
            self.frames + other.frames,
            self.extend(self.covariance, other.covariance, other.frames),
            self.extend(self.numerator, other.numerator, other.frames),
            self.extend(self.denominator, other.denominator, other.frames),
        )

    def extend(self, mean: Tensor, other: Tensor, frames: float) -> Tensor:
        """Mean over the past (``mean``) and over ``frames`` more frames (``other``)."""
        return mean + (other - mean) * (frames / (self.frames + frames))


class Remembered(Observation):
    """The frames of a window, with covariances that include the frames before it.

    Parameters
    ----------
    mixture : Tensor
        X of the window, complex (B, F, M, T).
    past : Past, optional
        Statistics of the frames before the window.
    """

    def __init__(self, mixture: Tensor, past: Past | None = None) -> None:
        super().__init__(mixture)
        self._past = past

    def covariance(self, weight: Tensor) -> Tensor:
        window = super().covariance(weight)
        if self._past is None:
            return window
        return self._past.extend(self._past.covariance, window, weight.shape[-1])


class OnlineJointlyDiagonal(JointlyDiagonal):
    """A :class:`~fca.spatial.JointlyDiagonal` model of a window of a stream.

    Parameters
    ----------
    mixture, demixing, gains, update
        As in :class:`~fca.spatial.JointlyDiagonal`, for the window.
    past : Past, optional
        Statistics of the frames before the window.
    """

    def __init__(
        self,
        mixture: Tensor,
        demixing: Tensor,
        gains: Tensor,
        update: str = "ip",
        past: Past | None = None,
    ) -> None:
        super().__init__(Remembered(mixture, past), demixing, gains, update)
        self._past = past

    def update(self, psd: Tensor) -> None:
        """``g = √(Σ g²·x̃λ/ỹ² / Σ λ/ỹ)`` over all frames, then one pass over Q."""
        numerator, denominator = self._gain_statistics(psd)
        if self._past is not None:
            numerator = self._past.extend(self._past.numerator, numerator, psd.shape[-1])
            denominator = self._past.extend(self._past.denominator, denominator, psd.shape[-1])
        self.gains = (numerator / denominator).sqrt().clamp_min(FLOOR)
        self._update_demixing(self._row_weights(psd))

    def part(self, frames: slice) -> OnlineJointlyDiagonal:
        """A model of some frames of the window alone, with the same parameters."""
        return OnlineJointlyDiagonal(self.mixture[..., frames], self.demixing, self.gains)

    def leave(self, psd: Tensor, n_frames: int, keep: float) -> Past:
        """The past after the first ``n_frames`` of the window have joined it.

        The weights of the past before are multiplied by ``keep``.
        """
        part, psd = self.part(slice(n_frames)), psd[..., :n_frames]
        covariance = part.observation.covariance(part._row_weights(psd))
        gone = Past(n_frames, covariance, *part._gain_statistics(psd))
        return gone if self._past is None else self._past.decay(keep).join(gone)

    def _gain_statistics(self, psd: Tensor) -> tuple[Tensor, Tensor]:
        """Means over frames of ``g²·x̃λ/ỹ²`` and ``λ/ỹ``, (B, F or 1, N, M)."""
        weighted, precision = self._weights(psd)
        pair = psd @ weighted.mT / psd.shape[-1], psd @ precision.mT / psd.shape[-1]
        if self.gains.shape[1] == 1:
            pair = pair[0].mean(1, keepdim=True), pair[1].mean(1, keepdim=True)
        return self.gains.square() * pair[0], pair[1]
