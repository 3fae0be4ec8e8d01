"""Starts from classes of bins."""

from __future__ import annotations

import math

import pytest
import torch
from test_delays import N_FRAMES, N_FREQ, heard
from toy import complex_normal, random_psd, seeded

from fca.clustering import CACGMM, random_masks
from fca.inference.classes import (
    Effort,
    as_sources,
    demixed,
    first_masks,
    source_masks,
    underdetermined,
)
from fca.inference.iterate import iterate
from fca.linalg import abs2
from fca.source import Fixed, Gauss
from fca.spatial.observation import Observation


class Oracle(Fixed):
    """True PSDs as those of a source model that judges."""

    judges = True


def test_random_starts_are_in_doubt_where_there_are_delays() -> None:
    noise = complex_normal((1, N_FREQ, 2, N_FRAMES), seeded(), torch.float64)
    mixture = torch.cat([heard()[0].sum(2), noise])
    by_delay = underdetermined(Observation(mixture), 3, seeded(), Gauss())
    at_random = underdetermined(Observation(mixture), 3, seeded(), Gauss(), from_delays=False)
    assert by_delay.doubt is not None and at_random.doubt is not None
    assert by_delay.doubt.tolist() == [0, 0]
    assert at_random.doubt.tolist() == [math.inf, 0]


def test_masks_to_begin_with_do_not_depend_on_the_other_recordings() -> None:
    noise = complex_normal((2, N_FREQ, 2, N_FRAMES), seeded(), torch.float64)
    mixture = torch.cat([heard()[0].sum(2), noise])
    together, found = first_masks(mixture, 3, seeded())
    assert found.tolist() == [True, False, False]
    for index, masks in enumerate(together):
        alone, _ = first_masks(mixture[index : index + 1], 3, seeded())
        torch.testing.assert_close(masks, alone[0])


def test_thinned_classes_are_those_of_some_frequencies_and_their_neighbours() -> None:
    mixture = heard()[0].sum(2)[:, :33]
    begin, _ = first_masks(mixture, 3, seeded())
    effort = Effort(n_iter=12, thinning=2)
    masks = source_masks(Observation(mixture), begin, Gauss(), seeded(), effort)
    some = CACGMM(Observation(mixture[:, ::2]), begin[:, ::2])
    iterate(some, 12, monitor_every=None)
    torch.testing.assert_close(masks[:, ::2], some.masks)
    torch.testing.assert_close(masks[:, 1::2], some.masks[:, :-1])


def test_the_source_model_tells_apart_what_directions_do_not() -> None:
    """Three sources from one place: all that differs are their spectra; where one prevails."""
    power = random_psd((1, 16, 3, 40), seeded(1)) ** 2
    sources = power.sqrt() * complex_normal((1, 16, 3, 40), seeded(2), torch.float64)
    steering = complex_normal((1, 16, 2, 1), seeded(3), torch.float64)
    mixture = steering @ sources.sum(2, keepdim=True)
    mixture = mixture + 0.01 * complex_normal((1, 16, 2, 40), seeded(4), torch.float64)
    equal = power.new_full(power.shape, 1 / 3)
    masks = as_sources(Observation(mixture), equal, Oracle(power), seeded())
    torch.testing.assert_close(masks.sum(2), torch.ones_like(masks[:, :, 0]))
    blind = CACGMM(Observation(mixture), random_masks(mixture, 3, seeded()))
    iterate(blind, 24, monitor_every=None)
    first, second = power.sort(2, descending=True).values[:, :, :2].unbind(2)
    right, by_chance = (
        float((found.argmax(2) == power.argmax(2))[first > 10 * second].double().mean())
        for found in (masks, blind.masks)
    )
    assert right > 0.8
    assert by_chance < 0.5


def test_powers_of_the_start_are_those_of_its_masks() -> None:
    """A source model that judges has its say, and nothing of the mixture is counted twice."""
    mixture = heard()[0].sum(2)
    power = random_psd((1, N_FREQ, 3, N_FRAMES), seeded(5))
    told, untold = (
        underdetermined(Observation(mixture), 3, seeded(), source)
        for source in (Oracle(power), Fixed(power))
    )
    assert not torch.allclose(told.power, untold.power)
    for start in (told, untold):
        observed = abs2(mixture).mean(2)
        torch.testing.assert_close(start.power.sum(2), observed, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("n_channels", [3, 4])
def test_outputs_are_those_of_the_classes(n_channels: int) -> None:
    """Told the spectra, three sources come out of the first three outputs, in their order."""
    rng = seeded(6)
    power = random_psd((1, 16, 3, 120), rng) ** 2
    sources = power.sqrt() * complex_normal((1, 16, 3, 120), rng, torch.float64)
    steering = complex_normal((1, 16, n_channels, 3), rng, torch.float64)
    noise = 0.01 * complex_normal((1, 16, n_channels, 120), rng, torch.float64)
    mixture = steering @ sources + noise
    shares = []
    for source in (Oracle(power), Fixed(power)):
        demixing = demixed(Observation(mixture), mixture, 3, seeded(), source)
        assert demixing.shape == (1, 16, n_channels, n_channels)
        passed = abs2(demixing[:, :, :3] @ steering) * power.mean(-1)[:, :, None]
        shares.append(float((passed.diagonal(dim1=-2, dim2=-1) / passed.sum(-1)).mean()))
    told, by_direction = shares
    assert told > 0.6
    assert by_direction < 0.5, "a third by chance: nothing ties these frequencies together"
