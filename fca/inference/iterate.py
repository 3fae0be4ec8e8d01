"""The one loop that fits every model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from fca.errors import InputError
from fca.model import Fittable


@dataclass(frozen=True)
class Progress:
    """What a callback is told after an iteration.

    Attributes
    ----------
    iteration, n_iter : int
        Iterations done and asked for.
    cost : float or None
        Mean cost per time-frequency bin over the batch, where it was computed.
    share : float
        How much of the whole separation is done, from 0 to 1: it may consist of several fits.
    """

    iteration: int
    n_iter: int
    cost: float | None
    share: float


Callback = Callable[[Progress], bool | None]
"""Called after every iteration; a true return value ends the loop."""


def within(callbacks: Sequence[Callback], begin: float, end: float) -> list[Callback]:
    """Callbacks for a fit that goes from one share of the whole to another."""

    def inside(callback: Callback, progress: Progress) -> bool | None:
        return callback(replace(progress, share=begin + (end - begin) * progress.share))

    return [partial(inside, callback) for callback in callbacks]


class EarlyStop:
    """Callback that ends the loop once the cost falls by less than ``tolerance`` between checks."""

    def __init__(self, tolerance: float = 1e-4) -> None:
        self.tolerance = tolerance
        self._last = float("inf")
        self._iteration = 0

    def __call__(self, progress: Progress) -> bool:
        if progress.iteration <= self._iteration:  # another fit
            self._last = float("inf")
        self._iteration = progress.iteration
        if progress.cost is None:
            return False
        stalled = self._last - progress.cost < self.tolerance
        self._last = progress.cost
        return stalled


def iterate(
    model: Fittable,
    n_iter: int,
    callbacks: Sequence[Callback] = (),
    monitor_every: int | None = 10,
    first_cost: float | None = None,
) -> list[tuple[int, float]]:
    """Run ``n_iter`` steps of ``model`` in place.

    Parameters
    ----------
    model : Fittable
        Fitted in place.
    n_iter : int
        Number of iterations.
    callbacks : sequence of Callback
        Called in turn after each iteration.
    monitor_every : int or None
        The cost is computed at the start, every so many iterations, and at the end; never if None.
    first_cost : float, optional
        Cost at the start, if it is known already.

    Returns
    -------
    list of (int, float)
        Cost trace: iteration and mean cost per bin.

    Raises
    ------
    InputError
        If the cost is no longer finite, or a matrix can no longer be inverted.
    """
    trace = []
    if monitor_every is not None:
        trace.append((0, _finite_cost(model, 0) if first_cost is None else first_cost))
    for iteration in range(1, n_iter + 1):
        _step(model, iteration)
        cost = None
        if monitor_every is not None and (iteration % monitor_every == 0 or iteration == n_iter):
            cost = _finite_cost(model, iteration)
            trace.append((iteration, cost))
        progress = Progress(iteration, n_iter, cost, iteration / n_iter)
        stop = [callback(progress) for callback in callbacks]
        if any(stop):
            if monitor_every is not None and cost is None:
                trace.append((iteration, _finite_cost(model, iteration)))
            break
    return trace


def _step(model: Fittable, iteration: int) -> None:
    try:
        model.step()
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise InputError(
            f"singular matrices in iteration {iteration}: the model diverged"
        ) from None


def _finite_cost(model: Fittable, iteration: int) -> float:
    with torch.no_grad():
        cost = float(model.cost().mean())
    if cost != cost or cost in (float("inf"), float("-inf")):
        raise InputError(f"the cost is {cost} after {iteration} iterations: the model diverged")
    return cost
