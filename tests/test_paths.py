"""Talkers followed by their delays."""

from __future__ import annotations

import math
from itertools import combinations, permutations, product

import pytest
import torch
from torch import Tensor
from toy import complex_normal, seeded

from fca.inference import paths
from fca.inference.paths import CLOSELY, anybody_walks, follow_talkers, path_masks
from fca.linalg import abs2

N_FREQ, N_FRAMES = 513, 64


def delayed(delays: Tensor, rng: torch.Generator, quiet: float = 0.1) -> Tensor:
    """Images (1, F, N, M, T) of talkers with delays (N, T, M) who speak in turns of their own."""
    frames = torch.arange(N_FRAMES)
    level = torch.stack([((frames + 7 * n) % 20 < 12) + quiet for n in range(len(delays))])
    spectrum = complex_normal((N_FREQ, len(delays), N_FRAMES), rng, torch.float64)
    omega = torch.linspace(0, math.pi, N_FREQ, dtype=torch.float64)
    angle = -omega[:, None, None, None] * delays.mT
    images = torch.polar(torch.ones_like(angle), angle) * (level * spectrum)[:, :, None]
    noise = complex_normal((N_FREQ, 1, delays.shape[2], N_FRAMES), rng, torch.float64)
    return (images + 0.02 * noise)[None]


def still(*places: list[float]) -> Tensor:
    """Delays (N, T, M) of talkers who stand."""
    return torch.tensor(places, dtype=torch.float64)[:, None].expand(-1, N_FRAMES, -1)


def walking(places: Tensor, *moves: list[float]) -> Tensor:
    """The same delays, and in addition moves by so much from the first frame to the last."""
    share = torch.linspace(0, 1, N_FRAMES, dtype=torch.float64)[:, None]
    return places + torch.tensor(moves, dtype=torch.float64)[:, None] * share


STANDING = still([0, 3, -5, 7], [0, -4, 6, -2])
WALKING = walking(STANDING, [0, 2, 4, -3], [0, 3, -4, 2])


def followed(mixture: Tensor, n_sources: int = 2) -> Tensor:
    phases = mixture[0] / mixture[0].abs()
    return follow_talkers(phases, abs2(mixture[0]).sum((0, 1)), n_sources, CLOSELY)


def least_error(found: Tensor, delays: Tensor) -> Tensor:
    """Mean error over the microphones (N, T) of the paths found, in their best order."""
    orders = permutations(range(len(found)))
    errors = [(found[list(order)] - delays).abs().mean(-1) for order in orders]
    return min(errors, key=lambda error: float(error.mean()))


@pytest.mark.parametrize("delays", [STANDING, WALKING], ids=["standing", "walking"])
def test_the_paths_are_those_of_the_talkers(delays: Tensor) -> None:
    found = followed(delayed(delays, seeded()).sum(2))
    assert found[..., 0].abs().max() == 0
    error = least_error(found, delays)
    assert error.median() < 0.2  # samples; the grid has steps of 1/6
    assert error.max() < 1.5  # in pauses


def test_three_talkers_can_be_followed() -> None:
    delays = torch.cat([WALKING, still([0, 9, 9, 9])])
    found = followed(delayed(delays, seeded()).sum(2), 3)
    assert least_error(found, delays).median() < 0.2


def test_who_stands_does_not_walk() -> None:
    one = walking(STANDING, [0, 0, 0, 0], [0, 3, -4, 2])
    mixtures = [delayed(d, seeded()).sum(2) for d in (STANDING, WALKING, one)]
    assert anybody_walks(torch.cat(mixtures), 2).tolist() == [False, True, True]


def test_jumps_are_no_walk() -> None:
    delays = STANDING.clone()
    delays[:, N_FRAMES // 2 :] += 4
    power = torch.ones(2, N_FRAMES, dtype=torch.float64) * torch.tensor([[1.0], [3.0]])
    assert paths._walked(delays, power).tolist() == [0, 0]
    walked = paths._walked(walking(STANDING, [0, 2, 4, 3], [0, 2, 4, 3]), power)
    assert walked[0] == 0  # never the louder one
    assert walked[1] == pytest.approx(0.8 * 3, rel=0.05)  # less a tenth at either end


def test_masks_are_of_the_louder_talker() -> None:
    images = delayed(WALKING, seeded())
    masks = path_masks(images.sum(2), 2)
    torch.testing.assert_close(masks.sum(2), torch.ones(1, N_FREQ, N_FRAMES).double())
    loudest = abs2(images).mean(3).argmax(2)
    share = torch.stack([(masks.argmax(2) == n)[loudest == n].double().mean() for n in (0, 1)])
    assert share.min() > 0.85 or share.max() < 0.15  # the talkers may be in the other order


def test_masks_do_not_depend_on_the_other_recordings() -> None:
    mixtures = torch.cat([delayed(d, seeded(n)).sum(2) for n, d in enumerate((STANDING, WALKING))])
    together = path_masks(mixtures, 2)
    for index, masks in enumerate(together):
        torch.testing.assert_close(masks, path_masks(mixtures[index : index + 1], 2)[0])


def test_large_arrays_are_listened_to_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = delayed(WALKING, seeded()).sum(2)
    monkeypatch.setattr(paths, "MOST_MICROPHONES", 2)
    torch.testing.assert_close(path_masks(mixture, 2), path_masks(mixture[:, :, [0, 3]], 2))


@pytest.mark.parametrize("n_frames", [1, 5])
def test_silence_and_short_recordings_give_masks(n_frames: int) -> None:
    mixture = delayed(STANDING, seeded()).sum(2)[..., :n_frames]
    mixture = torch.cat([mixture, torch.zeros_like(mixture)])
    assert path_masks(mixture, 2).isfinite().all()
    assert anybody_walks(mixture, 2).tolist() == [False, False]


def test_agreement_is_the_mean_over_all_pairs() -> None:
    rng = seeded()
    phases = complex_normal((4, 3, 5), rng, torch.float64)
    phases = phases / phases.abs()
    omega = torch.linspace(0, 3, 4).double()
    places = torch.randn((5, 2, 3), generator=rng).double()
    places[..., 0] = 0
    expected = torch.zeros(4, 2, 5).double()
    for i, j in combinations(range(3), 2):
        delay = (places[..., j] - places[..., i]).mT
        difference = (phases[:, i] * phases[:, j].conj()).angle()[:, None]
        expected += (difference - omega[:, None, None] * delay).cos() / 3
    torch.testing.assert_close(paths._agreement(phases, omega, places), expected)


def test_the_paths_are_the_best_of_all() -> None:
    rng = seeded(3)
    places = 2 * torch.randn((4, 3, 2), generator=rng).double()
    rows = torch.tensor(list(combinations(range(3), 2)))
    scores = torch.randn((4, 3), generator=rng).double()
    found = paths._likeliest_paths(scores, places, rows.expand(4, -1, -1))

    def total(path: Tensor, choices: tuple[int, ...]) -> float:
        moves = path.diff(dim=1).abs().mean(-1).sum()
        return float(sum(scores[t, c] for t, c in enumerate(choices)) - paths.STILLNESS * moves)

    best = -math.inf
    for choices in product(range(3), repeat=4):
        for turns in product([False, True], repeat=4):
            at = [
                rows[c].flip(0) if turn else rows[c] for c, turn in zip(choices, turns, strict=True)
            ]
            path = torch.stack([places[t, where] for t, where in enumerate(at)], dim=1)
            if total(path, choices) > best:
                best, expected = total(path, choices), path
    same = [torch.allclose(found[order], expected) for order in ([0, 1], [1, 0])]
    assert any(same)
