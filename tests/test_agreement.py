"""The same trajectories as pyroomacoustics and ssspy, from the same start.

Everything runs in float64. The peers differ from us in absolute floors, which tests of FastMNMF
allow for, and in when they normalise, which changes no estimate.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MixtureMaker
from torch import Tensor

from fca.methods import METHODS
from fca.model import Model
from fca.source import NMF, Gauss, Laplace, SourceModel
from fca.source.base import Evaluate, floored
from fca.source.nmf import _by_source
from fca.spatial import JointlyDiagonal, Rank1
from fca.stft import STFT

pra = pytest.importorskip("pyroomacoustics")
pytest.importorskip("ssspy")

N_ITER = 10
N_BASES = 3
LEAKAGE = 0.05
EXACT = 1e-10
"""Relative difference of estimates that only rounding, 1e-14 here, keeps apart."""


@pytest.fixture(scope="module", params=[2, 3])
def mixture(request: pytest.FixtureRequest, make_mixture: MixtureMaker) -> Tensor:
    """As many talkers as microphones, 1.5 s, (1, F, M, T) at unit power."""
    waves = make_mixture(request.param, request.param, seconds=1.5, snr_db=40).mixture
    spectrum = STFT(256, 128).analyse(torch.from_numpy(waves)).transpose(0, 1)[None]
    return spectrum / spectrum.abs().square().mean().sqrt()


class Given(NMF):
    """NMF that starts from given factors (N, F, K) and (N, K, T)."""

    def __init__(self, bases: np.ndarray, activations: np.ndarray) -> None:
        super().__init__(bases.shape[-1])
        self._set(torch.from_numpy(bases.copy())[None], torch.from_numpy(activations.copy())[None])


class Simultaneous(Given):
    """Both factors updated from the same statistics, as pyroomacoustics' FastMNMF2 does."""

    def update(self, evaluate: Evaluate) -> None:
        quadratic, trace = _by_source(evaluate(self.psd()))
        w = floored(self._w * (quadratic @ self._h.mT / (trace @ self._h.mT)).sqrt())
        self._set(w, floored(self._h * (w.mT @ quadratic / (w.mT @ trace)).sqrt()))


def factors(mixture: Tensor, low: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    _, n_freq, n_sources, n_frames = mixture.shape
    rng = np.random.default_rng(0)
    bases = rng.uniform(low, 1, (n_sources, n_freq, N_BASES))
    return bases, rng.uniform(low, 1, (n_sources, N_BASES, n_frames))


def identity(mixture: Tensor) -> Tensor:
    n_channels = mixture.shape[2]
    eye = torch.eye(n_channels, dtype=mixture.dtype)
    return eye.expand(1, mixture.shape[1], n_channels, n_channels)


def rank1(mixture: Tensor, source: SourceModel, update: str = "ip", method: str = "") -> Model:
    likelihood = METHODS[method].likelihood if method else None
    model = Rank1(mixture, identity(mixture), mixture.shape[2], update, likelihood)
    return Model(model, source)


def fastmnmf(mixture: Tensor, source: SourceModel, shared: bool) -> Model:
    n_channels = mixture.shape[2]
    gains = LEAKAGE + (1 - LEAKAGE) * torch.eye(n_channels, dtype=mixture.real.dtype)
    gains = gains.expand(1, 1 if shared else mixture.shape[1], -1, -1)
    return Model(JointlyDiagonal(mixture, identity(mixture), gains), source)


def run(model: Model, n_iter: int = N_ITER) -> Model:
    for _ in range(n_iter):
        model.step()
    return model


def sources_at_first_microphone(model: Model) -> np.ndarray:
    """(N, F, T)."""
    return model.images(slice(0, 1))[0, :, :, 0].transpose(0, 1).numpy()


def assert_same(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    assert error < tolerance, f"relative difference {error:.1e}"


def frames_first(mixture: Tensor) -> np.ndarray:
    """pyroomacoustics' (T, F, M)."""
    return np.ascontiguousarray(mixture[0].permute(2, 0, 1).numpy())


def channels_first(mixture: Tensor) -> np.ndarray:
    """ssspy's (M, F, T)."""
    return np.ascontiguousarray(mixture[0].transpose(0, 1).numpy())


def project_back(demixing: np.ndarray, mixture: Tensor) -> np.ndarray:
    """Outputs of (F, N, M) demixing matrices at the scale of the first microphone, (N, F, T)."""
    outputs = demixing @ mixture[0].numpy()
    return (np.linalg.inv(demixing)[:, 0, :, None] * outputs).transpose(1, 0, 2)


class scripted_random:
    """`np.random.rand` returns given arrays in turn: the start of pyroomacoustics' NMF."""

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = list(arrays)

    def __call__(self, *shape: int) -> np.ndarray:
        array = self.arrays.pop(0)
        assert array.shape == shape
        return array.copy()


def pairs(update: str) -> dict[str, Any]:
    """Pairs of rows in our order: (0, 1), (2, 3), ..., by default theirs overlap."""
    from ssspy.utils.select_pair import sequential_pair_selector

    selector = functools.partial(sequential_pair_selector, step=2)
    return {"pair_selector": selector} if update == "ip2" else {}


@pytest.mark.parametrize(("name", "prior"), [("laplace", Laplace), ("gauss", Gauss)])
def test_auxiva_of_pyroomacoustics(mixture: Tensor, name: str, prior: type[SourceModel]) -> None:
    _, demixing = pra.bss.auxiva(
        frames_first(mixture), n_iter=N_ITER, model=name, proj_back=False, return_filters=True
    )
    source = prior()
    source.initialise(mixture.abs().square(), torch.Generator())
    ours = sources_at_first_microphone(run(rank1(mixture, source)))
    assert_same(ours, project_back(demixing, mixture), EXACT)


def test_overiva_of_pyroomacoustics(mixture: Tensor) -> None:
    n_sources = mixture.shape[2] - 1
    _, theirs = pra.bss.auxiva(
        frames_first(mixture),
        n_src=n_sources,
        n_iter=N_ITER,
        model="gauss",
        proj_back=False,
        return_filters=True,
    )
    source = Gauss()
    source.initialise(mixture.abs().square()[:, :, :n_sources], torch.Generator())
    model = run(Model(Rank1(mixture, identity(mixture), n_sources), source))
    ours = model.spatial.demixing[0, :, :n_sources].numpy()
    assert_same(ours, theirs, EXACT)


@pytest.mark.parametrize(
    ("name", "prior", "update"),
    [
        ("Laplace", Laplace, "ip"),  # with IP2, theirs refreshes the weights after every pair
        ("Laplace", Laplace, "iss"),
        ("Gauss", Gauss, "ip"),
        ("Gauss", Gauss, "ip2"),
        ("Gauss", Gauss, "iss"),
    ],
)
def test_auxiva_of_ssspy(mixture: Tensor, name: str, prior: type[SourceModel], update: str) -> None:
    import ssspy.bss.iva

    kind = getattr(ssspy.bss.iva, f"Aux{name}IVA")
    method = kind(spatial_algorithm=update.upper(), record_loss=False, **pairs(update))
    theirs = method(channels_first(mixture), n_iter=N_ITER, initial_call=False)
    source = prior()
    source.initialise(mixture.abs().square(), torch.Generator())
    ours = sources_at_first_microphone(run(rank1(mixture, source, update)))
    assert_same(ours, theirs, EXACT)


def test_ilrma_of_pyroomacoustics(mixture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration: after it, theirs scales columns of W in place of rows, and goes astray."""
    bases, activations = factors(mixture)
    draws = scripted_random((bases - 0.1) / 0.9, (activations.transpose(0, 2, 1) - 0.1) / 0.9)
    monkeypatch.setattr(np.random, "rand", draws)
    theirs = pra.bss.ilrma(
        frames_first(mixture), n_iter=1, n_components=N_BASES, proj_back=False
    ).transpose(2, 1, 0)
    model = run(rank1(mixture, Given(bases, activations)), 1)
    ours = (model.spatial.outputs[0]).transpose(0, 1).numpy()
    assert_same(ours, theirs, EXACT)


@pytest.mark.parametrize("update", ["ip", "ip2", "iss"])
@pytest.mark.parametrize("method", ["ilrma", "ilrma-t"])
def test_ilrma_of_ssspy(mixture: Tensor, method: str, update: str) -> None:
    import ssspy.bss.ilrma

    common: dict[str, Any] = {
        "n_basis": N_BASES,
        "spatial_algorithm": update.upper(),
        "record_loss": False,
        **pairs(update),
    }
    if method == "ilrma":
        peer = ssspy.bss.ilrma.GaussILRMA(**common)
    else:
        peer = ssspy.bss.ilrma.TILRMA(dof=METHODS[method].dof, **common)
    bases, activations = factors(mixture)
    start = {"basis": bases, "activation": activations}
    theirs = peer(channels_first(mixture), n_iter=N_ITER, initial_call=False, **start)
    model = run(rank1(mixture, Given(bases, activations), update, method))
    assert_same(sources_at_first_microphone(model), theirs, EXACT)


def test_fastmnmf1_of_pyroomacoustics(mixture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their floors of 1e-6 are added to denominators and norms, hence the tolerance."""
    bases, activations = factors(mixture)
    monkeypatch.setattr(np.random, "rand", scripted_random(activations, bases))
    theirs = pra.bss.fastmnmf(
        frames_first(mixture), n_iter=N_ITER, n_components=N_BASES, accelerate=False
    ).transpose(2, 1, 0)
    model = run(fastmnmf(mixture, Given(bases, activations), shared=False))
    assert_same(sources_at_first_microphone(model), theirs, 1e-2)


def test_fastmnmf2_of_pyroomacoustics(mixture: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs updates both factors at once, which a source model of a few lines does too."""
    bases, activations = factors(mixture)
    monkeypatch.setattr(np.random, "rand", scripted_random(activations, bases))
    theirs = pra.bss.fastmnmf2(
        frames_first(mixture), n_iter=N_ITER, n_components=N_BASES
    ).transpose(2, 1, 0)
    model = run(fastmnmf(mixture, Simultaneous(bases, activations), shared=True))
    assert_same(sources_at_first_microphone(model), theirs, 1e-5)


def test_fastmnmf1_of_ssspy_reaches_the_same_cost(mixture: Tensor) -> None:
    """Theirs updates the gains after Q, ours before, so that only costs compare.

    The difference between the two after 20 iterations is small against what they gained.
    """
    import ssspy.bss.mnmf

    bases, activations = factors(mixture)
    n_freq, n_channels = mixture.shape[1:3]
    gains = LEAKAGE + (1 - LEAKAGE) * np.eye(n_channels)
    peer = ssspy.bss.mnmf.FastGaussMNMF(n_basis=N_BASES, record_loss=True)
    peer(
        channels_first(mixture),
        n_iter=20,
        basis=bases,
        activation=activations,
        spatial=np.tile(gains, (n_freq, 1, 1)),
    )
    model = fastmnmf(mixture, Given(bases, activations), shared=False)
    start = float(model.cost())
    assert start == pytest.approx(peer.loss[0] / n_freq)
    ours, theirs = float(run(model, 20).cost()), peer.loss[-1] / n_freq
    assert abs(ours - theirs) < 0.02 * (start - theirs)
