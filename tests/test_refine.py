"""Refinement on a recording: never to its disadvantage, for every model with latent vectors."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch
from test_neural import network
from torch import Tensor
from toy import random_mixture, random_psd, random_scm, seeded, source_model

from fca.errors import InputError
from fca.fitting import Fitting
from fca.inference import iterate
from fca.inference.refine import Refinement
from fca.inference.settle import Settling
from fca.methods import Method, get_method
from fca.model import Model
from fca.prior import PriorConfig, SpeechPrior
from fca.separator import Separator
from fca.spatial import FullRank
from fca.spatial.inverse_wishart import InverseWishart
from fca.spatial.motion import Moving, exponential_windows
from fca.state import choose

F, M, T = 17, 3, 24


@pytest.fixture(scope="module")
def prior() -> SpeechPrior:
    torch.manual_seed(0)
    model = SpeechPrior(PriorConfig(n_fft=32, hop=8, latent_dim=3, width=16))
    with torch.no_grad():
        model.decoder[-1].weight.mul_(20.0)
    return model.eval().requires_grad_(False)


def neural(name: str, mixture: Tensor, _: SpeechPrior) -> Model:
    row = get_method(name).with_options(weights=network(name))
    with torch.no_grad():
        model = row.build(mixture, 2, seeded())
        iterate(model, row.n_iter)
    assert isinstance(model, Model)
    return model


def with_prior(name: str | Method, mixture: Tensor, prior: SpeechPrior) -> Model:
    row = get_method(name) if isinstance(name, str) else name
    row = row.with_options(prior=prior, start="identity")
    model = row.build(mixture, 2, seeded())
    assert isinstance(model, Model)
    return model


def stacked(name: str, mixture: Tensor, prior: SpeechPrior) -> Model:
    row = get_method(name).with_options(source="vae, nmf", prior=prior, start="identity")
    model = row.build(mixture, 2, seeded())
    assert isinstance(model, Model)
    return model


def predicting(name: str, mixture: Tensor, prior: SpeechPrior) -> Model:
    row = get_method(name).with_options(reverberation="arma", taps=1, ma_taps=2)
    return with_prior(row, mixture, prior)


def moving(name: str, mixture: Tensor, prior: SpeechPrior) -> Model:
    return with_prior(get_method(name).with_options(forgetting=0.9), mixture, prior)


CASES = [
    (neural, "neural-fca"),
    (neural, "neural-fastfca"),
    (with_prior, "mvae"),
    (with_prior, "fastmnmf-dp"),
    (with_prior, "mnmf-dp"),
    (stacked, "fastmnmf-dp"),
    (predicting, "fastmnmf-dp"),
    (moving, "mnmf-dp"),
]
Maker = Callable[[str, Tensor, SpeechPrior], Model]


@pytest.fixture
def mixture() -> Tensor:
    return random_mixture(F, M, T, batch=2, dtype=torch.float32)


@pytest.mark.parametrize(("make", "name"), CASES)
@pytest.mark.parametrize("rate", [0.05, 30.0])
def test_no_recording_ends_worse_than_it_began(
    make: Maker, name: str, rate: float, mixture: Tensor, prior: SpeechPrior
) -> None:
    """Whatever the step: at a rate of 30 Adam overshoots grossly."""
    model = make(name, mixture, prior)
    for part in [model.source, *(p for p, _ in getattr(model.source, "_parts", []))]:
        part.rate = rate
    before = model.cost()
    refinement = Refinement(model)
    costs = [before]
    for _ in range(8):
        refinement.step()
        costs.append(refinement.cost())
    trace = torch.stack(costs)
    assert bool((trace.diff(dim=0) <= 0).all())
    torch.testing.assert_close(refinement.best.cost(), trace[-1])
    if rate < 1:
        assert bool((trace[-1] < trace[0]).all())
    assert torch.equal(model.cost(), before), "the model it began with stays"


@pytest.mark.parametrize("name", ["neural-fca", "neural-fastfca"])
def test_recordings_of_a_batch_do_not_meet(name: str, mixture: Tensor, prior: SpeechPrior) -> None:
    def refined(part: Tensor) -> Tensor:
        refinement = Refinement(neural(name, part, prior))
        iterate(refinement, 3)
        return refinement.images()

    together = refined(mixture)
    alone = torch.cat([refined(mixture[:1]), refined(mixture[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rate", [0.1, 3.0])
def test_recordings_have_moments_of_their_own(rate: float, prior: SpeechPrior) -> None:
    """What one takes up again after overshooting is not mixed up with how another went on."""
    mixture = random_mixture(F, M, T, batch=3, dtype=torch.float64)
    row = get_method("fastmnmf-dp").with_options(prior=prior, start="iva", rate=rate)

    def refined(part: Tensor) -> Tensor:
        model = row.build(part, 2, seeded())
        assert isinstance(model, Model)
        first = Refinement(model)
        iterate(first, 8)
        second = Refinement(first.best)
        iterate(second, 8)
        return second.cost()

    with torch.no_grad():
        alone = torch.cat([refined(mixture[k : k + 1]) for k in range(3)])
        torch.testing.assert_close(refined(mixture), alone, rtol=1e-5, atol=1e-5)


def test_refining_goes_on_from_the_best(mixture: Tensor, prior: SpeechPrior) -> None:
    refinement = Refinement(with_prior("fastmnmf-dp", mixture, prior))
    iterate(refinement, 3)
    again = Refinement(refinement.best)
    iterate(again, 3)
    assert bool((again.cost() <= refinement.cost()).all())


def test_separator_counts_on_and_never_ends_higher() -> None:
    wave = np.random.default_rng(0).standard_normal((M, 4000)).astype(np.float32)
    plain, refined = (
        Separator("neural-fca", weights=network(), n_refine=n)(wave, 16000) for n in (0, 6)
    )
    assert refined.cost[: len(plain.cost)] == plain.cost
    assert refined.cost[-1][0] == plain.cost[-1][0] + 6
    assert refined.cost[-1][1] <= plain.cost[-1][1]
    assert not torch.equal(plain.sources, refined.sources)


@pytest.mark.parametrize("method", ["fastmnmf2", "cacgmm"])
def test_methods_without_latent_vectors_are_refused(method: str) -> None:
    with pytest.raises(InputError, match=f"nothing to refine: {method} has no"):
        Separator(method, n_refine=3)
    with pytest.raises(InputError, match="cannot be negative"):
        Separator(method, n_refine=-1)


def test_other_latents_are_refused(mixture: Tensor) -> None:
    prior = SpeechPrior(PriorConfig(n_fft=32, hop=8, latent="dirichlet", width=8))
    row = get_method("fastmnmf-dp").with_options(prior=prior, inference="encode")
    with pytest.raises(InputError, match="no Gaussian latent vectors"):
        Refinement(row.build(mixture, 2, seeded()))


def test_a_step_decodes_once(
    mixture: Tensor, prior: SpeechPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a PSD was decoded for serves its gradient as well."""
    refinement = Refinement(with_prior("fastmnmf-dp", mixture, prior))
    iterate(refinement, 1)
    decode, calls = prior.decode, 0

    def counted(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return decode(z)

    monkeypatch.setattr(prior, "decode", counted)
    iterate(refinement, 4)
    assert calls in (4, 5)  # one more if the last PSD is asked for


def test_gains_are_shared_over_frequency_until_refined(mixture: Tensor, prior: SpeechPrior) -> None:
    row = get_method("fastmnmf-dp").with_options(spatial="jointly diagonal, shared gains")
    model = with_prior(row, mixture, prior)
    refinement = Refinement(model)
    torch.testing.assert_close(refinement.best.cost(), model.cost())
    iterate(refinement, 3)
    assert model.spatial.gains.shape[1] == 1  # type: ignore[attr-defined]
    assert refinement.best.spatial.gains.shape[1] == F  # type: ignore[attr-defined]
    assert torch.all(refinement.cost() < model.cost())


@pytest.mark.parametrize(("make", "name"), [*CASES[2:5], CASES[6]])
def test_settling_moves_spatial_parameters_alone(
    make: Maker, name: str, mixture: Tensor, prior: SpeechPrior
) -> None:
    model = make(name, mixture, prior)
    psd = model.source.psd()
    settling, costs = Settling(model), [model.cost()]
    for _ in range(3):
        settling.step()
        costs.append(settling.cost())
    assert bool((torch.stack(costs).diff(dim=0) < 0).all())
    assert torch.equal(model.source.psd(), psd)


def test_free_steps_of_a_method_come_last(mixture: Tensor, prior: SpeechPrior) -> None:
    row = get_method("fastmnmf-dp").with_options(
        n_iter=2, spatial="jointly diagonal, shared gains", prior=prior, start="identity"
    )
    fitted = [
        Fitting(row.with_options(free_steps=n), 1, 0, 0, 0.1)(mixture, 2, 0, []) for n in (0, 2)
    ]
    (tied, before), (free, after) = fitted
    assert after[: len(before)] == before
    assert after[-1][0] == before[-1][0] + 2
    assert after[-1][1] < before[-1][1]
    assert [model.spatial.gains.shape[1] for model in (tied, free)] == [1, F]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="no spatial model that could settle"):
        get_method("cacgmm").with_options(free_steps=2)


@pytest.mark.parametrize("name", ["fastmnmf-dp", "mvae", "mnmf-dp"])
def test_models_go_as_soon_as_nobody_holds_them(
    name: str, mixture: Tensor, prior: SpeechPrior
) -> None:
    gc.disable()  # long recordings would otherwise pile up blocks until it runs
    try:
        refinement = Refinement(with_prior(name, mixture, prior))
        iterate(refinement, 2)
        held = weakref.ref(refinement.best.source), weakref.ref(refinement.best.spatial)
        del refinement
        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()


def test_copies_of_a_refined_model_move_alike(mixture: Tensor, prior: SpeechPrior) -> None:
    started = Refinement(with_prior("fastmnmf-dp", mixture, prior))
    iterate(started, 3)
    ends = []
    for _ in range(2):
        again = Refinement(started.best)
        iterate(again, 3)
        ends.append(again.cost())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["fixed", "moving"])
def test_recordings_keep_the_priors_of_their_own_covariances(kind: str) -> None:
    """Of two starts, each has the better of one recording."""
    models = []
    for seed in range(2):
        scm = random_scm((2, 4, 2 * 3), 3, seeded(seed))
        prior = InverseWishart(torch.tensor([5.0, 50.0]) * (1 + seed), 3)
        windows = exponential_windows(30, 0.9, scm.real)[None].expand(2, -1, -1)
        x = random_mixture(batch=2)
        inner = FullRank(x, scm, prior=prior if kind == "moving" else None)
        spatial = Moving(inner, 2, windows) if kind == "moving" else inner
        count = spatial.n_sources
        models.append(
            Model(spatial, source_model("gauss", random_psd((2, 4, count, 30), seeded())))
        )
    cost = torch.stack([model.cost() for model in models])
    for better in (torch.tensor([True, False]), torch.tensor([False, True])):
        expected = torch.where(better, cost[1], cost[0])
        torch.testing.assert_close(choose(better, models[1], models[0]).cost(), expected)
