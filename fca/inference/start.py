"""Where the iterations start.

The likelihood of a convolutive mixture has many poor optima, and from random sources and Q = I most
methods end in one of them. Starts estimate Q and the source powers first, by a cheaper method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

from fca.clustering import CACGMM, random_masks
from fca.errors import InputError
from fca.inference.iterate import EarlyStop, iterate
from fca.inference.outputs import by_loudness, take_rows
from fca.linalg import (
    abs2,
    generalised_eigh,
    hermitise,
    regularise,
    weighted_covariance,
)
from fca.model import Model
from fca.source import Gauss, Laplace, SourceModel
from fca.spatial import Rank1
from fca.spatial.base import FLOOR, log_abs_det
from fca.spatial.demixing import orthogonal_background
from fca.spatial.diagonal import column_power
from fca.spatial.observation import Observation, identity_demixing
from fca.state import State

LEAKAGE = 0.05
"""Initial gain of a source on the components of the others."""


WHITE = 1e-3
"""Spatially white part of an initial full-rank covariance, relative to its mean power; also the
least gain of a start from classes."""


@dataclass(frozen=True)
class Start(State):
    """First estimates for one batch of mixtures, from which any model can start.

    Attributes
    ----------
    demixing : Tensor
        Q, (B, F, M, M); row n belongs to source n for the first min(N, M) sources.
    power : Tensor
        Powers of the components that Q gives to the sources, (B, F, N, T).
    known_gains : Tensor, optional
        Gains of the sources on the components, (B, F or 1, N, M), where there is an estimate; the
        powers are then those at a microphone.
    doubt : Tensor, optional
        How unlike the sources asked for this start looks, (B,), in nats per bin, according to the
        source model (:mod:`fca.inference.grouping`) or to the delays
        (:mod:`fca.inference.classes`). Comparable between starts of one mixture.
    interfered : Tensor, optional
        True where the last source is an interferer, a sound that was not asked for
        (:mod:`fca.inference.interferer`), and false where that source is silent, (B,); None if
        there is no such source.
    """

    demixing: Tensor
    power: Tensor
    known_gains: Tensor | None = None
    doubt: Tensor | None = None
    interfered: Tensor | None = None

    def at_microphones(self) -> Start:
        """The same start with the rows of Q scaled so that powers are those at a microphone."""
        if self.known_gains is not None:
            return self
        column = column_power(torch.linalg.inv(self.demixing))
        owned = torch.arange(self.power.shape[2], device=self.power.device) % column.shape[-1]
        power = self.power * column[..., owned, None]
        return replace(self, demixing=self.demixing * column.sqrt()[..., None], power=power)

    def gains(self, shared: bool = False) -> Tensor:
        """Gains g (B, F or 1, N, M) of jointly diagonalisable covariances."""
        if self.known_gains is not None:
            gains = self.known_gains.mean(1, keepdim=True) if shared else self.known_gains
            return gains if shared else gains.expand(-1, self.power.shape[1], -1, -1)
        n_sources, n_channels = self.power.shape[2], self.demixing.shape[-1]
        owner = torch.arange(n_channels, device=self.power.device) % n_sources
        own = owner == torch.arange(n_sources, device=self.power.device)[:, None]
        gains = torch.where(own, 1.0, LEAKAGE).to(self.power.dtype)
        n_freq = 1 if shared else self.power.shape[1]
        return gains.expand(self.power.shape[0], n_freq, -1, -1)

    def of(self, some: slice) -> Start:
        """The same start of some recordings of the batch."""
        held = {name: value[some] for name, value in vars(self).items() if value is not None}
        return replace(self, **held)

    def with_silent(self) -> Start:
        """The same start with one more source, a silent one in the place of an interferer."""
        start = self.at_microphones()
        return replace(
            start,
            power=pad(start.power, (0, 0, 0, 1), value=FLOOR),
            known_gains=pad(start.gains(shared=True), (0, 0, 0, 1), value=LEAKAGE),
            interfered=torch.zeros(len(start.power), dtype=torch.bool, device=start.power.device),
        )

    def scm(self) -> Tensor:
        """Full-rank covariances (B, F, N, M, M) of the same model, with a spatially white part.

        It is small (:data:`WHITE`) and keeps them regular.
        """
        mixing = torch.linalg.inv(self.demixing)[:, :, None]
        scm = hermitise((mixing * self.gains()[..., None, :]) @ mixing.mH)
        power = scm.diagonal(dim1=-2, dim2=-1).real.mean(-1)
        eye = torch.eye(scm.shape[-1], dtype=scm.dtype, device=scm.device)
        return scm + WHITE * power[..., None, None] * eye


PARALLEL = 1e-6
"""Squared volume below which rows of Q of unit length are taken for parallel."""
CONDITION = 30.0
"""Diagonal load of covariances that are factorised, in units of rounding."""


StartMethod = Callable[[Observation, int, torch.Generator], Start]


def identity(observation: Observation, n_sources: int, generator: torch.Generator) -> Start:
    """The textbook start: Q = I, and powers that do not tell the sources apart."""
    mixture = observation.mixture
    power = abs2(mixture).mean(2, keepdim=True)
    factor = 0.5 + torch.rand((n_sources, mixture.shape[-1]), generator=generator)
    return Start(identity_demixing(mixture), power * factor.to(power) / n_sources)


def iva(
    observation: Observation,
    n_sources: int,
    generator: torch.Generator,
    n_iter: int = 30,
    prior: type[SourceModel] = Gauss,
) -> Start:
    """AuxIVA with as many outputs as microphones; the loudest are taken for the sources."""
    n_channels = observation.mixture.shape[2]
    begin = identity(observation, n_channels, generator)
    spatial = Rank1(observation, begin.demixing, n_channels)
    fit_outputs(spatial, prior(), n_iter, generator)
    return taken(spatial, by_loudness(spatial), n_sources)


def fit_outputs(
    spatial: Rank1,
    source: SourceModel,
    n_iter: int,
    generator: torch.Generator,
    spatial_steps: int = 1,
    tolerance: float | None = None,
) -> None:
    """Iterate a rank-1 model in place; its source model starts from the power of the outputs.

    With a ``tolerance`` it ends before ``n_iter`` once ten iterations lower the cost by less.
    """
    source.initialise(spatial.power[:, :, : spatial.n_sources], generator)
    model = Model(spatial, source, spatial_steps)
    if tolerance is None:
        iterate(model, n_iter, monitor_every=None)
    else:
        iterate(model, n_iter, [EarlyStop(tolerance)], monitor_every=10)


def iva_laplace(observation: Observation, n_sources: int, generator: torch.Generator) -> Start:
    """:func:`iva` with the Laplace prior."""
    return iva(observation, n_sources, generator, prior=Laplace)


def clustering(
    observation: Observation, n_sources: int, generator: torch.Generator, n_iter: int = 30
) -> Start:
    """Start by max-SNR beamforming between the classes of a cACGMM."""
    masks = random_masks(observation.mixture, n_sources + 1, generator)
    classes = CACGMM(observation, masks)
    iterate(classes, n_iter, monitor_every=None)
    return between_classes(observation, classes.masks, n_sources)


def between_classes(observation: Observation, masks: Tensor, n_sources: int) -> Start:
    """Start by max-SNR beamforming between classes with masks (B, F, K, T), the sources first."""
    mixture, outer = observation.mixture, observation.outer
    target = weighted_covariance(outer, masks[:, :, :n_sources])
    noise = regularise(weighted_covariance(outer, 1 - masks[:, :, :n_sources]), CONDITION)
    covariance = weighted_covariance(outer, torch.ones_like(masks[:, :, :1]))[:, :, 0]
    rows = [
        _max_snr(target[:, :, n], noise[:, :, n]) for n in range(min(n_sources, mixture.shape[2]))
    ]
    eye = identity_demixing(mixture)
    stacked = torch.cat([torch.stack(rows, dim=2), eye[:, :, len(rows) :]], dim=2)
    distinct = _volume(stacked[:, :, : len(rows)]) > PARALLEL  # not where all masks are alike
    stacked = torch.where(distinct[..., None, None], stacked, eye)
    demixing = orthogonal_background(stacked, regularise(covariance, CONDITION), len(rows))
    regular = log_abs_det(demixing).isfinite()  # not at frequencies without any sound
    demixing = torch.where(regular[..., None, None], demixing, eye)
    output = abs2(demixing @ mixture)
    repeat = torch.arange(n_sources, device=output.device) % mixture.shape[2]
    return Start(demixing, masks[:, :, :n_sources] * output[:, :, repeat])


def _volume(rows: Tensor) -> Tensor:
    """Squared volume (B, F) that rows (B, F, N, M) span, were they of unit length."""
    unit = rows / rows.norm(dim=-1, keepdim=True).clamp_min(FLOOR)
    volume: Tensor = torch.linalg.det(unit @ unit.mH).real
    return volume


def noise_floor(observation: Observation, n_sources: int, generator: torch.Generator) -> Start:
    """Start of one talker in noise, from the quiet moments of each frequency.

    What exceeds the noise floor is taken for speech. Q consists of the generalised eigenvectors of
    the two covariances, which diagonalise both.

    Raises
    ------
    InputError
        Unless there are two sources, speech and noise.
    """
    if n_sources != 2:
        raise InputError(f"start 'noise floor' is for speech and noise, not {n_sources} sources")
    power = abs2(observation.mixture).mean(2)
    noise = _floor(power).expand_as(power)
    speech = torch.maximum(power - noise, LEAKAGE * power)
    powers = torch.stack([speech, noise], dim=2)
    share = speech / (speech + noise)
    masks = torch.stack([share, 1 - share], dim=2)
    covariance = weighted_covariance(observation.outer, masks / masks.mean(-1, keepdim=True))
    demixing, gains = _diagonalise(covariance[:, :, 0], regularise(covariance[:, :, 1], 10.0))
    return Start(demixing, powers, gains)


def _floor(power: Tensor) -> Tensor:
    """Level (B, F, 1) of stationary noise in powers (B, F, T), from a low quantile over time.

    It is overestimated on purpose, as in spectral subtraction (Berouti et al. 1979): by about 4 dB
    with one microphone and 5 dB with four. What is left of the noise would otherwise be taken for
    speech.
    """
    smooth = avg_pool1d(power, 5, stride=1, padding=2, count_include_pad=False)
    return 4.0 * smooth.quantile(0.3, dim=-1, keepdim=True)


def _diagonalise(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Q (B, F, M, M) and gains (B, F, 2, M) of two covariances; columns of Q⁻¹ have unit power."""
    values, vectors = generalised_eigh(first, second)
    demixing = vectors.mH
    column = column_power(torch.linalg.inv(demixing))
    gains = torch.stack([values * column, column], dim=2).clamp_min(FLOOR)
    gains = gains / gains.sum(-1, keepdim=True)
    return demixing * column.sqrt()[..., None], gains


def taken(spatial: Rank1, order: Tensor, n_sources: int) -> Start:
    """Start from outputs of a rank-1 model; the first ones in ``order`` (B, M) are the sources."""
    repeat = torch.arange(n_sources, device=order.device) % spatial.n_sources
    power = take_rows(spatial.power, order[:, repeat])
    return Start(take_rows(spatial.demixing, order), power)


def joined(starts: Sequence[Start]) -> Start:
    """One start for a batch, from starts of its recordings.

    If some of them have an interferer, the others get a silent source in its place.
    """
    wide = list(starts)
    if any(start.interfered is not None for start in starts):
        wide = [start.with_silent() if start.interfered is None else start for start in starts]
    parts = [start.at_microphones() for start in wide]
    return Start(
        torch.cat([part.demixing for part in parts]),
        torch.cat([part.power for part in parts]),
        torch.cat([part.gains(shared=True) for part in parts]),
        _all_of([part.doubt for part in parts]),
        _all_of([part.interfered for part in parts]),
    )


def _all_of(values: list[Tensor | None]) -> Tensor | None:
    """Values (B,) of several starts as one, or None if any of them has none."""
    known = [value for value in values if value is not None]
    return torch.cat(known) if len(known) == len(values) else None


def _max_snr(target: Tensor, noise: Tensor) -> Tensor:
    """Row qᴴ of Q, the principal generalised eigenvector, scaled to unit noise power."""
    _, vectors = generalised_eigh(target, noise)
    return vectors[..., -1].conj()


STARTS: dict[str, StartMethod] = {
    "identity": identity,
    "iva": iva,
    "iva-laplace": iva_laplace,
    "clustering": clustering,
    "noise floor": noise_floor,
}
