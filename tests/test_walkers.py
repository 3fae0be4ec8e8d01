"""Starts for talkers who walk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_paths import N_FREQ, STANDING, WALKING, delayed
from torch import Tensor
from toy import complex_normal, item_improvement, random_psd, seeded

import fca
from fca.building import Building
from fca.errors import InputError
from fca.inference.start import Start, between_classes
from fca.inference.walkers import CERTAIN, unless_walking, walking
from fca.methods import get_method
from fca.model import Model
from fca.simulate.sets import Condition, Corpora, build
from fca.simulate.stored import Item
from fca.spatial import JointlyDiagonal
from fca.spatial.observation import Observation, identity_demixing
from fca.spatial.windows import InWindows

SPEECH = Path(__file__).parent / "data"


def mixture_of(*delays: Tensor) -> Tensor:
    return torch.cat([delayed(d, seeded(n)).sum(2) for n, d in enumerate(delays)])


def another(mixture: Tensor, n_sources: int = 2, interfered: bool = False) -> Start:
    """Some start, as for talkers who stand."""
    batch, n_freq, _, n_frames = mixture.shape
    start = Start(
        identity_demixing(mixture),
        random_psd((batch, n_freq, n_sources, n_frames), seeded()),
        doubt=torch.zeros(batch),
    )
    return start.with_silent() if interfered else start


def start_of(
    observation: Observation, n_sources: int, standing: Callable[[Observation], Start]
) -> Start:
    return unless_walking(observation, n_sources, walking(observation, n_sources), standing)


def never(*args: object, **options: object) -> Start:
    raise AssertionError("nobody asked for this start")


def test_the_start_of_those_who_stand_is_not_touched() -> None:
    mixture = mixture_of(STANDING)
    standing = another(mixture)
    assert start_of(Observation(mixture), 2, lambda some: standing) is standing


@pytest.mark.parametrize("n_sources", [1, 4])
def test_only_two_or_three_talkers_are_followed(n_sources: int) -> None:
    mixture = mixture_of(WALKING)
    standing = another(mixture, n_sources)
    assert start_of(Observation(mixture), n_sources, lambda some: standing) is standing


def test_three_microphones_are_too_few_to_follow_anybody() -> None:
    mixture = mixture_of(WALKING)[:, :, :3]
    standing = another(mixture)
    assert start_of(Observation(mixture), 2, lambda some: standing) is standing


def test_a_start_without_doubt_is_the_only_one() -> None:
    mixture = mixture_of(STANDING, WALKING)
    start = start_of(
        Observation(mixture), 2, lambda some: replace(another(some.mixture), doubt=None)
    )
    assert start.doubt is not None and start.doubt.tolist() == [0, CERTAIN]


def test_the_start_of_those_who_walk_needs_no_other() -> None:
    mixture = mixture_of(WALKING)
    start = start_of(Observation(mixture), 2, never)
    assert start.doubt is not None and start.doubt.tolist() == [CERTAIN]
    images = delayed(WALKING, seeded(0))[..., 0, :].abs().square()
    shares = torch.corrcoef(torch.cat([start.power[0].sum(0), images[0].sum(0)]))[:2, 2:]
    assert min(shares.diagonal()) > 0.8 or min(shares.flip(0).diagonal()) > 0.8


def test_components_are_started_from_what_the_microphones_hear() -> None:
    mixture = mixture_of(WALKING)
    turned = torch.linalg.qr(complex_normal((N_FREQ, 4, 4), seeded(), torch.float64)).Q
    start = start_of(Observation(turned @ mixture, heard=mixture), 2, never)
    plain = start_of(Observation(mixture), 2, never)
    torch.testing.assert_close(start.power, plain.power)


@pytest.mark.parametrize("interfered", [False, True])
def test_recordings_of_a_batch_have_the_start_that_suits_them(interfered: bool) -> None:
    mixture = mixture_of(STANDING, WALKING, STANDING)

    def standing(some: Observation) -> Start:
        torch.testing.assert_close(some.mixture, mixture[::2])
        return another(some.mixture, interfered=interfered)

    start = start_of(Observation(mixture), 2, standing)
    assert start.doubt is not None and start.doubt.tolist() == [0, CERTAIN, 0]
    usual = another(mixture[::2], interfered=interfered).at_microphones()
    torch.testing.assert_close(start.power[::2], usual.power)
    torch.testing.assert_close(start.demixing[::2], usual.demixing)
    alone = start_of(Observation(mixture[1:2]), 2, never)
    torch.testing.assert_close(start.power[1, :, :2], alone.power[0])
    assert (start.interfered is not None) == interfered


def test_classes_that_are_alike_at_a_frequency_leave_it_alone() -> None:
    mixture = mixture_of(WALKING).to(torch.complex64)
    masks = torch.rand((1, N_FREQ, 3, mixture.shape[3]), generator=seeded()).softmax(2)
    masks[:, 0] = 1 / 3
    mixture = torch.cat([mixture, mixture.flip(2)[:, :, :1] + 0.1], dim=2)
    demixing = between_classes(Observation(mixture), masks, 3).demixing
    assert demixing.isfinite().all()


def test_other_starts_do_not_follow_talkers() -> None:
    mixture = mixture_of(WALKING)
    for start, follows in (("rank-1", True), ("iva", False)):
        method = get_method("deep-fca").with_options(start=start)
        building = Building(method=method, mixture=mixture, n_sources=2, generator=seeded())
        assert building.followed.tolist() == [follows]
    with pytest.raises(InputError, match="walkers does nothing without start=rank-1"):
        get_method("fastmnmf2").with_options(walkers=True)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Two talkers who walk by 15 degrees per second around the array, and two who stand."""
    common = {"talkers": 2, "mics": 4, "rt60": (0.2, 0.3), "seconds": (5, 5)}
    kinds = {
        "walk": Condition(count=1, speed=15, distance=(0.7, 1.2), **common),  # type: ignore[arg-type]
        "stand": Condition(count=1, **common),  # type: ignore[arg-type]
    }
    return build(kinds, Corpora(SPEECH), tmp_path_factory.mktemp("walk"), seed=1)


def improvement(item: Item, **options: object) -> float:
    return item_improvement(item, fca.Separator("deep-fca", n_refine=4, **options))  # type: ignore[arg-type]


def test_talkers_who_walk_are_separated(items: list[Item]) -> None:
    walk, stand = items
    assert improvement(walk) > 6
    assert improvement(walk) > 3 + improvement(walk, walkers=False)
    assert improvement(stand) == improvement(stand, walkers=False)


def test_walks_are_looked_for_once(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look(observation: Observation, n_sources: int) -> Tensor:
        looks.append(n_sources)
        return walking(observation, n_sources)

    monkeypatch.setattr("fca.building.walking", look)
    mixture = torch.from_numpy(items[1].read("mixture"))
    fca.separate(mixture, 16000, n_refine=0)
    assert looks == [2]


def test_one_start_is_made_for_talkers_who_walk(
    items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fca.building.rank1", never)
    mixture = torch.from_numpy(items[0].read("mixture"))
    assert fca.separate(mixture, 16000, n_refine=0).sources.isfinite().all()


def test_who_walks_does_not_change_who_stands(items: list[Item]) -> None:
    mixtures = torch.stack([torch.from_numpy(item.read("mixture")) for item in items])
    # in single precision, rounding alone can tip the choice between two starts
    separate = fca.Separator("deep-fca", n_refine=0, dtype=torch.float64)
    together = separate(mixtures, 16000).sources
    for index, mixture in enumerate(mixtures):
        alone = separate(mixture, 16000).sources
        error = (together[index] - alone).square().mean() / alone.square().mean()
        assert error < 1e-9


def test_the_windows_of_who_walks_are_told_apart(items: list[Item]) -> None:
    mixtures = torch.stack([torch.from_numpy(item.read("mixture")) for item in items])
    walk, stand = (fca.separate(mixture, 16000, n_refine=0).model for mixture in mixtures)
    assert isinstance(walk, Model) and isinstance(walk.spatial, InWindows)
    assert isinstance(stand, Model) and isinstance(stand.spatial, JointlyDiagonal)


def test_gradients_pass_the_start() -> None:
    mixture = mixture_of(WALKING).requires_grad_()
    start = start_of(Observation(mixture), 2, never)
    (gradient,) = torch.autograd.grad(start.power.sum(), mixture)
    assert gradient.isfinite().all() and bool((gradient.abs().amax((0, 1, 3)) > 0).all())
