"""Outputs of a rank-1 model that are parts of one source, and which start is the best."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_psd, seeded

from fca.inference.choice import CLEAR, worth_fitting
from fca.inference.grouping import grouped
from fca.inference.outputs import by_likelihood
from fca.inference.start import LEAKAGE, Start, taken
from fca.model import Model
from fca.source import Fixed, Gauss
from fca.source.vae import VAE
from fca.spatial import Rank1
from fca.stft import STFT

B, F, T = 2, 40, 200


class Judge(Gauss):
    """Is surprised by what has the course of none of the talkers (B, F, N, T) it knows."""

    judges = True

    def __init__(self, talkers: Tensor) -> None:
        super().__init__()
        self._courses = talkers.mean(1).flatten(0, 1)

    def surprise(self, power: Tensor) -> Tensor:
        course = power.mean(1)[:, :, None]
        likeness = torch.cosine_similarity(course, self._courses, dim=-1)
        return 20 * (1 - likeness.amax(-1))


class Greedy(Gauss):
    """The more power, the better."""

    judges = True

    def surprise(self, power: Tensor) -> Tensor:
        return -1e6 * power.sum((1, 3))


@pytest.fixture
def talkers() -> Tensor:
    """PSDs (B, F, 2, T) of two talkers, who pause at times."""
    pauses = torch.rand((B, 1, 2, T), generator=seeded(2)) < 0.4
    return random_psd((B, F, 2, T), seeded(0)).square() * (1 - 0.99 * pauses)


def outputs_of(outputs: list[Tensor]) -> tuple[Rank1, Tensor]:
    """A rank-1 model with these complex outputs (B, F, T), which a unitary matrix mixes."""
    stacked, rng = torch.stack(outputs, dim=2), seeded(1)
    batch, n_freq, n_outputs, _ = stacked.shape
    shape = (batch, n_freq, n_outputs, n_outputs)
    mixing = torch.linalg.qr(complex_normal(shape, rng, torch.float64)).Q
    return Rank1(mixing @ stacked, mixing.mH, n_outputs), stacked.abs().square()


def sounds_of(talkers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the two talkers, and some noise."""
    first, second = (
        talkers.sqrt() * complex_normal(talkers.shape, seeded(3), torch.float64)
    ).unbind(2)
    return 2 * first, 2 * second, 0.1 * complex_normal(first.shape, seeded(4), torch.float64)


def moving(talkers: Tensor) -> tuple[Rank1, Tensor]:
    """The first talker comes out of outputs 0 and 1, more of one and then of the other."""
    first, second, noise = sounds_of(talkers)
    here = 0.5 + 0.4 * torch.sin(torch.arange(T, dtype=torch.float64) / 15)
    return outputs_of([here.sqrt() * first, (1 - here).sqrt() * first, second, noise])


def resting(talkers: Tensor) -> tuple[Rank1, Tensor]:
    first, second, noise = sounds_of(talkers)
    return outputs_of([first, second, noise, noise.flip(-1)])


def start_of(spatial: Rank1, psd: Tensor, judge: Gauss) -> Start:
    return grouped(spatial, by_likelihood(spatial, psd, 2), psd, 2, judge)


def test_a_talker_who_moves_is_put_together(talkers: Tensor) -> None:
    spatial, psd = moving(talkers)
    start = start_of(spatial, psd, Judge(talkers))
    at_microphone = spatial.power / 4
    for power, parts in zip(start.power, at_microphone, strict=True):
        wanted = torch.stack([parts[:, :2].sum(1), parts[:, 2]], dim=1)
        moved = int((power - wanted[:, :1]).abs().amax((0, 2)).argmin())
        torch.testing.assert_close(power[:, [moved, 1 - moved]], wanted)


def test_groups_found_on_some_frames_are_put_together_on_all(talkers: Tensor) -> None:
    whole, psd = moving(talkers)
    some = Rank1(whole.mixture[..., ::2], whole.demixing, whole.n_sources)
    order, judge = by_likelihood(whole, psd, 2), Judge(talkers)
    start = grouped(some, order, psd[..., ::2], 2, judge, whole=whole)
    expected = grouped(whole, order, psd, 2, judge)
    torch.testing.assert_close(start.power, expected.power)
    assert start.known_gains is not None
    torch.testing.assert_close(start.known_gains, expected.known_gains)


def test_gains_say_of_which_outputs_a_source_is(talkers: Tensor) -> None:
    spatial, psd = moving(talkers)
    start = start_of(spatial, psd, Judge(talkers))
    assert start.known_gains is not None and start.known_gains.shape == (B, 1, 2, 4)
    power = (start.demixing @ spatial.mixture).abs().square()
    for gains, of_rows in zip(start.known_gains[:, 0], power, strict=True):
        assert (gains > LEAKAGE).sum(1).sort().values.tolist() == [1, 2]
        assert gains.argmax(1).ne(gains.argmin(1)).all()
        assert gains[0, 0] > LEAKAGE and gains[1, 1] > LEAKAGE  # row n is one of source n
        members = gains > LEAKAGE
        energy = (members * of_rows.mean((0, 2))).sum(1, keepdim=True)
        share = members * of_rows.mean((0, 2)) / energy * members.sum(1, keepdim=True)
        torch.testing.assert_close(gains, share.clamp_min(LEAKAGE))


def test_talkers_who_stand_still_are_single_outputs(talkers: Tensor) -> None:
    spatial, psd = resting(talkers)
    order = by_likelihood(spatial, psd, 2)
    start, alone = grouped(spatial, order, psd, 2, Judge(talkers)), taken(spatial, order, 2)
    assert start.known_gains is None
    assert torch.equal(start.power, alone.power)
    assert torch.equal(start.demixing, alone.demixing)


def test_of_likely_groupings_the_source_model_chooses(talkers: Tensor) -> None:
    """Who likes more power takes the noise, too, which the likelihood alone leaves out."""
    spatial, psd = moving(talkers)
    by_course, greedy = (start_of(spatial, psd, judge) for judge in (Judge(talkers), Greedy()))
    left_out = psd[:, :, 3] / 4
    torch.testing.assert_close(greedy.power.sum(2), by_course.power.sum(2) + left_out)


def test_recordings_are_grouped_for_themselves(talkers: Tensor) -> None:
    (moved, moved_psd), (rested, rested_psd) = moving(talkers), resting(talkers)
    mixture = torch.cat([moved.mixture[:1], rested.mixture[1:]])
    demixing = torch.cat([moved.demixing[:1], rested.demixing[1:]])
    psd = torch.cat([moved_psd[:1], rested_psd[1:]])
    both = start_of(Rank1(mixture, demixing, 4), psd, Judge(talkers))
    for batch in range(B):
        one = slice(batch, batch + 1)
        spatial = Rank1(mixture[one], demixing[one], 4)
        single = start_of(spatial, psd[one], Judge(talkers)).at_microphones()
        torch.testing.assert_close(both.power[one], single.power)
        torch.testing.assert_close(both.demixing[one], single.demixing)
        torch.testing.assert_close(both.gains(shared=True)[one], single.gains(shared=True))
        assert both.doubt is not None and single.doubt is not None
        torch.testing.assert_close(both.doubt[one], single.doubt)


class Speechless(Judge):
    """Would judge, but is not to be asked."""

    def surprise(self, power: Tensor) -> Tensor:
        raise AssertionError("there was nothing to choose from")


def test_without_a_choice_nobody_judges_unless_the_doubt_is_wanted(talkers: Tensor) -> None:
    spatial, psd = resting(talkers)
    order = by_likelihood(spatial, psd, 2)
    asked = grouped(spatial, order, psd, 2, Judge(talkers))
    start = grouped(spatial, order, psd, 2, Speechless(talkers), doubted=False)
    assert asked.doubt is not None and start.doubt is None
    assert torch.equal(start.power, asked.power)
    with pytest.raises(AssertionError):
        grouped(spatial, order, psd, 2, Speechless(talkers))


def test_source_models_that_do_not_judge_leave_outputs_alone(talkers: Tensor) -> None:
    spatial, psd = moving(talkers)
    start = start_of(spatial, psd, Gauss())
    assert start.known_gains is None and start.doubt is None


@pytest.mark.parametrize("n_outputs", [2, 4])
def test_mixed_outputs_raise_the_doubt(talkers: Tensor, n_outputs: int) -> None:
    spatial, psd = resting(talkers)
    spatial = Rank1(spatial.mixture, spatial.demixing, n_outputs)
    turn = torch.eye(4, dtype=spatial.demixing.dtype)
    turn[:2, :2] = torch.tensor([[0.8, 0.6], [-0.6, 0.8]])
    mixed = Rank1(spatial.mixture, turn @ spatial.demixing, n_outputs)
    good = start_of(spatial, psd[:, :, :n_outputs], Judge(talkers)).doubt
    poor = start_of(mixed, mixed.power[:, :, :n_outputs], Judge(talkers)).doubt
    assert good is not None and poor is not None and (good < poor).all()


def test_doubt_does_not_depend_on_the_scale_of_rows(talkers: Tensor) -> None:
    spatial, psd = moving(talkers)
    factor = torch.tensor([0.1, 3.0, 1.0, 7.0], dtype=torch.float64)
    rows = factor[:, None] * spatial.demixing
    scaled = Rank1(spatial.mixture, rows, 4)
    order, scale = by_likelihood(spatial, psd, 2), factor.square()[:, None]
    first = grouped(spatial, order, psd, 2, Judge(talkers))
    second = grouped(scaled, order, psd * scale, 2, Judge(talkers))
    assert first.doubt is not None and second.doubt is not None
    torch.testing.assert_close(first.doubt, second.doubt)
    torch.testing.assert_close(first.power, second.power)


def begun(talkers: Tensor, *doubts: list[float] | None) -> list[Model]:
    """Models at starts with PSDs that are one, two, ... times those of the talkers."""
    spatial, psd = resting(talkers)
    return [
        Model(spatial, Fixed(n * psd), doubt=None if doubt is None else torch.tensor(doubt))
        for n, doubt in enumerate(doubts, 1)
    ]


def test_starts_that_are_clearly_in_doubt_are_not_fitted(talkers: Tensor) -> None:
    first, second = begun(talkers, [1.0, 2.0], [2.0, 3.0])
    assert worth_fitting([first, second]) == [first]
    assert worth_fitting([second, first]) == [first]


def test_starts_that_are_alike_in_doubt_are_all_fitted(talkers: Tensor) -> None:
    models = begun(talkers, [1.0, 1.0], [1.0 + CLEAR / 2, 1.0], [1.0, 1.0 - CLEAR / 2])
    assert worth_fitting(models) == models
    models = begun(talkers, None, [1.0, 1.0])
    assert worth_fitting(models) == models


def test_every_recording_begins_where_it_is_not_in_doubt(talkers: Tensor) -> None:
    models = begun(talkers, [1.0, 2.0], [2.0, 1.0])
    wanted = torch.stack([models[0].source.psd()[0], models[1].source.psd()[1]])
    for model in worth_fitting(models):
        torch.testing.assert_close(model.source.psd(), wanted)
        assert model.doubt is not None and model.doubt.tolist() == [1.0, 1.0]


def test_surprise_ignores_level_and_tells_speech_from_noise(speech: np.ndarray) -> None:
    source = VAE(prior="speech-prior-4096")
    analyse = STFT(4096, 1024).analyse
    voices = [analyse(torch.as_tensor(voice).float()).abs().square() for voice in speech[:2]]
    both, noise = sum(voices), torch.randn(speech.shape[-1], generator=seeded(0))
    power = torch.stack([*voices, both, analyse(noise).abs().square()], dim=1)[None]
    surprise = source.surprise(power)
    assert surprise.shape == (1, 4)
    torch.testing.assert_close(source.surprise(100 * power), surprise, rtol=1e-3, atol=1e-3)
    first, second, mixture, white = surprise[0].tolist()
    assert max(first, second) < mixture < white
