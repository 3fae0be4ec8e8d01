"""Autoregressive reverberation: late sound is predicted from past frames of the mixture.

The room rings for longer than a window: ``x_t = Σ_τ W_τ x_{t−τ} + d_t``, where the early sound d
follows the instantaneous model and τ begins at a delay, so that speech itself is not predicted
(Nakatani et al. 2010; Sekiguchi et al. 2022, AR-FastMNMF). Row m of the extended demixing matrix
``[Q, −QW]`` then sees only its own variance ỹ_m, and given Q its prediction is a problem of
weighted least squares.

The solution can be put into the likelihood in closed form. With ``G_m = R_m⁻¹ P_m`` from the
weighted covariances of past frames, ``d = x − G_mᴴ x̄`` has the weighted covariance
``V_m − P_mᴴ R_m⁻¹ P_m``. The updates of Q, given these covariances, then update Q and all its
filters at once (Ikeshita & Nakatani 2021). The determinant of the extended transform is that of Q,
so nothing else in the model changes. With one source, whose weights all rows share, this is WPE.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from fca.errors import InputError
from fca.linalg import hermitise, regularise
from fca.memo import Latest
from fca.spatial.base import FLOOR
from fca.spatial.observation import Images, Observation, identity_demixing

CONDITION = 16.0
"""Diagonal load of the covariances of past frames, in units of rounding."""


CHUNK = 16
"""Frequencies whose covariances are computed at a time, so that weighted frames stay in the
cache."""


SLOWEST = 0.95
"""Largest factor by which the amplitude of sound in a room decays from frame to frame.

With the default hop of 64 ms it is a reverberation time of 8.6 s; with a hop of 16 ms, 2.2 s."""


class Prediction(Observation):
    """The mixture minus what its past predicts, with separate filters for every row of Q.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    taps, delay : int
        Number of taps L and the first τ: frames t−delay, ..., t−delay−L+1 predict frame t.
    reverberant : bool
        Let images include their late reverberation, instead of the early sound alone.

    Raises
    ------
    InputError
        If there is no tap or no delay, or there are too few frames for the coefficients.
    """

    def __init__(
        self, mixture: Tensor, taps: int = 3, delay: int = 2, reverberant: bool = False
    ) -> None:
        super().__init__(mixture)
        if taps < 1 or delay < 1:
            raise InputError(f"prediction needs taps and a delay of 1 or more: {taps}, {delay}")
        n_channels, n_frames = mixture.shape[2:]
        if n_frames <= taps * n_channels + delay:
            raise InputError(
                f"{n_frames} frames are too few to predict from {taps} taps of {n_channels} "
                f"channels: use fewer taps or a shorter window"
            )
        self.taps, self.delay, self.reverberant = taps, delay, reverberant
        past = [delayed(mixture, delay + tap) for tap in range(taps)]
        self.frames = torch.cat([*past, mixture], dim=2)
        shape = (*mixture.shape[:2], n_channels, taps * n_channels, n_channels)
        self.filters = mixture.new_zeros(()).expand(shape)
        self._rows_of = Latest(_rows)

    def rows(self, demixing: Tensor) -> Tensor:
        """``[−q_mᴴ G_mᴴ, q_mᴴ]``, (B, F, M, (L + 1) M); filters come first, as past frames do."""
        return self._rows_of(demixing, self.filters)

    def early(self) -> Observation:
        """The mixture minus its predicted part."""
        return Observation(self.rows(identity_demixing(self.mixture)) @ self.frames)

    def covariance(self, weight: Tensor) -> Tensor:
        """``V − Pᴴ R⁻¹ P``: covariances of the mixture minus its best prediction."""
        return self.predict(weight)[1]

    def adapt(self, weight: Tensor) -> Tensor:
        filters, covariance = self.predict(weight)
        self.filters = torch.cat([filters, self.filters[:, :, weight.shape[2] :]], dim=2)
        return covariance

    def predict(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Filters of weighted least squares, and the covariances of the residuals.

        Parameters
        ----------
        weight : Tensor
            (B, F, K, T).

        Returns
        -------
        filters : Tensor
            G, (B, F, K, L M, M).
        covariance : Tensor
            (B, F, K, M, M).
        """
        n_past = self.frames.shape[2] - self.mixture.shape[2]
        factor = torch.linalg.cholesky(self._extended_covariance(weight))
        past, cross = factor[..., :n_past, :n_past], factor[..., n_past:, :n_past]
        own = factor[..., n_past:, n_past:]
        filters = torch.linalg.solve_triangular(past.mH, cross.mH, upper=True)
        return filters, hermitise(own @ own.mH)

    def images(self, demixing: Tensor, images: Images, channels: slice) -> Tensor:
        """Early images, or those that include late reverberation (``reverberant``).

        The latter are ``c_t = Σ_τ W_τ c_{t−τ} + d_t``, the recursion of each source in the room.
        Over all sources they sum to the mixture where that recursion is stable; elsewhere see
        :func:`stable`.
        """
        if not self.reverberant:
            return images(channels)
        prediction = torch.linalg.solve(demixing, _filtered(demixing, self.filters))
        filters = stable(prediction, self.delay)
        return _go_round(images(slice(None)), filters, self.delay)[:, :, :, channels]

    def _extended_covariance(self, weight: Tensor) -> Tensor:
        """Covariances (B, F, K, (L + 1) M, (L + 1) M) of past and present."""
        parts = zip(torch.split(self.frames, CHUNK, 1), torch.split(weight, CHUNK, 1), strict=True)
        covariance = torch.cat([_weighted_covariance(x, w) for x, w in parts], dim=1)
        return regularise(covariance, CONDITION)


def _rows(demixing: Tensor, filters: Tensor) -> Tensor:
    return torch.cat([-_filtered(demixing, filters), demixing], dim=-1)


def _filtered(demixing: Tensor, filters: Tensor) -> Tensor:
    """``q_mᴴ G_mᴴ`` of every row, (B, F, M, L M)."""
    return (demixing[:, :, :, None] @ filters.mH)[:, :, :, 0]


def wpe(prediction: Prediction, n_iter: int = 3) -> None:
    """Fit the same filters for all rows, in place: weighted prediction error (WPE).

    The model is one source with H = I, whose free PSD is the mean power of the early sound over the
    microphones (Nakatani et al. 2010; Yoshioka & Nakatani 2012).
    """
    for _ in range(n_iter):
        power = prediction.early().mixture.abs().square().mean(2, keepdim=True)
        filters, _ = prediction.predict(power.clamp_min(FLOOR).reciprocal())
        prediction.filters = filters.expand_as(prediction.filters)


def _weighted_covariance(frames: Tensor, weight: Tensor) -> Tensor:
    """``(1/T) Σ_t w_kt x_t x_tᴴ`` of frames (B, F, D, T) and weights (B, F, K, T), (B, F, K, D, D).

    By real products of the weighted real and imaginary parts. Packed outer products of all frames
    would be large for D = (L + 1) M; this takes no more memory than K times the frames.
    """
    real, imag = frames.real.contiguous(), frames.imag.contiguous()
    weight = weight[:, :, :, None] / frames.shape[-1]
    shape = (*weight.shape[:3], *real.shape[2:3] * 2)
    weighted_real = (real[:, :, None] * weight).flatten(2, 3)
    weighted_imag = (imag[:, :, None] * weight).flatten(2, 3)
    cross = (weighted_imag @ real.mT).reshape(shape)
    same = (weighted_real @ real.mT + weighted_imag @ imag.mT).reshape(shape)
    return hermitise(torch.complex(same, cross - cross.mT))


def delayed(values: Tensor, n_frames: int) -> Tensor:
    """``values`` (..., T) delayed by ``n_frames``; zero before."""
    return pad(values, (n_frames, 0))[..., : values.shape[-1]]


def stable(prediction: Tensor, delay: int) -> Tensor:
    """Prediction filters whose recursion decays at least as fast as :data:`SLOWEST` per frame.

    Least squares may find filters W_τ whose recursion grows: in the mixture, sources that grow with
    opposite signs would cancel. ``a^τ W_τ`` has the poles of W_τ times a, and a is below 1 only
    where it has to be.

    Parameters
    ----------
    prediction : Tensor
        W_τ side by side, the most recent first, (B, F, M, L M).
    delay : int
        The first τ.
    """
    n_channels, n_columns = prediction.shape[2:]
    size = n_columns + (delay - 1) * n_channels
    shift = torch.eye(size, dtype=prediction.dtype, device=prediction.device)[:-n_channels]
    with torch.no_grad():
        first = pad(prediction, (size - n_columns, 0))
        companion = torch.cat([first, shift.expand(*first.shape[:2], -1, -1)], dim=2)
        radius = torch.linalg.eigvals(companion).abs().amax(-1)
        factor = (SLOWEST / radius.clamp_min(SLOWEST))[..., None, None]
    tau = delay + torch.arange(n_columns, device=prediction.device) // n_channels
    damped: Tensor = prediction * factor**tau
    return damped


def _go_round(early: Tensor, prediction: Tensor, delay: int) -> Tensor:
    """Recursion ``c_t = Σ_τ W_τ c_{t−τ} + d_t`` of images d (B, F, N, M, T).

    ``prediction`` holds W_τ side by side, the most recent first, (B, F, M, L M).
    """
    n_channels = early.shape[3]
    filters = torch.tensor_split(prediction, prediction.shape[-1] // n_channels, dim=-1)
    frames: list[Tensor] = []
    for t, frame in enumerate(early.mT.unbind(3)):
        for tap, w in enumerate(filters):
            if t - delay - tap >= 0:
                frame = frame + frames[t - delay - tap] @ w.mT
        frames.append(frame)
    return torch.stack(frames, dim=-1)
