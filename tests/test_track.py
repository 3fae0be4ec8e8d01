"""Talkers who go round: the start follows them, and so does the model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_mixture, random_psd, seeded

from fca.inference.start import iva
from fca.inference.track import MovingStart, same_everywhere, track
from fca.methods import get_method
from fca.spatial import FullRank
from fca.spatial.inverse_wishart import InverseWishart
from fca.spatial.motion import Moving, exponential_windows
from fca.spatial.observation import Observation

N_FRAMES = 400


def turning_sources(angle: float) -> tuple[Tensor, Tensor]:
    """Mixture (1, F, 2, T) and images (1, F, 2, 2, T) of sources whose directions turn."""
    rng = seeded(2)
    psd = random_psd((1, 1, 2, N_FRAMES), rng).square()
    sources = psd.sqrt() * complex_normal((1, 16, 2, N_FRAMES), rng, torch.float64)
    theta = torch.linspace(0, angle, N_FRAMES, dtype=torch.float64)
    direction = torch.stack([theta.cos(), theta.sin()]), torch.stack([-theta.sin(), theta.cos()])
    room = torch.linalg.qr(complex_normal((1, 16, 2, 2), rng, torch.float64)).Q
    turned = torch.stack(direction)[None, None] * sources[:, :, :, None]
    images = (room[:, :, None] @ turned) / sources.abs().square().mean().sqrt()
    return images.sum(2), images


def error(found: Tensor, images: Tensor) -> float:
    """Relative error of images in the better order."""
    orders = itertools.permutations(range(2))
    return min(float((found[:, :, list(o)] - images).norm() / images.norm()) for o in orders)


@pytest.mark.parametrize("name", ["fca", "mnmf"])
def test_who_turns_is_followed(name: str) -> None:
    mixture, images = turning_sources(math.pi)
    errors = []
    for options in ({}, {"forgetting": 0.98, "inertia": 3.0}):
        model = get_method(name).with_options(**options).build(mixture, 2, seeded())
        for _ in range(10):
            model.step()
        errors.append(error(model.images(), images))
    assert errors[1] < 0.5 * errors[0]


def test_who_stands_is_followed_too() -> None:
    mixture, images = turning_sources(0.0)
    method = get_method("fca").with_options(forgetting=0.99)
    model = method.build(mixture, 2, seeded())
    assert error(model.images(), images) < 0.3


def test_one_window_starts_as_auxiva() -> None:
    mixture = random_mixture(8, 3, 100)
    windows = exponential_windows(100, 1.0, mixture.real)
    tracked = track(Observation(mixture), 2, seeded(), windows)
    start = iva(Observation(mixture), 2, seeded())
    assert torch.equal(tracked.power, start.power)
    assert torch.equal(tracked.scm(), start.scm())


@pytest.mark.parametrize("name", ["fca", "mnmf"])
def test_who_stands_still_is_seen_to_and_loses_nothing(name: str) -> None:
    mixture, _ = turning_sources(0.0)
    images = []
    for forgetting in (1.0, 0.98):
        model = get_method(name).with_options(forgetting=forgetting).build(mixture, 2, seeded())
        model.step()
        images.append(model.images())
    assert torch.equal(*images)


@pytest.mark.parametrize("update", ["em", "mu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_who_stands_still_beside_one_who_moves_has_one_window(
    update: str, dtype: torch.dtype
) -> None:
    mixture = torch.cat([turning_sources(angle)[0] for angle in (0.0, math.pi)])
    windows = exponential_windows(N_FRAMES, 0.98, mixture.real)
    start = track(Observation(mixture), 2, seeded(), windows)
    assert isinstance(start, MovingStart)
    assert start.moving.tolist() == [False, True]
    assert torch.all(start.windows[0].sum(-1) == torch.eye(len(windows))[0] * N_FRAMES)
    assert torch.equal(start.windows[1], windows)
    still, scm = mixture[:1].to(dtype.to_complex()), start.scms[:1].to(dtype.to_complex())
    prior = InverseWishart(torch.zeros(1, dtype=dtype), len(windows))
    inner = FullRank(still, scm, update, prior=prior)
    moving = Moving(inner, 2, start.windows[:1].to(dtype))
    fixed = FullRank(still, scm[:, :, :2], update)
    psd = start.power[:1].to(dtype)
    for _ in range(3):
        moving.update(psd)
        fixed.update(psd)
    torch.testing.assert_close(moving.images(psd), fixed.images(psd))
    torch.testing.assert_close(moving.nll(psd), fixed.nll(psd))


def test_other_starts_stand_still() -> None:
    mixture = random_mixture(8, 3, 100)
    start = iva(Observation(mixture), 2, seeded())
    whole = same_everywhere(start, torch.full((1, 4, 100), 0.25), moving=True)
    torch.testing.assert_close(whole.scm()[:, :, 2:4], whole.scm()[:, :, :2])
    assert whole.scm().shape[2] == 8
    assert whole.at_microphones() is whole
