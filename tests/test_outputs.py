"""Which outputs of a rank-1 model are taken for the sources."""

from __future__ import annotations

import torch
from torch import Tensor
from toy import complex_normal, random_psd, seeded

from fca.inference.outputs import by_likelihood, by_loudness
from fca.spatial import Rank1


def split_talker(batch: int = 1) -> tuple[Rank1, Tensor]:
    """Outputs: a loud talker twice, noise, a quiet talker; and their PSDs (B, F, 4, T)."""
    rng = seeded(0)
    loud, quiet = random_psd((batch, 40, 2, 60), rng).square().unbind(2)
    noise = torch.full_like(quiet, 0.01)
    psd = torch.stack([4 * loud, 3 * loud, noise, 0.3 * quiet], dim=2)
    sources = psd.sqrt() * complex_normal(psd.shape, rng, torch.float64)
    mixing = torch.linalg.qr(complex_normal((batch, 40, 4, 4), rng, torch.float64)).Q
    return Rank1(mixing @ sources, mixing.mH, 4), psd


def test_a_quiet_talker_is_preferred_to_another_part_of_a_loud_one() -> None:
    spatial, psd = split_talker()
    assert by_loudness(spatial).tolist() == [[0, 1, 3, 2]]
    first, second = by_likelihood(spatial, psd, 2)[0, :2].tolist()
    assert first in (0, 1) and second == 3


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
