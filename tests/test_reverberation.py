"""Reverberation: prediction against its definition and WPE, and as a part of every composition."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from toy import (
    DEMIXING,
    complex_normal,
    random_mixture,
    random_psd,
    seeded,
    source_model,
    spatial_model,
)

from fca.errors import InputError
from fca.methods import get_method
from fca.model import Model
from fca.source import Free
from fca.spatial import JointlyDiagonal
from fca.spatial.reverberation import SLOWEST, Prediction, _go_round, delayed, stable, wpe

NAMES = ("rank-1", "overdetermined", "jointly diagonal", "shared gains")
TAPS, DELAY = 2, 2
each_name = pytest.mark.parametrize("name", NAMES)


def reverberant_mixture(
    dtype: torch.dtype = torch.float64, n_frames: int = 80, n_freq: int = 4
) -> Tensor:
    """Instantaneous mixture that goes round in a room of two taps."""
    early = random_mixture(n_freq, 3, n_frames, batch=2)
    rng = seeded(7)
    room = [0.2 * complex_normal((2, n_freq, 3, 3), rng, torch.float64) for _ in range(TAPS)]
    frames: list[Tensor] = []
    for t in range(n_frames):
        past = [w @ frames[t - DELAY - k] for k, w in enumerate(room) if t >= DELAY + k]
        frames.append(early[..., t : t + 1] + sum(past))
    return torch.cat(frames, -1).to(dtype.to_complex())


def composition(
    name: str, kind: str, mixture: Tensor, update: str = "ip", reverberant: bool = False
) -> Model:
    """A spatial model with prediction, at a random start."""
    prediction = Prediction(mixture, TAPS, DELAY, reverberant)
    spatial = spatial_model(name, mixture, update, observation=prediction)
    power = random_psd((*mixture.shape[:2], spatial.n_sources, mixture.shape[3]), seeded(3))
    return Model(spatial, source_model(kind, power.to(mixture.real.dtype)))


def rises(model: Model, n_iter: int = 10) -> float:
    trace = [model.cost()]
    for _ in range(n_iter):
        model.step()
        trace.append(model.cost())
    assert torch.all(trace[-1] < trace[0] - 0.01)
    return max(float((b - a).max()) for a, b in itertools.pairwise(trace))


@pytest.mark.parametrize("kind", ["gauss", "nmf", "free em", "stack"])
@pytest.mark.parametrize("update", DEMIXING)
@each_name
def test_cost_falls(name: str, update: str, kind: str) -> None:
    assert rises(composition(name, kind, reverberant_mixture(), update)) <= 1e-9


@each_name
def test_cost_falls_in_single_precision(name: str) -> None:
    mixture = reverberant_mixture(torch.float32, n_frames=300, n_freq=8)
    assert rises(composition(name, "nmf", mixture)) <= 1e-4


@each_name
def test_filters_are_the_weighted_least_squares_of_every_row(name: str) -> None:
    """After an update the likelihood is flat in the filters."""
    model = composition(name, "nmf", reverberant_mixture())
    psd = model.source.psd()
    model.spatial.update(psd)
    prediction = model.spatial.observation
    n_updated = 2 if name == "overdetermined" else 3
    filters = prediction.filters.detach().clone().requires_grad_()
    prediction.filters = filters
    (slope,) = torch.autograd.grad(model.spatial.nll(psd).sum(), filters)
    scale = model.spatial.power.mean() * prediction.frames.abs().mean()
    assert slope[:, :, :n_updated].abs().max() < 1e-9 * scale


def test_outputs_are_rows_applied_to_present_and_past() -> None:
    mixture = reverberant_mixture()
    model = composition("jointly diagonal", "nmf", mixture)
    model.step()
    spatial = model.spatial
    for m, k in itertools.product(range(3), range(4)):
        expected = spatial.demixing[0, k, m] @ mixture[0, k]
        g = spatial.observation.filters[0, k, m].reshape(TAPS, 3, 3)
        for tap in range(TAPS):
            predicted = g[tap].mH @ delayed(mixture[0, k], DELAY + tap)
            expected = expected - spatial.demixing[0, k, m] @ predicted
        torch.testing.assert_close(spatial.outputs[0, k, m], expected)


@each_name
def test_reverberant_images_sum_to_the_mixture_and_early_ones_to_the_early_sound(name: str) -> None:
    mixture = reverberant_mixture()
    early, reverberant = (composition(name, "nmf", mixture, reverberant=r) for r in (False, True))
    for model in (early, reverberant):
        model.step()
        model.step()
    if name == "overdetermined":
        return _assert_background_is_left(early, reverberant)
    dry = torch.linalg.solve(early.spatial.demixing, early.spatial.outputs)
    torch.testing.assert_close(early.images().sum(2), dry)
    assert (dry - mixture).norm() > 0.1 * mixture.norm()
    torch.testing.assert_close(reverberant.images().sum(2), mixture)
    one = reverberant.images(slice(1, 2))
    torch.testing.assert_close(one, reverberant.images()[:, :, :, 1:2])


def _assert_background_is_left(early: Model, reverberant: Model) -> None:
    """Reverberant images begin like the early ones, before anything can come back."""
    start = slice(0, DELAY)
    torch.testing.assert_close(reverberant.images()[..., start], early.images()[..., start])
    assert (reverberant.images() - early.images()).norm() > 0.1 * early.images().norm()


def test_a_known_room_is_found() -> None:
    """The early sound comes out of a mixture that the model generates."""
    mixture = reverberant_mixture(n_frames=1500)
    early = random_mixture(4, 3, 1500, batch=2)
    model = composition("jointly diagonal", "free em", mixture)
    model.source = Free("em")
    model.source.initialise(random_psd((2, 4, 3, 1500), seeded()), seeded())
    for _ in range(20):
        model.step()
    found = model.images().sum(2)
    # 6 coefficients a channel from 1500 frames: relative errors of sqrt(6 / 1500) = 0.06
    assert (found - early).norm() < 0.06 * early.norm()
    assert (mixture - early).norm() > 0.3 * early.norm()


def test_filters_that_would_grow_are_made_to_decay_and_others_kept() -> None:
    rng = seeded(3)
    prediction = complex_normal((1, 2, 3, 3 * TAPS), rng, torch.float64)
    decaying = 0.1 * prediction
    torch.testing.assert_close(stable(decaying, DELAY), decaying)
    impulse = torch.zeros(1, 2, 3, 3, 400, dtype=prediction.dtype)
    impulse[..., 0] = torch.eye(3)
    response = _go_round(impulse, stable(prediction, DELAY), DELAY).abs().amax((2, 3))
    grown = _go_round(impulse, prediction, DELAY).abs().amax((2, 3))
    assert torch.all(grown[..., -1] > 1e3)
    assert torch.all(response[..., -1] < 1e-6)
    ratio = (response[..., 390] / response[..., 190]) ** (1 / 200)
    torch.testing.assert_close(ratio, torch.full_like(ratio, SLOWEST), rtol=0.01, atol=0)


class Isotropic(JointlyDiagonal):
    """Q = I and g = 1: all that is fitted is the prediction."""

    def update(self, psd: Tensor) -> None:
        self.observation.adapt(self._row_weights(psd))


@pytest.mark.parametrize(("taps", "delay"), [(2, 2), (4, 3), (1, 1)])
def test_one_source_from_everywhere_is_wpe(taps: int, delay: int) -> None:
    nara = pytest.importorskip("nara_wpe.wpe")
    mixture = reverberant_mixture()
    expected = torch.from_numpy(nara.wpe_v8(mixture.numpy(), taps, delay, iterations=3))
    prediction = Prediction(mixture, taps, delay)
    wpe(prediction, n_iter=3)
    torch.testing.assert_close(prediction.early().mixture, expected, rtol=1e-8, atol=1e-8)
    eye = torch.eye(3, dtype=mixture.dtype).expand(2, 4, 3, 3)
    gains = torch.ones(2, 4, 1, 3).double()
    spatial = Isotropic(Prediction(mixture, taps, delay), eye, gains)
    source = Free("em")
    source.initialise(mixture.abs().square().mean(2, keepdim=True), seeded())
    model = Model(spatial, source)
    for _ in range(3):
        model.step()
    torch.testing.assert_close(model.images()[:, :, 0], expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["ilrma", "overiva", "fastmnmf2"])
def test_methods_predict(name: str) -> None:
    """The same methods with prediction fall as monotonously, and describe the mixture better."""
    mixture = reverberant_mixture(n_frames=200, n_freq=16)
    costs = []
    for options in ({}, {"reverberation": "ar", "taps": TAPS, "delay": DELAY}):
        model = get_method(name).with_options(**options).build(mixture, 2, seeded())
        assert rises(model, 5) <= 1e-9
        costs.append(model.cost())
    assert torch.all(costs[1] < costs[0])


def test_what_cannot_be_predicted_is_refused() -> None:
    mixture = reverberant_mixture()
    with pytest.raises(InputError, match="80 frames are too few to predict from 30 taps of 3"):
        Prediction(mixture, taps=30)
    with pytest.raises(InputError, match="a delay of 1 or more: 2, 0"):
        Prediction(mixture, taps=2, delay=0)
    with pytest.raises(InputError, match="taps must be at least 1, got 0"):
        get_method("ilrma").with_options(reverberation="ar", taps=0)
    with pytest.raises(InputError, match=r"delay must be a whole number, got 1\.5"):
        get_method("ilrma").with_options(reverberation="ar", delay=1.5)
    with pytest.raises(InputError, match="unknown reverberation 'long'"):
        get_method("ilrma").with_options(reverberation="long")
    for name in ("fca", "mnmf", "cacgmm"):
        with pytest.raises(InputError, match=f"{name}: reverberation goes with"):
            get_method(name).with_options(reverberation="ar")
