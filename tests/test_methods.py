"""The table of methods: complete, buildable, and adjustable."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from toy import CLASSICAL, random_mixture, seeded

from fca.cli.separate import Motion
from fca.clustering import CACGMM
from fca.errors import InputError
from fca.inference import iterate
from fca.method import MOVING
from fca.methods import DEFAULT_METHOD, METHODS, SOURCES, Method, get_method
from fca.model import Model
from fca.separator import Separator
from fca.source import VAE, Gauss, Laplace
from fca.spatial import FullRank, JointlyDiagonal, Rank1

FIRST = ("n_iter", "n_fft", "hop", "n_starts", "n_refine")
"""Choices that are a separator's own arguments."""
COMPOSITIONS = {
    "fdica": (Rank1, "laplace", "IP"),
    "auxiva": (Rank1, "gauss", "IP"),
    "auxiva-laplace": (Rank1, "laplace", "IP"),
    "auxiva-t": (Rank1, "student", "IP"),
    "overiva": (Rank1, "gauss", "IP"),
    "ilrma": (Rank1, "nmf", "IP + MU"),
    "ilrma-t": (Rank1, "nmf", "IP + MU"),
    "fastmnmf1": (JointlyDiagonal, "nmf", "IP + MU"),
    "fastmnmf2": (JointlyDiagonal, "nmf", "IP + MU"),
    "mnmf": (FullRank, "nmf", "MU"),
    "fastfca": (JointlyDiagonal, "free", "IP + EM"),
    "fca": (FullRank, "free", "EM"),
}
each_method = pytest.mark.parametrize("name", CLASSICAL)


def test_the_classical_family_is_complete() -> None:
    assert {*COMPOSITIONS, "cacgmm"} <= set(METHODS)
    assert DEFAULT_METHOD in METHODS


@each_method
def test_rows_are_described(name: str) -> None:
    row = METHODS[name]
    assert row.name == name == get_method(name).name
    assert row.paper[-4:].isdigit()
    assert row.n_iter >= 1


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_rows_are_what_they_say(name: str) -> None:
    spatial, source, inference = COMPOSITIONS[name]
    row = METHODS[name]
    model = row.build(random_mixture(dtype=torch.float32), 2, seeded())
    assert isinstance(model, Model)
    assert type(model.spatial) is spatial
    assert row.source == source
    assert row.inference == inference
    shared = isinstance(model.spatial, JointlyDiagonal) and model.spatial.gains.shape[1] == 1
    assert shared == (name == "fastmnmf2")
    assert model.spatial.likelihood == row.likelihood
    assert row.likelihood.heavy_tailed == (name == "ilrma-t")


@each_method
@pytest.mark.parametrize(("n_sources", "n_channels"), [(1, 2), (2, 2), (2, 3), (3, 2)])
def test_every_row_fits_any_allowed_size(name: str, n_sources: int, n_channels: int) -> None:
    row = METHODS[name].with_options(n_iter=4)
    mixture = random_mixture(6, n_channels, 40, batch=2, dtype=torch.float64)
    if row.spatial == "rank-1" and n_sources > n_channels:
        with pytest.raises(InputError, match="at most as many sources as microphones"):
            row.build(mixture, n_sources, seeded())
        return
    model = row.build(mixture, n_sources, seeded())
    trace = iterate(model, row.n_iter)
    images = model.images()
    assert images.shape == (2, 6, row.n_fitted(n_sources, n_channels), n_channels, 40)
    assert torch.isfinite(torch.view_as_real(images)).all()
    assert row.spatial == "cACGMM" or trace[-1][1] <= trace[0][1] + 1e-4


@each_method
def test_a_seed_decides_everything(name: str) -> None:
    mixture = random_mixture(6, 2, 40, dtype=torch.float32)
    results = []
    for _ in range(2):
        model = METHODS[name].build(mixture, 2, seeded(5))
        iterate(model, 3)
        results.append(model.images())
    assert torch.equal(*results)


def test_options_reach_the_row_the_likelihood_and_the_source() -> None:
    row = get_method("fastmnmf1").with_options(
        n_iter=7, n_bases=3, update="iss", dof=5.0, start="identity"
    )
    assert (row.n_iter, row.update, row.start) == (7, "iss", "identity")
    model = row.build(random_mixture(), 2, seeded())
    assert isinstance(model, Model)
    assert model.source.n_bases == 3
    assert model.spatial.likelihood.dof == 5.0
    assert get_method("fastmnmf1").n_iter != 7, "the table itself stays"


def test_options_of_the_row_are_kept_unless_changed() -> None:
    source = get_method("fdica").with_options(n_iter=3).build(random_mixture(), 2, seeded()).source
    assert isinstance(source, Laplace)
    assert source.tied is False


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "auxiva",
            {"n_bases": 3},
            "auxiva has no option 'n_bases'; it has n_iter, spatial, source, start",
        ),
        (
            "ilrma",
            {"n_basis": 3},
            "ilrma has no option 'n_basis'; did you mean 'n_bases'[?] it has .*n_bases",
        ),
        ("ilrma", {"weights": "x"}, "ilrma has no option 'weights'; it has no network"),
        ("deep-fca", {"weights": "x"}, ".*'weights'; its network is the option denoiser or prior"),
        ("ilrma", {"n_iter": 0}, "at least one iteration is needed, got n_iter=0"),
        (
            "ilrma",
            {"gain_update": "me"},
            "ilrma: gain_update does nothing without jointly",
        ),
        ("ilrma", {"taps": 2}, "ilrma: taps does nothing without reverberation=ar or arma"),
        (
            "fastmnmf2",
            {"reverberation": "ar", "ma_taps": 2},
            "fastmnmf2: ma_taps does nothing without reverberation=ma or arma",
        ),
        ("deep-fca-fast", {"rate": 0.2}, "deep-fca-fast: rate does nothing without inference="),
        ("fca", {"inertia": 2.0}, "fca: inertia does nothing without motion"),
        ("deep-fca", {"n_steps": 3}, "deep-fca: n_steps does nothing without inference=gradient"),
        ("deep-fca", {"strength": 2.0}, "deep-fca: strength does nothing without refinement=em"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_method(name).with_options(**options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "magic"}, "unknown start 'magic'; choose from identity"),
        ({"fits": "some"}, "cannot fit 'some'; choose from sources, "),
        ({"update": "em"}, "unknown update 'em' of rank-1 models; choose from ip, ip2, iss"),
        ({"free_steps": -1}, "free_steps cannot be negative, got -1"),
        ({"spatial_steps": -1}, "spatial_steps cannot be negative, got -1"),
        ({"dof": -1.0}, "degrees of freedom must be positive"),
    ],
)
def test_wrong_choices_are_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_method("ilrma").with_options(**changes).build(random_mixture(), 2, seeded())


def test_unknown_names_are_answered_by_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown method 'ica'; choose from fdica, auxiva"):
        get_method("ica")


def test_a_row_of_ones_own() -> None:
    row = Method("mine", "full rank", "laplace", "mu", "nobody 2026", start="identity")
    assert isinstance(row.build(random_mixture(), 2, seeded()), Model)
    with pytest.raises(InputError, match="unknown spatial model 'full'; choose from 'rank-1', 'j"):
        Method("wrong", "full", "laplace", "mu", "nobody 2026")


def test_clustering_has_a_class_for_the_noise() -> None:
    model = METHODS["cacgmm"].build(random_mixture(), 2, seeded())
    assert isinstance(model, CACGMM)
    assert model.masks.shape[2] == 3


@pytest.mark.parametrize("name", ["mvae", "fastmnmf-dp", "mnmf-dp"])
def test_methods_with_the_shipped_prior_lower_their_cost(name: str) -> None:
    row = METHODS[name].with_options(n_iter=2, n_steps=2)
    mixture = random_mixture(row.n_fft // 2 + 1, 2, 24, dtype=torch.float32)
    trace = iterate(row.build(mixture, 2, seeded()), row.n_iter, monitor_every=1)
    assert trace[-1][1] < trace[0][1]


def test_degrees_of_freedom_are_of_the_source_where_it_has_them() -> None:
    row = get_method("auxiva-t").with_options(dof=3.0)
    assert row.dof is None
    assert row.build(random_mixture(), 2, seeded()).source.dof == 3.0


@pytest.mark.parametrize("method", ["mvae", "fastmnmf-dp"])
@pytest.mark.parametrize("source", ["vae", "vae, nmf"])
def test_the_prior_is_read_once_and_has_its_window(method: str, source: str) -> None:
    row = get_method(method).with_options(source=source)
    assert row.n_fft == 2 * (row.options["prior"].config.n_freq - 1)


def test_a_denoiser_is_read_once_and_has_the_window_of_its_prior() -> None:
    row = get_method("fastmnmf-dp").with_options(source="vae, noise")
    assert row.n_fft == row.options["denoiser"].prior.config.n_fft
    assert "prior" not in row.options


def test_known_activities_go_with_talkers_who_rest() -> None:
    moving = get_method("mnmf").with_options(forgetting=0.9)
    with pytest.raises(InputError, match="mnmf: known activities do not go with talkers who move"):
        moving.build(random_mixture(), 2, seeded(), torch.eye(2).repeat_interleave(15, 1)[None])


def test_sampling_does_not_go_with_moving_averages() -> None:
    with pytest.raises(InputError, match="sampling does not go with moving averages"):
        get_method("fastmnmf-dp").with_options(inference="sample", reverberation="ma")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cacgmm", {"source": "nmf", "n_bases": 3}),
        ("cacgmm", {"tied": False}),
        ("cacgmm", {"start": "iva"}),
        ("cacgmm", {"dof": 5.0}),
        ("cacgmm", {"spatial_steps": 2}),
        ("mnmf", {"spare": 2}),
        ("auxiva", {"spare": 2}),
        ("fastmnmf2", {"fast_start": True}),
        ("auxiva", {"interferers": True, "start": "rank-1"}),
    ],
)
def test_options_without_effect_are_refused(name: str, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"{name}: .* does nothing without"):
        get_method(name).with_options(**options)


def test_unknown_source_models_are_refused_at_once() -> None:
    with pytest.raises(InputError, match="unknown source model 'magic'; choose from 'gauss', 'l"):
        replace(get_method("auxiva"), source="magic")


class Counted(Gauss):
    """A source model of a user, with an argument that others have in another sense."""

    def __init__(self, n_steps: int = 1) -> None:
        super().__init__()
        self.n_steps = n_steps


class Voice(VAE):
    """A user's variant of one with a network."""


def test_source_models_are_known_by_what_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "counted", Counted)
    monkeypatch.setitem(SOURCES, "voice", Voice)
    counted = get_method("fastfca").with_options(source="counted", n_steps=3)
    assert counted.options["n_steps"] == 3
    assert not counted.whole_band
    theirs, ours = (get_method("mvae").with_options(source=name) for name in ("voice", "vae"))
    assert (theirs.whole_band, theirs.n_fft) == (ours.whole_band, ours.n_fft) == (True, 2048)
    assert theirs.inference == ours.inference


def test_what_cannot_be_refined_is_not_unless_asked_for() -> None:
    assert Separator("deep-fca", source="nmf").n_refine == 0
    with pytest.raises(InputError, match="nothing to refine"):
        Separator("deep-fca", source="nmf", n_refine=1)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if not row.needs_weights])
def test_the_choices_of_a_row_are_what_it_takes(name: str) -> None:
    row = METHODS[name]
    changeable = {key: value for key, value in row.choices.items() if key not in FIRST}
    same = row.with_options(**changeable)
    assert same.choices.keys() == row.choices.keys()
    assert same.spatial == row.spatial


def test_choices_without_effect_are_not_offered() -> None:
    assert "taps" not in get_method("ilrma").choices
    assert get_method("ilrma").choices["hop"] == get_method("deep-fca").choices["hop"] == 1024
    assert "n_fft" in get_method("ilrma").choices
    assert "n_fft" not in get_method("deep-fca").choices  # that of the network
    assert get_method("ilrma").with_options(reverberation="ar").choices["taps"] == 3
    assert "n_bases" in get_method("ilrma").choices
    assert "gain_update" not in get_method("ilrma").choices
    assert "tied" not in get_method("cacgmm").choices


def test_the_methods_with_motion_are_named() -> None:
    named = ", ".join(MOVING)
    assert [name for name, row in METHODS.items() if row.spatial == "full rank"] == [*MOVING]
    assert f"{named}." in get_args(Motion)[1].help
    with pytest.raises(InputError, match=f"choose {named}$"):
        get_method("ilrma").with_options(motion="slow")
