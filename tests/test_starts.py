"""Starts: consistent first estimates, in every form that models take them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_mixture, random_psd, seeded

import fca.inference.rank1 as rank1_module
from fca.inference.known import guided, guided_rank1
from fca.inference.mending import fit_and_mend
from fca.inference.rank1 import LONG, rank1, thinned_iva
from fca.inference.start import LEAKAGE, STARTS, WHITE, Start, StartMethod
from fca.linalg import pack_outer
from fca.methods import get_method
from fca.source import NMF, Gauss
from fca.spatial import FullRank, JointlyDiagonal, Rank1
from fca.spatial.observation import Observation
from fca.spatial.subspace import principal

each_start = pytest.mark.parametrize("name", STARTS)
each_size = pytest.mark.parametrize(("n_sources", "n_channels"), [(2, 2), (1, 3), (2, 3), (3, 2)])


def independent(n_sources: int = 2, n_channels: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mixture of sources with activities of their own, and the mixing matrices (F, M, N)."""
    rng = seeded(seed)
    psd = random_psd((1, 1, n_sources, 200), rng).square().expand(-1, 16, -1, -1)
    sources = psd.sqrt() * complex_normal((1, 16, n_sources, 200), rng, torch.float64)
    mixing = complex_normal((1, 16, n_channels, n_sources), rng, torch.float64)
    noise = 0.01 * complex_normal((1, 16, n_channels, 200), rng, torch.float64)
    return mixing @ sources + noise, mixing


@each_start
@each_size
def test_starts_have_their_shapes(name: str, n_sources: int, n_channels: int) -> None:
    if name == "noise floor" and n_sources != 2:
        pytest.skip("for one talker in noise only")
    mixture = random_mixture(6, n_channels, 40, batch=2, dtype=torch.float32)
    start = STARTS[name](Observation(mixture), n_sources, seeded())
    assert start.demixing.shape == (2, 6, n_channels, n_channels)
    assert start.power.shape == (2, 6, n_sources, 40)
    assert start.demixing.dtype == mixture.dtype
    assert start.power.dtype == torch.float32
    assert torch.all(start.power >= 0)
    assert torch.linalg.slogdet(start.demixing).logabsdet.isfinite().all()
    assert start.gains().shape == (2, 6, n_sources, n_channels)
    assert start.gains(shared=True).shape == (2, 1, n_sources, n_channels)
    assert torch.all(torch.linalg.eigvalsh(start.scm()) > 0)


@each_start
def test_a_seed_decides_a_start(name: str) -> None:
    mixture = random_mixture(6, 3, 40)
    first, second = (STARTS[name](Observation(mixture), 2, seeded(4)) for _ in range(2))
    assert torch.equal(first.demixing, second.demixing)
    assert torch.equal(first.power, second.power)


def test_identity_shares_the_power_of_the_mixture() -> None:
    mixture = random_mixture(6, 3, 400)
    start = STARTS["identity"](Observation(mixture), 2, seeded())
    assert torch.equal(start.demixing, torch.eye(3).expand(1, 6, 3, 3).to(mixture))
    expected = mixture.abs().square().mean()
    # Random factors in (0.5, 1.5), of mean one.
    torch.testing.assert_close(start.power.sum(2).mean(), expected, rtol=0.1, atol=0)


def by_nmf(observation: Observation, n_sources: int, generator: torch.Generator) -> Start:
    return rank1(observation, n_sources, generator, NMF(n_bases=2))


@pytest.mark.parametrize(
    "begin",
    [STARTS["iva"], STARTS["iva-laplace"], STARTS["clustering"], thinned_iva, by_nmf],
    ids=["iva", "iva-laplace", "clustering", "thinned", "rank-1"],
)
def test_informed_starts_separate_by_themselves(begin: StartMethod) -> None:
    mixture, mixing = independent()
    start = begin(Observation(mixture), 2, seeded())
    total = (start.demixing @ mixing).abs().square()
    # Every row of Q passes one source, the same at each frequency. Ten dB of rejection is what a
    # first estimate should give; the identity has none on average.
    best = max(
        float((total[..., [0, 1], order] / total[..., [0, 1], order[::-1]]).log10().mean())
        for order in ([0, 1], [1, 0])
    )
    assert 10 * best > 10


def test_more_microphones_than_outputs_see_principal_components() -> None:
    mixture, mixing = independent(2, 6)
    basis = principal(pack_outer(mixture))
    torch.testing.assert_close(basis @ basis.mH, torch.eye(6).expand(1, 16, 6, 6).to(basis))
    power = (basis @ mixture).abs().square().mean(-1)
    assert (power.diff(dim=-1) <= 0).all()
    start = by_nmf(Observation(mixture), 2, seeded())
    assert start.power.shape == (1, 16, 2, 200)
    total = (start.demixing @ mixing)[:, :, :2].abs().square()
    own, other = total.amax(-1), total.amin(-1)
    assert 10 * float((own / other).log10().mean()) > 10


class Watched(NMF):
    """Notes how many recordings and frames it is shown each time."""

    def __init__(self) -> None:
        super().__init__(n_bases=2)
        self.n_recordings: list[int] = []
        self.n_frames: list[int] = []

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self.n_recordings.append(len(power))
        self.n_frames.append(power.shape[-1])
        super().initialise(power, generator)


@pytest.mark.parametrize(
    ("fast", "n_frames", "seen"),
    [(True, LONG, LONG // 2), (True, LONG - 1, LONG - 1), (False, LONG, LONG)],
)
def test_fast_starts_of_long_recordings_look_at_every_other_frame(
    fast: bool, n_frames: int, seen: int
) -> None:
    mixture, source = independent()[0][..., :n_frames], Watched()
    start = rank1(Observation(mixture), 2, seeded(), source, fast=fast)
    assert set(source.n_frames) == {seen}
    outputs = (start.demixing @ mixture)[:, :, :2].abs().square()
    torch.testing.assert_close(start.power, outputs)


@pytest.mark.parametrize("crowd", [False, True])
def test_fast_starts_infer_again_where_it_is_crowded(
    crowd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that recording alone."""
    batch, source = torch.cat([independent()[0], independent(seed=1)[0]])[..., :LONG], Watched()
    monkeypatch.setattr(rank1_module, "crowded", lambda psd, n: torch.tensor([False, crowd]))
    monkeypatch.setattr(rank1_module, "MENDINGS", 0)
    rank1(Observation(batch), 2, seeded(), source, fast=True)
    assert source.n_recordings == ([2, 1] if crowd else [2])


def test_stretches_that_changed_places_are_put_back() -> None:
    """Separated sources, exchanged in the upper half: sweeps alone would leave them there."""
    activity = random_psd((1, 1, 2, 200), seeded(3))
    sources = activity * complex_normal((1, 128, 2, 200), seeded(4), torch.float64)
    exchanged = torch.cat([sources[:, :64], sources[:, 64:].flip(2)], dim=1)
    start = thinned_iva(Observation(exchanged), 2, seeded(), n_thin=0, n_iter=0)
    owner = start.demixing.abs().argmax(-1)[0, :, 0]
    assert (owner[:64] == owner[0]).all() and (owner[64:] == 1 - owner[0]).all()


def test_recordings_take_as_many_sweeps_as_they_need() -> None:
    """One that soon converges is not swept on because of the other."""
    each = []
    for steepness in (6.0, 1.2):  # talkers that hardly overlap, and talkers that do
        activity = torch.rand(1, 1, 3, 120, dtype=torch.float64, generator=seeded(1)) ** steepness
        sources = activity.sqrt() * complex_normal((1, 64, 3, 120), seeded(2), torch.float64)
        mixture = complex_normal((1, 64, 3, 3), seeded(3), torch.float64) @ sources
        each.append(mixture / mixture.abs().square().mean().sqrt())
    together = thinned_iva(Observation(torch.cat(each)), 3, seeded()).demixing
    alone = torch.cat([thinned_iva(Observation(mixture), 3, seeded()).demixing for mixture in each])
    torch.testing.assert_close(together, alone)


def test_what_is_mended_is_fitted_again_and_nothing_else() -> None:
    """Of two recordings of separated sources the first has a seam."""
    activity = random_psd((2, 1, 2, 200), seeded(3))
    sources = activity * complex_normal((2, 64, 2, 200), seeded(4), torch.float64)
    sources[0, 40:] = sources[0, 40:].flip(1)
    fitted = []

    def fit(observation: Observation, demixing: Tensor) -> tuple[Rank1, Tensor]:
        fitted.append(observation.mixture)
        spatial = Rank1(observation.mixture, demixing, 2)
        return spatial, spatial.power

    eye = torch.eye(2, dtype=sources.dtype).expand(2, 64, 2, 2)
    spatial, psd = fit_and_mend(fit, Observation(sources), eye, n_mendings=3)
    exchanged = torch.cat([eye[:1, :40], eye[:1, 40:].flip(2)], dim=1)
    assert torch.equal(spatial.demixing, torch.cat([exchanged, eye[1:]]))
    assert torch.equal(psd, spatial.power)
    assert [len(mixture) for mixture in fitted] == [2, 1]
    assert torch.equal(fitted[1], sources[:1])


def test_more_sources_than_microphones_start_from_classes() -> None:
    """Three sources that take turns at two microphones are told apart, each at unit power."""
    _, mixing = independent(3, 2)
    turn = torch.arange(300) // 100
    signal = complex_normal((1, 16, 1, 300), seeded(1), torch.float64)
    noise = 1e-3 * complex_normal((1, 16, 2, 300), seeded(2), torch.float64)
    start = rank1(Observation(mixing[..., turn] * signal + noise), 3, seeded(), Gauss())
    power = start.scm().diagonal(dim1=-2, dim2=-1).real.mean(-1)
    torch.testing.assert_close(power, torch.ones_like(power), rtol=0.05, atol=0)
    active = start.power.sum(1).argmax(1)[0]
    found = [active[turn == k].mode() for k in range(3)]
    assert sorted(int(mode.values) for mode in found) == [0, 1, 2]
    assert all((active[turn == k] == int(found[k].values)).double().mean() > 0.9 for k in range(3))


def test_silent_frequencies_start_with_finite_gains() -> None:
    mixture = random_mixture(6, 2, 40)
    mixture[:, 3] = 0
    start = rank1(Observation(mixture), 3, seeded(), Gauss())
    assert start.gains().isfinite().all()
    assert start.demixing.isfinite().all()


def test_iva_gives_the_loudest_outputs() -> None:
    mixture, mixing = independent(3, 3)
    weak = torch.linalg.inv(mixing) @ mixture
    weak[:, :, 1] *= 0.03
    start = STARTS["iva"](Observation(mixing @ weak), 2, seeded())
    total = (start.demixing @ mixing)[:, :, :2].abs().square()
    rejected = total[..., 1] / total.sum(-1)
    assert rejected.median() < 0.1, "the weak source is left out"


def test_rows_are_shared_when_sources_outnumber_them() -> None:
    start = STARTS["iva"](Observation(random_mixture(6, 2, 40)), 3, seeded())
    torch.testing.assert_close(start.power[:, :, 2], start.power[:, :, 0])


def test_gains_say_who_owns_a_component() -> None:
    power = torch.ones(1, 2, 2, 5)
    start = Start(torch.eye(3).expand(1, 2, 3, 3).to(torch.complex64), power)
    expected = torch.tensor([[1, LEAKAGE, 1], [LEAKAGE, 1, LEAKAGE]])
    torch.testing.assert_close(start.gains()[0, 1], expected)


def test_full_rank_and_jointly_diagonal_starts_are_the_same_model() -> None:
    """Up to the diffuse sound that keeps full-rank covariances well conditioned."""
    mixture = random_mixture(6, 3, 40)
    start = STARTS["iva"](Observation(mixture), 2, seeded())
    joint = JointlyDiagonal(mixture, start.demixing, start.gains())
    full = FullRank(mixture, start.scm())
    difference = (joint.scm() - full.scm()).diagonal(dim1=-2, dim2=-1).real
    torch.testing.assert_close(
        -difference, (WHITE * joint.scale())[..., None].expand_as(difference)
    )


@each_start
def test_starts_at_microphones_are_the_same_model(name: str) -> None:
    """Rows of Q are scaled and powers with them: ``λ_n a_n a_nᴴ`` stays."""
    mixture = random_mixture(6, 3, 40)
    start = STARTS[name](Observation(mixture), 2, seeded())
    moved = start.at_microphones()
    for n, rows in itertools.product(range(2), (start, moved)):
        column = torch.linalg.inv(rows.demixing)[..., n]
        image = rows.power[:, :, n, None] * column.abs().square()[..., None]
        if rows is start:
            expected = image
    torch.testing.assert_close(image, expected)
    column = torch.linalg.inv(moved.demixing).abs().square().mean(2)
    torch.testing.assert_close(column, torch.ones_like(column))


@pytest.mark.parametrize(("n_channels", "n_outputs"), [(3, 3), (6, 4)])
def test_the_rank1_start_keeps_spare_outputs_and_a_background(
    n_channels: int, n_outputs: int
) -> None:
    mixture, _ = independent(3, n_channels)
    start = rank1(Observation(mixture), 2, seeded(), Gauss())
    output = start.demixing @ mixture
    covariance = output @ output.mH / output.shape[-1]
    across = covariance[:, :, :n_outputs, n_outputs:]
    assert start.power.shape == (1, 16, 2, 200)
    # OverIVA's background is uncorrelated with what is separated.
    assert across.abs().numel() == 0 or float(across.abs().max()) < 1e-8


def watch_classes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes each time that classes of bins are looked for."""
    calls: list[bool] = []
    inner = rank1_module.demixed

    def noted(*args: Any) -> Tensor:
        calls.append(True)
        return inner(*args)

    monkeypatch.setattr(rank1_module, "demixed", noted)
    return calls


@pytest.mark.parametrize(
    ("attempt", "fast", "n_sources", "delays", "by_classes"),
    [
        (0, False, 2, True, False),
        (1, False, 2, True, True),
        (0, True, 2, True, True),
        (1, True, 2, True, False),
        (1, False, 1, True, False),
        (1, False, 2, False, False),
        (0, True, 2, False, False),
    ],
)
def test_which_starts_are_from_classes(
    attempt: int,
    fast: bool,
    n_sources: int,
    delays: bool,
    by_classes: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = watch_classes(monkeypatch)
    mixture, _ = independent(2, 3)
    observation = Observation(mixture, heard=None if delays else mixture)
    rank1(observation, n_sources, seeded(), Gauss(), attempt=attempt, fast=fast)
    assert calls == [True] * by_classes


@pytest.mark.parametrize("attempt", [0, 1])
def test_gradients_pass_every_start(attempt: int) -> None:
    """Of what is heard, which does not depend on the phases of the principal components."""
    mixture = random_mixture(64, 3, 70, dtype=torch.float32).requires_grad_()
    start = rank1(Observation(mixture), 2, seeded(), Gauss(), attempt=attempt)
    (gradient,) = torch.autograd.grad(start.at_microphones().power.log().sum(), mixture)
    assert torch.isfinite(gradient).all()
    assert torch.all(gradient.abs().amax((0, 1, 3)) > 0)


@pytest.mark.parametrize("n_channels", [3, 6])
def test_every_attempt_starts_elsewhere_and_separates(n_channels: int) -> None:
    mixture, mixing = independent(2, n_channels)
    found = []
    for attempt in range(3):
        start = rank1(Observation(mixture), 2, seeded(), Gauss(), attempt=attempt)
        total = (start.demixing @ mixing)[:, :, :2].abs().square()
        assert 10 * float((total.amax(-1) / total.amin(-1)).log10().mean()) > 10
        found.append(start.demixing)
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_any_method_starts_from_the_rank1_model_of_its_own_sources() -> None:
    mixture, mixing = independent(2, 3)
    method = get_method("fastmnmf1").with_options(start="rank-1", n_bases=2)
    model = method.build(mixture, 2, seeded())
    rejected = (model.spatial.demixing @ mixing).abs().square()  # type: ignore[attr-defined]
    ratio = rejected[:, :, :2].amax(-1) / rejected[:, :, :2].amin(-1)
    assert 10 * float(ratio.log10().mean()) > 10


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("rank1", [True, False], ids=["rank-1", "max-snr"])
def test_known_turns_give_sources_in_order(order: list[int], rank1: bool) -> None:
    """As other first estimates, 10 dB of rejection; here it is known which row is of whom."""
    sources = complex_normal((1, 16, 2, 120), seeded(1), torch.float64)
    sources = sources * random_psd((1, 16, 2, 120), seeded(2)).sqrt()
    sources[:, :, 0, 80:] = sources[:, :, 1, :40] = 0
    mixing = complex_normal((1, 16, 3, 2), seeded(3), torch.float64)
    mixture = mixing @ sources + 0.01 * complex_normal((1, 16, 3, 120), seeded(4), torch.float64)
    active = (sources.abs().sum((0, 1)) > 0).double()[order]
    classes = torch.cat([active, torch.ones(1, 120)])[None]
    if rank1:
        source = NMF(n_bases=2)
        start = guided_rank1(Observation(mixture), classes, 2, seeded(), source)
    else:
        start = guided(Observation(mixture), classes, 3)
    power = (start.demixing[:, :, :2] @ mixing).abs().square()[..., order]
    own, other = power.diagonal(dim1=-2, dim2=-1), power.flip(-1).diagonal(dim1=-2, dim2=-1)
    assert 10 * float((own / other).log10().mean()) > 10
    assert start.power.shape[2] == (2 if rank1 else 3)


def test_a_start_of_ones_own_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STARTS, "mine", STARTS["identity"])
    options = {"start": "mine", "n_bases": 2}
    mine, known = (
        get_method("fastmnmf2").with_options(**{**options, "start": start})
        for start in ("mine", "identity")
    )
    mixture = random_mixture(4, 3, 20)
    costs = [row.build(mixture, 2, seeded()).cost() for row in (mine, known)]
    torch.testing.assert_close(*costs)
