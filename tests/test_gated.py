"""Activities, known and inferred: silent sources stay silent, and costs still fall."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import RATE, MixtureMaker
from toy import (
    CLASSICAL,
    SOURCES,
    assert_never_rises,
    costs,
    each_source,
    each_spatial,
    n_sources_of,
    random_mixture,
    random_psd,
    seeded,
    source_model,
    spatial_model,
)

from fca.activity import MARGIN_SECONDS
from fca.clustering import CACGMM
from fca.errors import InputError
from fca.inference.gate import LEAKAGE_DB, gated, leakage
from fca.methods import get_method
from fca.model import Model
from fca.separator import Separator
from fca.source import Gated
from fca.spatial.observation import Observation

FAST: dict[str, Any] = {"n_fft": 1024, "n_iter": 10}


def gated_model(name: str, kind: str) -> tuple[Model, torch.Tensor]:
    """A composition with a random gate (B, N, T), the last source always on."""
    mixture = random_mixture(seed=4)
    shape = (1, mixture.shape[1], n_sources_of(name, mixture), mixture.shape[3])
    power = random_psd(shape, seeded(3))
    gate = (torch.rand((1, shape[2], shape[3]), generator=seeded(5)) > 0.4).double()
    gate[:, -1] = 1
    source = Gated(source_model(kind, power), gate)
    source.initialise(power, seeded(2))
    return Model(spatial_model(name, mixture), source), gate


@each_spatial
@each_source
def test_the_cost_falls_and_silence_stays(name: str, kind: str) -> None:
    model, gate = gated_model(name, kind)
    silent = gate[:, None].expand_as(model.source.psd()) == 0
    before = model.source.psd()[silent]
    trace = costs(model, model.step, 5)
    assert torch.isfinite(trace).all()
    assert_never_rises(trace)
    torch.testing.assert_close(model.source.psd()[silent], before)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_gate_that_is_open_changes_nothing(kind: str) -> None:
    mixture = random_mixture()
    power = random_psd((1, mixture.shape[1], 3, mixture.shape[3]), seeded(3))
    gated = Gated(source_model(kind, power), torch.ones(1, 3, mixture.shape[3]))
    gated.initialise(power, seeded(2))
    models = [
        Model(spatial_model("jointly diagonal", mixture), source)
        for source in (source_model(kind, power), gated)
    ]
    for model in models:
        for _ in range(3):
            model.step()
    torch.testing.assert_close(models[1].source.psd(), models[0].source.psd())


def test_the_cost_is_unchanged_by_normalisation() -> None:
    model, _ = gated_model("full rank", "nmf")
    before = model.cost()
    model.normalise()
    torch.testing.assert_close(model.cost(), before, rtol=1e-6, atol=0)


def test_classes_keep_out_of_frames_in_which_they_are_silent() -> None:
    mixture = random_mixture()
    activity = torch.ones(1, 3, mixture.shape[3])
    activity[:, 0, :10], activity[:, 1, 20:] = 0, 0
    classes = CACGMM.guided(Observation(mixture), activity)
    for _ in range(12):
        classes.step()
    masks = classes.masks
    assert masks[:, :, 0, :10].max() < 1e-6
    assert masks[:, :, 1, 20:].max() < 1e-6
    torch.testing.assert_close(masks.sum(2), torch.ones_like(masks[:, :, 0]))


def partly_together(make_mixture: MixtureMaker) -> tuple[np.ndarray, np.ndarray]:
    """Images (2, 3, samples) and mixture of two talkers who overlap by half, from 1.0 to 2.5 s."""
    parts = make_mixture(2, 3, snr_db=30)
    images = parts.images.copy()
    images[0, :, round(2.5 * RATE) :] = 0
    images[1, :, : round(1.0 * RATE)] = 0
    return images, (images.sum(0) + parts.noise).astype(np.float32)


def as_known(separator: Separator, n_samples: int) -> torch.Tensor:
    """Their activities, (2, T), widened as those of RTTM files are."""
    frames = torch.arange(n_samples // separator.stft.hop + 1) * separator.stft.hop / RATE
    return torch.stack([frames < 2.5 + MARGIN_SECONDS, frames > 1.0 - MARGIN_SECONDS]).float()


@pytest.mark.parametrize("method", ["fastmnmf2", "fca", "auxiva", "cacgmm", "deep-fca-fast"])
def test_talkers_come_in_the_order_of_their_activities(
    make_mixture: MixtureMaker, method: str
) -> None:
    """Two talkers who overlap by half: the one that is asked for first comes first."""
    images, mixture = partly_together(make_mixture)
    separator = Separator(method, **(FAST if method in CLASSICAL else {}))
    activity = as_known(separator, mixture.shape[1])
    for order in ([0, 1], [1, 0]):
        result = separator.guided(mixture, activity[order], RATE)
        assert result.sources.shape == (2, mixture.shape[1])
        total = result.sources.sum(0) + result.residual
        np.testing.assert_allclose(total.numpy(), mixture[0], atol=1e-6)
        for source, talker in zip(result.sources.numpy(), order, strict=True):
            agreement = [
                abs(source @ image) / np.linalg.norm(source) / np.linalg.norm(image)
                for image in images[:, 0]
            ]
            assert np.argmax(agreement) == talker
            assert agreement[talker] > 0.8


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_activities_that_are_not_finite(make_mixture: MixtureMaker, value: float) -> None:
    mixture = make_mixture(2, 2, seconds=1.0).mixture
    with pytest.raises(InputError, match="activities hold NaN or infinite values"):
        Separator("auxiva", **FAST).guided(mixture, torch.full((2, 63), value), RATE)


@pytest.mark.parametrize("shape", [(2, 7), (0, 63), (63,)])
def test_activities_that_do_not_fit(make_mixture: MixtureMaker, shape: tuple[int, ...]) -> None:
    mixture = make_mixture(2, 2, seconds=1.0).mixture
    with pytest.raises(InputError, match="activities must be"):
        Separator("auxiva", **FAST).guided(mixture, torch.ones(shape), RATE)


def turns(make_mixture: MixtureMaker) -> tuple[np.ndarray, np.ndarray]:
    """Images (2, samples) at the first microphone, and mixture, of two talkers in turns of 2 s."""
    parts = make_mixture(2, 3, snr_db=30)
    images = parts.images.copy()
    images[0, :, 2 * RATE :] = 0
    images[1, :, : 2 * RATE] = 0
    return images[:, 0], (images.sum(0) + parts.noise).astype(np.float32)


def test_inferred_activities_keep_others_out_of_pauses(make_mixture: MixtureMaker) -> None:
    images, mixture = turns(make_mixture)
    silent = images == 0
    leaks = []
    for gate in (False, True):
        result = Separator("deep-fca-fast", gate=gate)(mixture, RATE)
        sources = result.sources.numpy()
        order = np.abs(sources @ images.T).argmax(0)
        leaks.append(10 * np.log10(np.square(sources[order][silent]).sum()))
        total = result.sources.sum(0) + result.residual
        np.testing.assert_allclose(total.numpy(), mixture[0], atol=1e-6)
    assert leaks[1] < leaks[0] - 5


def test_what_is_refined_after_the_gate_lowers_the_cost(make_mixture: MixtureMaker) -> None:
    _, mixture = turns(make_mixture)
    result = Separator("deep-fca-fast", gate=True, surroundings=False)(mixture, RATE)
    costs = np.array([cost for _, cost in result.cost])
    assert (np.diff(costs[-10:]) <= 0).all()
    assert isinstance(result.model, Model)
    assert isinstance(result.model.source, Gated)


def test_with_surroundings_the_cost_ends_lowest(make_mixture: MixtureMaker) -> None:
    """The first steps may not make up for what the gate costs; all of them do."""
    _, mixture = turns(make_mixture)
    result = Separator("deep-fca-fast")(mixture, RATE)
    costs = [cost for _, cost in result.cost]
    assert costs[-1] == min(costs)
    assert isinstance(result.model, Model)
    assert isinstance(result.model.source, Gated)
    assert result.model.n_background == 1


def test_a_gated_copy_leaves_the_model_as_it_is() -> None:
    mixture = random_mixture()
    power = random_psd((1, mixture.shape[1], 3, mixture.shape[3]), seeded(3))
    source = source_model("nmf", power)
    model = Model(spatial_model("jointly diagonal", mixture), source)
    before = source.psd()
    after = gated(model, 0, 0.064)
    after.step()
    torch.testing.assert_close(source.psd(), before)


@pytest.mark.parametrize("method", ["auxiva", "cacgmm"])
def test_what_does_not_depend_on_psds_cannot_be_gated(method: str) -> None:
    with pytest.raises(InputError, match=f"{method} cannot be gated"):
        get_method(method).with_options(gate=True)


def test_what_never_stands_out_is_doubted() -> None:
    rng = np.random.default_rng(0)
    talkers = rng.exponential(size=(2, 400)) * (rng.random((2, 400)) > 0.5)
    remains = 0.05 * talkers.sum(0, keepdims=True)
    allowed = leakage(np.concatenate([talkers, remains, np.full((1, 400), 1e-6)]))
    assert allowed.shape == (3, 1)
    assert (allowed[:2] == LEAKAGE_DB).all()
    assert allowed[2] > LEAKAGE_DB + 10


def test_silence_is_doubted_no_more() -> None:
    assert (leakage(np.zeros((3, 50))) == LEAKAGE_DB).all()


def test_activities_that_are_the_same_are_refused() -> None:
    known = torch.tensor([[[1, 1, 0], [0, 1, 1], [1, 1, 0]]]).repeat_interleave(10, -1)
    with pytest.raises(InputError, match="sources 1 and 3 are always active together"):
        get_method("fastmnmf2").build(random_mixture(), 3, seeded(), known)


@pytest.mark.parametrize("method", ["fastmnmf2", "auxiva", "fca", "deep-fca-fast"])
def test_a_talker_who_never_pauses_is_heard(make_mixture: MixtureMaker, method: str) -> None:
    parts = make_mixture(1, 3, seconds=2.0, snr_db=5)
    separator = Separator(method, n_iter=10 if method != "deep-fca-fast" else None)
    frames = 1 + parts.mixture.shape[-1] // separator.stft.hop
    result = separator.guided(parts.mixture, torch.ones(1, frames), RATE)
    similar = np.corrcoef(result.sources[0].numpy(), parts.images[0, 0])[0, 1]
    assert similar > np.corrcoef(parts.mixture[0], parts.images[0, 0])[0, 1] - 0.05


@pytest.mark.parametrize("method", ["fastmnmf2", "auxiva", "cacgmm"])
def test_a_talker_who_never_speaks_is_silent(make_mixture: MixtureMaker, method: str) -> None:
    parts = make_mixture(1, 3, seconds=2.0, snr_db=20)
    separator = Separator(method, **FAST)
    frames = 1 + parts.mixture.shape[-1] // separator.stft.hop
    activity = np.zeros((3, frames))  # an array does as well as a tensor
    activity[1, : frames // 2] = 1
    result = separator.guided(parts.mixture, activity, RATE)
    assert result.sources[1].any()
    assert not result.sources[[0, 2]].any()
    assert not result.images()[[0, 2]].any()
    total = result.sources.sum(0) + result.residual
    np.testing.assert_allclose(total.numpy(), parts.mixture[0], atol=1e-6)


@pytest.mark.parametrize("method", ["auxiva", "deep-fca-fast"])
def test_nobody_may_speak_for_a_while(make_mixture: MixtureMaker, method: str) -> None:
    """As many talkers as microphones, or more, and two seconds in which all of them are silent."""
    n_talkers = 2 if method == "auxiva" else 3
    parts = make_mixture(n_talkers, 2, snr_db=20)
    separator = Separator(method, **(FAST if method in CLASSICAL else {"n_refine": 0}))
    frames = torch.arange(1 + parts.mixture.shape[1] // separator.stft.hop)
    activity = torch.stack([(frames % (k + 2) > 0) & (frames < 30) for k in range(n_talkers)])
    result = separator.guided(parts.mixture, activity.float(), RATE)
    assert result.sources.shape == (n_talkers, parts.mixture.shape[1])
    assert torch.isfinite(result.sources).all()
    assert result.sources[:, :RATE].abs().amax(-1).min() > 0
