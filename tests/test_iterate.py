"""The loop: what it monitors, tells and refuses."""

from __future__ import annotations

import pytest
import torch

from fca.errors import InputError
from fca.inference import EarlyStop, Progress, iterate


class Countdown:
    """A model whose cost is given."""

    def __init__(self, costs: list[float]) -> None:
        self.costs = costs
        self.steps = 0

    def step(self) -> None:
        self.steps += 1

    def cost(self) -> torch.Tensor:
        return torch.tensor([self.costs[self.steps]] * 2)


def test_cost_is_monitored_at_both_ends_and_between() -> None:
    model = Countdown([float(10 - k) for k in range(8)])
    trace = iterate(model, 7, monitor_every=3)
    assert trace == [(0, 10.0), (3, 7.0), (6, 4.0), (7, 3.0)]


def test_a_cost_that_is_known_is_not_computed() -> None:
    model = Countdown([9.0, 2.0, 1.0])
    assert iterate(model, 2, first_cost=5.0) == [(0, 5.0), (2, 1.0)]


def test_callbacks_are_told_of_every_iteration() -> None:
    seen: list[Progress] = []
    iterate(Countdown([3.0, 2.0, 1.0]), 2, [seen.append], monitor_every=2)
    assert seen == [Progress(1, 2, None, 0.5), Progress(2, 2, 1.0, 1.0)]


def test_any_callback_may_stop_the_loop() -> None:
    model = Countdown([1.0] * 10)
    later: list[int] = []
    stop = [lambda progress: progress.iteration == 4, lambda progress: later.append(0)]
    iterate(model, 9, stop)
    assert model.steps == 4
    assert len(later) == 4


def test_early_stop_waits_for_a_stalled_cost() -> None:
    model = Countdown([5.0, 4.0, 3.0, 2.99999, 2.0])
    trace = iterate(model, 4, [EarlyStop(1e-3)], monitor_every=1)
    assert trace[-1] == (3, pytest.approx(2.99999))


def test_early_stop_begins_again_with_every_fit() -> None:
    stop = EarlyStop(1e-3)
    iterate(Countdown([5.0, 1.0]), 1, [stop], monitor_every=1)
    trace = iterate(Countdown([5.0, 4.0, 3.0]), 2, [stop], monitor_every=1)
    assert trace[-1] == (2, 3.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_divergence_is_reported(bad: float) -> None:
    with pytest.raises(InputError, match="after 2 iterations: the model diverged"):
        iterate(Countdown([1.0, 0.0, bad]), 2, monitor_every=1)


def test_costs_need_not_be_computed() -> None:
    assert iterate(Countdown([float("nan")]), 1, monitor_every=None) == []


def test_the_cost_where_the_loop_was_stopped_is_the_last() -> None:
    model = Countdown([float(10 - k) for k in range(10)])
    assert iterate(model, 9, [lambda progress: progress.iteration == 5])[-1] == (5, 5.0)
