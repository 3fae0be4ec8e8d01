"""What is kept between steps, and when it no longer holds."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.memo import Latest, computed_anew


def test_a_value_is_kept_until_an_argument_is_replaced() -> None:
    calls: list[float] = []

    def product(a: Tensor, b: Tensor) -> Tensor:
        calls.append(float(a * b))
        return a * b

    latest, two, three = Latest(product), torch.tensor(2.0), torch.tensor(3.0)
    assert latest(two, three) is latest(two, three)
    latest(two, two)
    latest(two, three.clone())
    assert calls == [6.0, 4.0, 6.0]


def test_a_value_without_gradients_does_not_stand_in_for_one_with_them() -> None:
    latest, leaf = Latest(torch.exp), torch.tensor(2.0, requires_grad=True)
    with torch.no_grad():
        assert not latest(leaf).requires_grad
    assert latest(leaf).requires_grad


def test_nothing_is_kept_where_work_is_repeated() -> None:
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:
        calls.append(x)
        return 2 * x

    latest, x = Latest(double), torch.ones(2)
    latest(x)
    with computed_anew():
        latest(x)
        latest(x)
    latest(x)
    assert len(calls) == 3


def test_a_value_is_computed_again_when_an_argument_was_written_into() -> None:
    latest, x = Latest(torch.exp), torch.zeros(2)
    latest(x)
    x += 1
    torch.testing.assert_close(latest(x), torch.ones(2).exp())
    with torch.inference_mode():
        assert latest(torch.zeros(2)).tolist() == [1, 1]
