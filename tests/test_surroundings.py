"""Noise and late sound beside the talkers: models gain them and keep everything else."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from conftest import RATE, MixtureMaker
from toy import assert_never_rises, costs, make_model, random_mixture

from fca import fitting
from fca.errors import InputError
from fca.evaluation.metrics import evaluate
from fca.inference.surroundings import LEVEL_DB, with_late_sound, with_noise
from fca.methods import get_method
from fca.model import Model
from fca.separator import Separator
from fca.spatial.expanded import LATE, MovingAverage
from fca.spatial.reverberation import delayed

each_with_room = pytest.mark.parametrize("name", ["jointly diagonal", "shared gains", "full rank"])


@each_with_room
def test_a_quiet_source_comes_and_the_talkers_stay(name: str) -> None:
    model = make_model(name, "nmf", random_mixture())
    cost = model.cost()
    wider = with_noise(model)
    torch.testing.assert_close(model.cost(), cost, msg="the model it began with stays")
    model.normalise()
    torch.testing.assert_close(wider.source.psd()[:, :, :3], model.source.psd())
    torch.testing.assert_close(wider.spatial.scm()[:, :, :3], model.spatial.scm())
    assert bool((torch.linalg.eigvalsh(wider.spatial.scm()[:, :, 3]) > 0).all())
    level = wider.source.psd()[:, :, 3].mean() / model.spatial.mixture.abs().square().mean()
    assert 10 * float(level.log10()) == pytest.approx(LEVEL_DB, abs=0.1)


@each_with_room
def test_the_cost_falls_and_the_images_sum_to_the_mixture(name: str) -> None:
    model = with_noise(make_model(name, "nmf", random_mixture()))
    assert_never_rises(costs(model, model.step, 5))
    tolerance = 1e-4 if name == "full rank" else 1e-9  # which has sensor noise beside its sources
    torch.testing.assert_close(model.images().sum(2), model.spatial.mixture, rtol=0, atol=tolerance)


def test_no_room_beside_a_demixing_matrix() -> None:
    with pytest.raises(InputError, match="no source can be added to a Rank1 model"):
        with_noise(make_model("rank-1", "nmf", random_mixture()))
    with pytest.raises(InputError, match="auxiva has no room for surroundings"):
        get_method("auxiva").with_options(surroundings=True)


@pytest.mark.parametrize("name", ["jointly diagonal", "shared gains"])
def test_with_late_sound_the_cost_falls_and_the_images_sum_to_the_mixture(name: str) -> None:
    direct = random_mixture()
    mixture = direct + 0.5 * delayed(direct.flip(2), 1)
    early = make_model(name, "nmf", mixture)
    model = with_late_sound(early)
    assert isinstance(model.spatial, MovingAverage)
    torch.testing.assert_close(model.source.psd(), early.source.psd())
    torch.testing.assert_close(model.spatial.scm(), early.spatial.scm())
    assert_never_rises(costs(model, model.step, 10))
    torch.testing.assert_close(model.images().sum(2), model.spatial.mixture)


def test_only_jointly_diagonal_models_have_late_sound() -> None:
    model = make_model("full rank", "nmf", random_mixture())
    assert type(with_late_sound(model).spatial) is type(model.spatial)


@pytest.mark.parametrize(
    "options", [{"reverberation": "ma"}, {"spatial": "full rank", "update": "em", "motion": "slow"}]
)
def test_methods_that_model_reverberation_or_motion_go_without(
    options: dict[str, str], make_mixture: MixtureMaker
) -> None:
    mixture = make_mixture(2, 3, seconds=1.0).mixture
    result = Separator("deep-fca", n_refine=2, **options)(mixture, RATE)
    assert isinstance(result.model, Model)
    assert result.model.n_background == 0


def test_late_sound_that_does_not_pay_is_left_out(
    make_mixture: MixtureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = make_mixture(2, 3, seconds=2.0).mixture
    first = Separator("deep-fca-fast", n_refine=0)(mixture, RATE)
    far_too_loud = partial(with_late_sound, level=1e4)
    monkeypatch.setattr(fitting, "with_late_sound", far_too_loud)
    result = Separator("deep-fca-fast", n_refine=4)(mixture, RATE)
    assert isinstance(first.model, Model)
    assert isinstance(result.model, Model)
    assert not isinstance(result.model.spatial, MovingAverage)
    assert float(result.model.cost()) <= float(first.model.cost())


def test_noise_is_told_from_the_talkers_in_one_pass(make_mixture: MixtureMaker) -> None:
    parts = make_mixture(2, 3, snr_db=10)
    gains = []
    for surroundings in (False, True):
        separator = Separator("deep-fca-fast", n_refine=0, surroundings=surroundings)
        sources = separator(parts.mixture, RATE).sources.numpy()
        scores = evaluate(
            parts.images[:, 0], sources, RATE, mixture=parts.mixture[0], metrics=["sdr"]
        )
        gains.append(scores.improvement["sdr"].mean())
    assert gains[1] > gains[0]


@pytest.mark.parametrize("interferers", [False, True])
def test_the_noise_is_nobody(interferers: bool, make_mixture: MixtureMaker) -> None:
    """Talkers are as many as asked for, however loud the noise is; with them it is the mixture."""
    parts = make_mixture(2, 3, snr_db=10)
    result = Separator("deep-fca-fast", interferers=interferers)(parts.mixture, RATE)
    assert isinstance(result.model, Model)
    if not interferers:  # else an interferer may be found in the noise
        assert result.model.n_background == 1
        assert result.model.source.psd().shape[2] == 3
    assert result.sources.shape[0] == 2
    estimates = result.sources.numpy()
    similar = np.abs(np.corrcoef(np.concatenate([estimates, parts.images[:, 0]]))[:2, 2:])
    assert similar.max(1).min() > 0.7
    total = estimates.sum(0) + result.residual.numpy()
    np.testing.assert_allclose(total, parts.mixture[0], atol=1e-5)


def test_each_recording_of_a_batch_decides_about_late_sound(
    make_mixture: MixtureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loudness of the copies is too much for the second alone."""
    mixture = make_mixture(2, 3, seconds=2.0).mixture
    batch = np.stack([mixture, mixture[::-1]])

    def late(model: Model, level: float = LATE) -> Model:
        wider = with_late_sound(model, level)
        if level > 0 and len(wider.spatial.mixture) == 2:
            scale = torch.tensor([1.0, 1e5]).reshape(-1, 1, 1, 1)
            gains = wider.spatial.inner.gains
            gains = torch.cat([gains[:, :, :3], scale * gains[:, :, 3:]], 2)
            wider.spatial.inner = wider.spatial.inner.with_gains(gains)
        return wider

    monkeypatch.setattr(fitting, "with_late_sound", late)
    together = Separator("deep-fca-fast", n_refine=8)(batch, RATE).model
    first = Separator("deep-fca-fast", n_refine=8)(mixture, RATE).model
    assert isinstance(together.spatial, MovingAverage)
    late_gains = together.spatial.inner.gains[:, :, 3:].amax((1, 2, 3))
    assert late_gains[1] < 1e-5 < late_gains[0]
    torch.testing.assert_close(together.cost()[:1], first.cost(), rtol=0, atol=1e-3)
