"""Which of two fits every recording of a batch keeps, whatever the source model holds."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from toy import random_mixture, random_psd, seeded, source_model, spatial_model

from fca.inference.choice import likelier
from fca.model import Model
from fca.prior.latents import GaussianPosterior
from fca.source import Free, Gauss, SourceModel
from fca.source.base import Evaluate
from fca.state import choose


class Weighted(SourceModel):
    """PSDs of another model, in a dictionary of one, times a weight of each frequency."""

    def __init__(self, weight: float = 1.0) -> None:
        self._inner: SourceModel = Free()
        self._value = weight

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._inner.initialise(power, generator)
        self._weight = torch.full((power.shape[1], 1, 1), self._value, dtype=power.dtype)
        self._kept = {"psd": self._inner.psd()}

    def psd(self) -> Tensor:
        return self._weight * self._kept["psd"]

    def update(self, evaluate: Evaluate) -> None:
        self._inner.update(evaluate)
        self._kept = {"psd": self._inner.psd()}


def fitted(seed: int, weight: float = 1.0) -> Model:
    mixture = random_mixture(batch=2)
    power = random_psd((2, mixture.shape[1], 3, mixture.shape[3]), seeded(seed))
    source = Weighted(weight)
    source.initialise(power, seeded())
    model = Model(spatial_model("jointly diagonal", mixture, seed=seed), source)
    for _ in range(seed):
        model.step()
    return model


def test_each_recording_keeps_the_state_of_its_better_fit() -> None:
    first, second = fitted(1), fitted(4)
    better = torch.tensor([True, False])
    both = torch.where(better, first.cost(), second.cost())
    torch.testing.assert_close(choose(better, first, second).cost(), both)
    least = torch.minimum(first.cost(), second.cost())
    torch.testing.assert_close(likelier(first, second).cost(), least)


def test_tensors_without_recordings_have_to_agree() -> None:
    with pytest.raises(TypeError, match=r"a tensor \(4, 1, 1\) .* its 2 recordings first"):
        choose(torch.tensor([True, False]), fitted(1), fitted(2, weight=2.0))


def test_posteriors_go_with_their_recordings() -> None:
    means = torch.randn(2, 2, 3, 5, 4, generator=seeded())
    new, old = (GaussianPosterior(mean, mean) for mean in means)
    chosen = choose(torch.tensor([False, True]), new, old)
    torch.testing.assert_close(chosen.mean, torch.stack([old.mean[0], new.mean[1]]))


def test_a_copy_of_a_model_that_holds_another_moves_on_its_own() -> None:
    model = fitted(1)
    before, other = model.source.psd(), model.copy()
    other.step()
    torch.testing.assert_close(model.source.psd(), before)
    inner = model.source._inner  # type: ignore[attr-defined]
    torch.testing.assert_close(inner.psd(), before)


@pytest.mark.parametrize("kind", ["nmf", "stack"])
def test_copies_keep_their_kind(kind: str) -> None:
    source = source_model(kind, random_psd((1, 4, 3, 30), seeded()))
    twin = copy.copy(source)
    assert type(twin) is type(source)
    torch.testing.assert_close(twin.psd(), source.psd())
    assert copy.copy(Gauss(quietest=0.5)).quietest == 0.5


@dataclass
class Held:
    """What a source model may keep its tensors in."""

    psd: Tensor


class Holding(Free):
    """PSDs in an object of its own."""

    def keep(self, psd: Tensor) -> Holding:
        self._held = Held(psd)
        return self


def test_dataclasses_go_with_their_recordings() -> None:
    new, old = (Holding().keep(torch.full((2, 1, 1, 1), value)) for value in (1.0, 2.0))
    chosen = choose(torch.tensor([True, False]), new, old)
    assert chosen._held.psd.flatten().tolist() == [1.0, 2.0]
    assert new._held.psd.flatten().tolist() == [1.0, 1.0]


def test_objects_that_hold_tensors_unseen_are_refused() -> None:
    class Unseen:
        def __init__(self, value: float) -> None:
            self.psd = torch.full((2, 1), value)

    with pytest.raises(TypeError, match=r"Unseen holds tensors \(psd\) and is neither"):
        choose(torch.tensor([True, False]), [Unseen(1.0)], [Unseen(2.0)])
