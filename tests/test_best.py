"""The best state is kept in every recording."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import assert_never_rises, complex_normal, costs, random_mixture, random_psd, seeded

from fca.inference.best import Best
from fca.inference.settle import settle
from fca.model import Model
from fca.source import Fixed
from fca.spatial import JointlyDiagonal
from fca.spatial.observation import identity_demixing


def model_of(mixture: Tensor, n_sources: int = 2) -> Model:
    batch, n_freq, n_channels, n_frames = mixture.shape
    psd = random_psd((batch, n_freq, n_sources, n_frames), seeded(1)).to(mixture.real)
    gains = torch.rand((batch, 1, n_sources, n_channels), generator=seeded(2)).to(psd) + 0.1
    return Model(JointlyDiagonal(mixture, identity_demixing(mixture), gains), Fixed(psd))


def test_a_recording_that_gets_worse_keeps_what_it_had() -> None:
    model = model_of(random_mixture(4, 3, 40, batch=2))

    def spoil_the_first(moving: Model) -> None:
        settle(moving)
        assert isinstance(moving.spatial, JointlyDiagonal)
        factor = torch.tensor([9.0, 1.0])[:, None, None, None]
        moving.spatial.gains = moving.spatial.gains * factor.to(moving.spatial.gains)

    before, best = model.images(), Best(model, spoil_the_first)
    first = best.cost()
    best.step()
    torch.testing.assert_close(best.images()[0], before[0])
    torch.testing.assert_close(best.cost()[0], first[0])
    assert best.cost()[1] < first[1]
    torch.testing.assert_close(best.best.cost(), best.cost())
    torch.testing.assert_close(model.images(), before)


def test_gains_are_no_longer_shared() -> None:
    best = Best(model_of(random_mixture(4, 3, 40)), settle)
    best.step()
    assert isinstance(best.best.spatial, JointlyDiagonal)
    assert best.best.spatial.gains.shape[1] == 4


def test_the_cost_of_many_microphones_never_rises_in_single_precision() -> None:
    """There, covariances of few frames are so close to singular that updates alone raise it."""
    sources = complex_normal((1, 3, 3, 24), seeded(), torch.float32)
    directions = complex_normal((1, 3, 16, 3), seeded(1), torch.float32)
    noise = complex_normal((1, 3, 16, 24), seeded(2), torch.float32)
    model = model_of((directions @ sources + 1e-5 * noise)[..., :18])
    best = Best(model, settle)
    trace = costs(best, best.step, 12)
    assert_never_rises(trace)
    with pytest.raises(AssertionError):
        assert_never_rises(costs(model, lambda: settle(model), 12))
    torch.testing.assert_close(best.best.cost(), trace[-1])
