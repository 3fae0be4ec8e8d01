"""Frequency alignment undoes shuffles of sources with common activities."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from toy import random_psd, seeded

from fca.permutation import align, best_assignment, follow, reorder


def activities(n_sources: int, batch: int = 2, n_freq: int = 33, n_frames: int = 80) -> Tensor:
    """Powers with an activity per source that all frequencies share, and noise of 6 dB or so."""
    rng = seeded(n_sources)
    shared = (torch.rand(batch, 1, n_sources, n_frames, generator=rng) > 0.5).double() + 0.05
    level = random_psd((batch, n_freq, n_sources, 1), rng)
    noise = torch.rand(batch, n_freq, n_sources, n_frames, generator=rng).double() + 0.3
    return shared * noise * level


def shuffles(power: Tensor) -> Tensor:
    """A random order of the sources at every frequency, (B, F, N)."""
    return torch.rand(power.shape[:3], generator=seeded(7)).argsort(-1)


@pytest.mark.parametrize("n_freq", [33, 300])  # most of them are aligned several at once
@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_shuffled_frequencies_are_aligned(n_sources: int, n_freq: int) -> None:
    power = activities(n_sources, n_freq=n_freq)
    order = shuffles(power)
    shuffled = reorder(power, order)
    found = align(shuffled)
    # order[found] is the same at every frequency: the sources are one permutation away.
    total = order.gather(2, found)
    assert torch.equal(total, total[:, :1].expand_as(total))
    restored = reorder(reorder(shuffled, found), total.argsort(-1))
    torch.testing.assert_close(restored, power)


def test_aligned_sources_stay() -> None:
    power = activities(3)
    expected = torch.arange(3).expand(2, 33, -1)
    found = align(power)
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("method", [align, follow])
def test_silence_is_aligned_somehow(method: Callable[[Tensor], Tensor]) -> None:
    order = method(torch.zeros(1, 9, 2, 10))
    assert torch.equal(order.sort(-1).values, torch.arange(2).expand(1, 9, -1))


@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_stretches_in_another_order_are_followed(n_sources: int) -> None:
    """Of two recordings only the first has seams."""
    power = activities(n_sources, n_freq=64)
    order = torch.arange(n_sources).repeat(2, 64, 1)
    order[0, :8], order[0, 48:] = order[0, :8].flip(-1), order[0, 48:].roll(1, -1)
    found = follow(reorder(power, order))
    assert torch.equal(order.gather(2, found), torch.arange(n_sources).expand_as(order))
    assert torch.equal(found[1], order[1]), "without a seam nothing is moved"


def test_a_seam_may_be_a_stretch_that_is_not_separated() -> None:
    """Its neighbours say nothing there; those beyond still show that sources changed places."""
    power = activities(2, batch=1, n_freq=128)
    exchanged = torch.cat([power[:, :70], power[:, 70:].flip(2)], dim=1)
    exchanged[:, 64:76] = exchanged[:, 64:76].mean(2, keepdim=True)
    found = follow(exchanged)[0, :, 0]
    assert (found[:64] == found[0]).all() and (found[76:] == 1 - found[0]).all()


def test_a_single_source_has_nowhere_to_go() -> None:
    assert torch.equal(follow(torch.rand(2, 9, 1, 10)), torch.zeros(2, 9, 1, dtype=torch.long))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_best_assignment_beats_all_others(size: int) -> None:
    similarity = torch.rand(6, size, size, generator=seeded(size))
    assignment = best_assignment(similarity)
    for matrix, chosen in zip(similarity, assignment.tolist(), strict=True):
        totals = {
            order: sum(float(matrix[i, j]) for j, i in enumerate(order))
            for order in itertools.permutations(range(size))
        }
        assert tuple(chosen) == max(totals, key=totals.get)


def test_reorder_takes_any_trailing_shape() -> None:
    values, order = torch.arange(24).reshape(1, 2, 3, 2, 2), torch.tensor([[[2, 0, 1], [0, 2, 1]]])
    result = reorder(values, order)
    for f in range(2):
        for n in range(3):
            assert torch.equal(result[0, f, n], values[0, f, order[0, f, n]])


@pytest.mark.parametrize("size", [2, 5, 9, 14])
def test_assignments_of_any_size_are_the_best(size: int) -> None:
    similarity = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    order = best_assignment(similarity)
    assert order.shape == (2, 3, size)
    for matrix, found in zip(similarity.flatten(0, 1), order.flatten(0, 1), strict=True):
        rows, columns = linear_sum_assignment(matrix.numpy(), maximize=True)
        best = float(matrix[rows, columns].sum())
        assert float(matrix[found, torch.arange(size)].sum()) == pytest.approx(best)
    assert torch.equal(best_assignment(similarity[0, 0]), order[0, 0])
