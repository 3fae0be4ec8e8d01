"""Which outputs of a rank-1 model are taken for the sources."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_psd, seeded

from fca.inference import outputs
from fca.inference.outputs import by_likelihood, by_loudness, likeness
from fca.spatial import Rank1


def split_talker(batch: int = 1, own: float = 0.0, level: float = 0.3) -> tuple[Rank1, Tensor]:
    """Outputs: a loud talker twice, noise, a quiet talker; and their PSDs (B, F, 4, T).

    A share of the second has its ``own`` spectrum; the quiet one has a ``level``.
    """
    rng = seeded(0)
    loud, quiet = random_psd((batch, 40, 2, 60), rng).square().unbind(2)
    noise = torch.full_like(quiet, 0.01)
    other = (1 - own) * loud + own * random_psd(loud.shape, seeded(1)).square()
    psd = torch.stack([4 * loud, 3 * other, noise, level * quiet], dim=2)
    sources = psd.sqrt() * complex_normal(psd.shape, rng, torch.float64)
    mixing = torch.linalg.qr(complex_normal((batch, 40, 4, 4), rng, torch.float64)).Q
    return Rank1(mixing @ sources, mixing.mH, 4), psd


def test_a_quiet_talker_is_preferred_to_another_part_of_a_loud_one() -> None:
    spatial, psd = split_talker()
    assert by_loudness(spatial).tolist() == [[0, 1, 3, 2]]
    first, second = by_likelihood(spatial, psd, 2)[0, :2].tolist()
    assert first in (0, 1) and second == 3


def test_what_goes_along_with_a_loud_talker_is_not_another(monkeypatch: pytest.MonkeyPatch) -> None:
    spatial, psd = split_talker(own=0.7, level=0.03)
    first, second = by_likelihood(spatial, psd, 2)[0, :2].tolist()
    assert first in (0, 1) and second == 3
    monkeypatch.setattr(outputs, "ALIKE", 0.0)
    assert by_likelihood(spatial, psd, 2)[0, :2].tolist() == [0, 1]


def test_likeness_is_that_of_changes_whatever_the_level() -> None:
    psd = random_psd((2, 64, 2, 400), seeded(0))
    twice = torch.cat([psd, 5 * psd[:, :, :1]], dim=2)
    alike = likeness(twice)
    torch.testing.assert_close(alike[:, 0, 2], torch.ones(2).to(psd))
    assert bool((alike[:, 0, 1].abs() < 0.1).all())
    torch.testing.assert_close(alike, alike.mT)
    assert not bool(likeness(torch.ones_like(psd)).any())


def test_the_loudest_stay_where_others_explain_no_more() -> None:
    spatial, psd = split_talker()
    alike = psd[:, :, [0, 0, 0, 0]]
    assert torch.equal(by_likelihood(spatial, alike, 2), by_loudness(spatial))
    assert torch.equal(by_likelihood(spatial, psd, 4), by_loudness(spatial))


def test_recordings_choose_for_themselves_and_the_background_stays_last() -> None:
    spatial, psd = split_talker(batch=2)
    psd[1] = psd[1, :, [0, 0, 0, 0]]
    assert by_likelihood(spatial, psd, 2)[:, 1].tolist() == [3, 1]
    extended = Rank1(spatial.mixture, spatial.demixing, 3)
    assert by_likelihood(extended, psd[:, :, :3], 2)[:, -1].tolist() == [3, 3]
