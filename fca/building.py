"""From a method and a mixture to a model at its start, ready to be iterated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fca.clustering import CACGMM, random_masks
from fca.errors import InputError
from fca.inference.known import guided, guided_rank1
from fca.inference.rank1 import rank1
from fca.inference.start import STARTS, Start
from fca.inference.track import MovingStart, same_everywhere, track
from fca.inference.walkers import unless_walking, walking
from fca.model import Fittable, Model
from fca.source import (
    NMF,
    VAE,
    DenoisedSpeech,
    Free,
    Gated,
    Gauss,
    Laplace,
    SlidingNMF,
    SourceModel,
    Stationary,
    Student,
    noisy_speech,
)
from fca.source.gated import check_told_apart, with_background
from fca.source.neural import Neural
from fca.spatial import FullRank, JointlyDiagonal, Rank1, SpatialModel
from fca.spatial.diagonal import check_rank1
from fca.spatial.expanded import MovingAverage
from fca.spatial.inverse_wishart import InverseWishart
from fca.spatial.motion import Moving
from fca.spatial.observation import Observation
from fca.spatial.subspace import Components

if TYPE_CHECKING:
    from fca.method import Method

__all__ = ["SOURCES", "Building"]

SOURCES: dict[str, Callable[..., SourceModel]] = {
    "gauss": Gauss,
    "laplace": Laplace,
    "student": Student,
    "nmf": NMF,
    "sliding nmf": SlidingNMF,
    "free": Free,
    "stationary": Stationary,
    "vae": VAE,
    "vae, nmf": noisy_speech,
    "vae, noise": DenoisedSpeech,
    "neural": Neural,
}


@dataclass(frozen=True, kw_only=True)
class Building:
    """What a model is built from: a method, and the arguments of its ``build``.

    Attributes
    ----------
    attempt : int
        Number of the start, for starts that do not depend on random numbers.
    doubted : bool
        Whether the doubt of the start is wanted, as computing it takes time.
    walks : Tensor, optional
        :attr:`followed`, where it is known from another start of the same mixture.
    """

    method: Method
    mixture: Tensor
    n_sources: int
    generator: torch.Generator
    activity: Tensor | None = None
    attempt: int = 0
    doubted: bool = True
    walks: Tensor | None = None

    def model(self, beside: bool = False) -> Fittable:
        """The model of the mixture at its start.

        With ``beside`` it has a source for an interferer even if the start shows none; that source
        is then silent.
        """
        method = self.method
        if method.spatial == "cACGMM":
            return self._classes
        source, start = self._started
        if beside and start.interfered is None:
            start = start.with_silent()
        if source.at_microphone:
            start = start.at_microphones()
        spatial = self._spatial(self._observation, start)
        source.initialise(start.power, self.generator)
        n_background = int(method.fits == "sources + noise") + int(start.interfered is not None)
        steps = method.spatial_steps
        return Model(spatial, source, steps, n_background, start.doubt, start.interfered)

    @property
    def interfered(self) -> bool:
        """Whether the start shows an interferer in any of the recordings."""
        if self.method.spatial == "cACGMM":
            return False
        return self._started[1].interfered is not None

    @cached_property
    def followed(self) -> Tensor:
        """In which recordings the start is made of the paths of talkers who walk, (B,)."""
        if self.walks is not None:
            return self.walks
        if self.method.walkers and self.method.start == "rank-1" and self.gate is None:
            return walking(self._early, self.n_fitted)
        return torch.zeros(len(self.mixture), dtype=torch.bool, device=self.mixture.device)

    @cached_property
    def n_fitted(self) -> int:
        """Number of sources that the model has."""
        if self._never_pauses:
            return self.n_sources  # nothing tells a talker who never pauses from a background
        guided = self.activity is not None
        return self.method.n_fitted(self.n_sources, self.mixture.shape[2], guided)

    @cached_property
    def gate(self) -> Tensor | None:
        """When each source of the model is active, (B, N, T), if that is known."""
        if self.activity is None or (self.n_sources == 1 and self._never_pauses):
            return None
        check_told_apart(self.activity)
        moves = self.method.mixing.moves
        if moves or self.method.start == "network":
            why = "talkers who move" if moves else "a network that infers the start"
            raise InputError(f"{self.method.name}: known activities do not go with {why}")
        return with_background(self.activity, self.n_fitted)

    @property
    def _never_pauses(self) -> bool:
        """Whether the activity of a wanted source is known to be that of a background."""
        return self.activity is not None and bool((self.activity > 0.5).all(-1).any())

    @property
    def _classes(self) -> CACGMM:
        observation = Observation(self.mixture)
        if self.gate is not None:
            return CACGMM.guided(observation, self.gate)
        return CACGMM(observation, random_masks(self.mixture, self.n_fitted, self.generator))

    @cached_property
    def _observation(self) -> Observation:
        n_components = self.method.n_components(self.n_sources, self.mixture.shape[2])
        if n_components < self.mixture.shape[2]:
            return Components(self.mixture, n_components)
        return self.method.mixing.observe(self.mixture)

    @cached_property
    def _early(self) -> Observation:
        return self._observation.early()

    @cached_property
    def _started(self) -> tuple[SourceModel, Start]:
        """The source model, not yet initialised, and its start."""
        if self.method.spatial == "rank-1":
            check_rank1(self.n_fitted, self.mixture.shape[2])
        source = SOURCES[self.method.source](**self.method.options)
        early = self._early
        if self.gate is not None and self.activity is not None:
            return Gated(source, self.gate), self._guided_start(self.activity, early)
        if self.method.mixing.moves:
            return source, self._moving_start(source, early)
        return source, self._resting_start(source, early)

    def _guided_start(self, activity: Tensor, early: Observation) -> Start:
        """Start from known activities of the wanted sources and of a background."""
        method = self.method
        classes = with_background(activity, self.n_sources + (not self._never_pauses))
        if method.start != "rank-1" or self.n_fitted > early.mixture.shape[2]:
            return guided(early, classes, self.n_fitted)
        outputs = SOURCES[method.source](**method.options)
        return guided_rank1(early, classes, self.n_fitted, self.generator, outputs)

    def _moving_start(self, source: SourceModel, early: Observation) -> Start:
        windows = self.method.mixing.windows(early.mixture)
        if self.method.start == "iva":
            return track(early, self.n_fitted, self.generator, windows)
        start = self._resting_start(source, early)
        return same_everywhere(start, windows.expand(len(early.mixture), -1, -1), moving=True)

    def _resting_start(self, source: SourceModel, early: Observation) -> Start:
        method = self.method
        if method.start == "network":
            return source.start(early.mixture, self.n_fitted)
        if method.start != "rank-1":
            return STARTS[method.start](early, self.n_fitted, self.generator)
        return unless_walking(early, self.n_fitted, self.followed, self._rank1_start)

    def _rank1_start(self, early: Observation) -> Start:
        method = self.method
        return rank1(
            early,
            self.n_fitted,
            self.generator,
            SOURCES[method.source](**method.options),
            attempt=self.attempt,
            doubted=self.doubted,
            fast=method.fast_start,
            interferers=method.interferers,
        )

    def _spatial(self, observation: Observation, start: Start) -> SpatialModel:
        method = self.method
        if method.spatial == "full rank":
            return self._full_rank(observation.mixture, start)
        inference = (method.update, method.likelihood)
        if method.spatial == "rank-1":
            return Rank1(observation, start.demixing, start.power.shape[2], *inference)
        gains = start.gains(shared="shared" in method.spatial)
        early = JointlyDiagonal(observation, start.demixing, gains, *inference, method.gain_update)
        mixing = method.mixing
        if mixing.n_late == 0:
            return early
        return MovingAverage.around(early, mixing.n_late, mixing.delay, mixing.reverberant)

    def _full_rank(self, mixture: Tensor, start: Start) -> SpatialModel:
        method = self.method
        if not isinstance(start, MovingStart):
            return FullRank(mixture, start.scm(), method.update, method.likelihood)
        strength = method.mixing.inertia * start.moving.to(start.windows)
        prior = InverseWishart(strength, start.windows.shape[1])
        inner = FullRank(mixture, start.scm(), method.update, method.likelihood, prior=prior)
        return Moving(inner, start.power.shape[2], start.windows)
