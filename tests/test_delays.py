"""Delays between two microphones, and the masks that they give."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from toy import complex_normal, seeded

from fca.inference.delays import APART, STEPS, delay_masks, peaks, pooled_correlation

N_FREQ, N_FRAMES = 257, 60
DELAYS = torch.tensor([-9.5, 1.0, 6.5], dtype=torch.float64)


def heard(delays: Tensor = DELAYS) -> tuple[Tensor, Tensor]:
    """Images (1, F, N, 2, T) of sources of pure delays, and when they are active, (N, T)."""
    frames = torch.arange(N_FRAMES)
    active = torch.stack([(frames + 20 * n) % 60 < 30 for n in range(len(delays))])
    shape = (1, N_FREQ, len(delays), N_FRAMES)
    source = complex_normal(shape, seeded(), torch.float64) * active
    omega = torch.linspace(0, math.pi, N_FREQ, dtype=torch.float64)
    angle = -omega[:, None] * delays
    second = source * torch.polar(torch.ones_like(angle), angle)[..., None]
    return torch.stack([source, second], dim=3), active


def test_the_peaks_are_the_delays() -> None:
    mixture = heard()[0].sum(2)
    cross = mixture[:, :, 0] * mixture[:, :, 1].conj()
    correlation = pooled_correlation(cross / cross.abs(), mixture.abs().square().sum((1, 2)))
    middle = correlation.shape[1] // 2
    found = (peaks(correlation, 3) - middle).double() / STEPS
    torch.testing.assert_close(found[0].sort().values, DELAYS, rtol=0, atol=0.5 / STEPS)


def test_masks_are_of_the_louder_source() -> None:
    images, active = heard()
    masks, found = delay_masks(images.sum(2), 3)
    assert found.tolist() == [True]
    torch.testing.assert_close(masks.sum(2), torch.ones(1, N_FREQ, N_FRAMES).double())
    loudest = images[..., 0, :].abs().argmax(2)
    shares = [  # of its own bins and of the others', for every pair of a mask and a source
        [float(mask[loudest[0] == n].mean()) for n in range(3)] for mask in masks[0].unbind(1)
    ]
    best = torch.tensor(shares).argmax(1)
    assert sorted(best.tolist()) == [0, 1, 2]
    assert min(max(row) for row in shares) > 2 * max(sorted(row)[1] for row in shares)
    assert bool(active.any(0).all())


@pytest.mark.parametrize("count", [1, 4])
def test_peaks_are_apart_even_where_there_are_too_few(count: int) -> None:
    places = torch.arange(80)
    values = torch.stack([-(places - 30.0).abs(), -(places - 60.0).abs()])
    found = peaks(values, count)
    assert found[:, 0].tolist() == [30, 60]
    gaps = found.sort(1).values.diff(dim=1)
    assert bool((gaps >= APART).all())


def test_recordings_of_a_batch_do_not_meet() -> None:
    first, second = heard()[0].sum(2), heard(DELAYS + 3)[0].sum(2)
    together, _ = delay_masks(torch.cat([first, second]), 3)
    torch.testing.assert_close(together[:1], delay_masks(first, 3)[0])
    torch.testing.assert_close(together[1:], delay_masks(second, 3)[0])


@pytest.mark.parametrize("n_freq", [16, 257])
def test_random_phases_have_no_delays(n_freq: int) -> None:
    mixture = complex_normal((8, n_freq, 2, N_FRAMES), seeded(), torch.float64)
    masks, found = delay_masks(mixture, 3)
    assert not bool(found.any())
    assert bool(masks.isfinite().all())


def test_a_dead_microphone_or_silence_has_no_delays() -> None:
    mixture = heard()[0].sum(2).expand(2, -1, -1, -1).clone()
    mixture[0, :, 1] = 0
    mixture[1] = 0
    masks, found = delay_masks(mixture, 3)
    assert found.tolist() == [False, False]
    torch.testing.assert_close(masks, torch.full_like(masks, 1 / 3))
