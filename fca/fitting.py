"""From the spectrogram of a mixture to a fitted model: carries out what a method says."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fca.building import Building
from fca.inference.best import Best
from fca.inference.choice import likelier, worth_fitting
from fca.inference.gate import gated
from fca.inference.iterate import Callback, iterate, within
from fca.inference.refine import Refinement
from fca.inference.settle import ARRAY_STEPS, WINDOW_SECONDS, WINDOW_STEPS, Settling, settle
from fca.inference.surroundings import with_late_sound, with_noise
from fca.inference.walkers import CERTAIN
from fca.method import Method
from fca.model import Fittable, Model
from fca.spatial import SpatialModel
from fca.spatial.windows import in_windows
from fca.state import choose

Trace = list[tuple[int, float]]
"""Iterations and the cost per time-frequency bin after each."""
LEAST_EARLY = 2
"""Least number of refinement steps before late sound is added: it can be told from early sound only
after some."""


@dataclass(frozen=True)
class Fitting:
    """How a mixture is fitted: a method, with its numbers of starts and refinement steps.

    Attributes
    ----------
    method : Method
        The method to fit.
    n_starts : int
        Starts, each with a random seed of its own. Every recording keeps the fit of lowest cost
        among those that are :func:`worth it <fca.inference.choice.worth_fitting>`.
    n_refine : int
        Steps of :class:`~fca.inference.refine.Refinement` afterwards.
    seed : int
        Random seed of the first start.
    frame_seconds : float
        Time from one frame to the next.
    """

    method: Method
    n_starts: int
    n_refine: int
    seed: int
    frame_seconds: float

    def __call__(
        self,
        mixture: Tensor,
        n_sources: int,
        reference: int,
        callbacks: Sequence[Callback],
        activity: Tensor | None = None,
    ) -> tuple[Fittable, Trace]:
        """Fit, gate and refine, as far as the method does.

        Parameters
        ----------
        mixture : Tensor
            X, complex (B, F, M, T).
        n_sources : int
            Sources wanted.
        reference : int
            Microphone whose source images the gate looks at.
        callbacks : sequence of Callback
            Called with the progress after every iteration.
        activity : Tensor, optional
            When the sources are active, (B, n_sources, T), if known.

        Raises
        ------
        InputError
            For more sources than the spatial model allows, activities that do not tell the sources
            apart, or a model that diverges; and with refinement steps, if the source model has no
            refinement.
        """
        model, trace = self._fit(mixture, n_sources, callbacks, activity)
        if isinstance(model, Model):
            if self.method.gate and activity is None:
                model = gated(model, reference, self.frame_seconds)
            if self.n_refine:
                model, trace = self._refine(model, trace, callbacks)
            n_channels = mixture.shape[2]
            if self.method.n_components(n_sources, n_channels) < n_channels:
                model, trace = _on_whole_array(model, trace)
            model, trace = self._in_windows(model, trace)
        return model, trace

    def _fit(
        self,
        mixture: Tensor,
        n_sources: int,
        callbacks: Sequence[Callback],
        activity: Tensor | None,
    ) -> tuple[Fittable, Trace]:
        """The fit of lowest final cost, and the trace of the best start over the whole batch."""
        begun = self._begun(mixture, n_sources, activity)
        share = self._share_of_fits / len(begun)
        told = [within(callbacks, k * share, (k + 1) * share) for k in range(len(begun))]
        fits = [(model, self._iterate(model, t)) for model, t in zip(begun, told, strict=True)]
        likeliest = functools.reduce(likelier, [model for model, _ in fits])
        return likeliest, min((trace for _, trace in fits), key=lambda trace: trace[-1][1])

    def _begun(self, mixture: Tensor, n_sources: int, activity: Tensor | None) -> list[Fittable]:
        """Models at every start that is worth a fit."""
        several = self.n_starts > 1
        begun: list[Building] = []
        for start in range(self.n_starts):
            generator = torch.Generator().manual_seed(self.seed + start)
            building = Building(
                method=self.method,
                mixture=mixture,
                n_sources=n_sources,
                generator=generator,
                activity=activity,
                attempt=start,
                doubted=several,
                walks=begun[0].followed if begun else None,
            )
            begun.append(building)
            if building.followed.all():  # no other start finds these talkers
                break
        beside = any(building.interfered for building in begun)
        models = [building.model(beside) for building in begun]
        if self._surrounded:
            models = [with_noise(m) if isinstance(m, Model) else m for m in models]
        return worth_fitting(models)

    def _iterate(self, model: Fittable, callbacks: Sequence[Callback]) -> Trace:
        """Fit in place: the method's iterations, then its free steps."""
        trace = iterate(model, self.method.n_iter, callbacks)
        if self.method.free_steps and isinstance(model, Model):
            settling, n_steps = Settling(model), self.method.free_steps
            steps = iterate(settling, n_steps, first_cost=trace[-1][1])
            trace = _continued(trace, steps)
        return trace

    @property
    def _share_of_fits(self) -> float:
        """Share of all the work that the starts and iterations are, roughly."""
        return 0.5 if self.n_refine else 1.0

    @property
    def _surrounded(self) -> bool:
        """Whether noise and late sound are modelled beside the sources."""
        return self.method.surroundings and self.method.mixing.plain

    @property
    def _n_early(self) -> int:
        """Refinement steps before late sound is added."""
        if not self._surrounded:
            return self.n_refine
        return min(max(LEAST_EARLY, self.n_refine // 4), self.n_refine)

    def _refine(
        self, model: Model, trace: Trace, callbacks: Sequence[Callback]
    ) -> tuple[Model, Trace]:
        """Refine the model, with late sound in all but the first steps.

        Recordings whose cost late sound does not lower take all steps without it: the cost never
        rises.
        """
        begin, others = self._share_of_fits, self.n_refine - self._n_early
        late = 1 - (1 - begin) * others / self.n_refine
        model, trace = _refined(model, self._n_early, trace, within(callbacks, begin, late))
        if not others:
            return model, trace
        told = within(callbacks, late, 1.0)
        wider, wider_trace = _refined(with_late_sound(model), others, trace, told)
        pays = wider.cost() <= model.cost()
        if pays.all():
            return wider, wider_trace
        early, trace = _refined(model, others, trace, within(callbacks, 1.0, 1.0))
        if not pays.any():
            return early, trace
        chosen = choose(pays, wider, with_late_sound(early, level=0.0))
        return chosen, [*trace[:-1], (trace[-1][0], float(chosen.cost().mean()))]

    def _in_windows(self, model: Model, trace: Trace) -> tuple[Model, Trace]:
        """The model, settled in windows in the recordings in which talkers walk."""
        length = round(WINDOW_SECONDS / self.frame_seconds)
        walks = model.doubt == CERTAIN if model.doubt is not None else torch.zeros(1)
        if not walks.any() or length >= model.spatial.mixture.shape[-1]:
            return model, trace
        return _settled(model, in_windows(model.spatial, length, walks), WINDOW_STEPS, trace)


def _refined(
    model: Model, n_steps: int, trace: Trace, callbacks: Sequence[Callback]
) -> tuple[Model, Trace]:
    """The best model that ``n_steps`` of refinement find, and the trace continued."""
    refinement = Refinement(model)
    steps = iterate(refinement, n_steps, callbacks)
    return refinement.best, _continued(trace, steps)


def _on_whole_array(model: Model, trace: Trace) -> tuple[Model, Trace]:
    """A model fitted to a subspace, settled on all microphones, and the trace continued."""
    spatial = model.spatial.on_whole_array(model.source.psd())
    return _settled(model, spatial, ARRAY_STEPS, trace)


def _settled(
    model: Model, spatial: SpatialModel, n_steps: int, trace: Trace
) -> tuple[Model, Trace]:
    """The model with another spatial model, settled around its sources; the trace continued.

    With many microphones and few frames, covariances can be so near to singular that rounding
    raises the cost: the best state is kept.
    """
    settling = Best(replace(model, spatial=spatial), settle)
    steps = iterate(settling, n_steps)
    return settling.best, _continued(trace, steps)


def _continued(trace: Trace, more: Trace) -> Trace:
    """A trace followed by another one whose iterations are counted on."""
    done = trace[-1][0]
    return trace + [(done + step, cost) for step, cost in more[1:]]
