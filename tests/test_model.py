"""Every composition: its cost falls, its estimates sum up, and it fits what it generated."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from toy import (
    SPATIAL,
    SPATIAL_UPDATES,
    complex_normal,
    each_source,
    each_spatial,
    each_update,
    make_model,
    n_sources_of,
    random_mixture,
    random_psd,
    random_scm,
    seeded,
    source_model,
    spatial_model,
)

from fca.likelihood import StudentT
from fca.model import Model
from fca.source import NMF, Fixed, Free, Gauss, SourceModel
from fca.source.base import Evaluate, floored
from fca.spatial import FullRank, JointlyDiagonal, Rank1

RANK1 = ("rank-1", "overdetermined")


def costs(model: Model, n_iter: int) -> list[float]:
    trace = [float(model.cost())]
    for _ in range(n_iter):
        model.step()
        trace.append(float(model.cost()))
    return trace


def assert_falling(trace: list[float], tolerance: float) -> None:
    rises = [after - before for before, after in itertools.pairwise(trace)]
    assert max(rises) <= tolerance, f"the cost rises by {max(rises):.2e}: {trace}"
    assert trace[-1] < trace[0]


@each_source
@each_update
def test_cost_falls(name: str, update: str, kind: str) -> None:
    model = make_model(name, kind, random_mixture(), update)
    assert_falling(costs(model, 10), tolerance=1e-9)


@pytest.mark.parametrize("kind", ["gauss", "nmf", "stationary"])
@each_update
def test_cost_falls_in_single_precision(name: str, update: str, kind: str) -> None:
    mixture = random_mixture(8, 3, 100, dtype=torch.float32)
    model = make_model(name, kind, mixture, update)
    # A thousand units of rounding: weighted covariances have condition numbers of that order.
    assert_falling(costs(model, 8), tolerance=1e-4)


@pytest.mark.parametrize("kind", ["nmf", "laplace"])
@each_update
def test_cost_falls_under_a_heavy_tailed_likelihood(name: str, update: str, kind: str) -> None:
    model = make_model(name, kind, random_mixture(), update, likelihood=StudentT(4.0))
    assert_falling(costs(model, 15), tolerance=1e-9)


@pytest.mark.parametrize("kind", ["nmf", "free em", "gauss"])
@each_spatial
def test_images_sum_to_the_mixture(name: str, kind: str) -> None:
    mixture = random_mixture(batch=2)
    model = make_model(name, kind, mixture)
    model.step()
    images = model.images()
    total = images.sum(2)
    if name == "overdetermined":  # the rest is the background, uncorrelated with the sources
        rest = mixture - total
        outputs = model.spatial.demixing[:, :, : images.shape[2]] @ mixture
        cross = (rest @ outputs.mH).abs().amax()
        assert cross < 1e-9 * (rest.norm() * outputs.norm())
    elif name == "full rank":  # up to the sensor noise, which is taken out
        torch.testing.assert_close(total, mixture, rtol=1e-3, atol=1e-3)
        assert (total - mixture).abs().max() > 0
    else:
        torch.testing.assert_close(total, mixture)
    for channel in range(mixture.shape[2]):
        torch.testing.assert_close(
            model.images(slice(channel, channel + 1))[:, :, :, 0], images[:, :, :, channel]
        )


@each_source
@each_spatial
def test_normalisation_changes_neither_cost_nor_images(name: str, kind: str) -> None:
    model = make_model(name, kind, random_mixture())
    cost, images = model.cost(), model.images()
    model.normalise()
    torch.testing.assert_close(model.cost(), cost)
    torch.testing.assert_close(model.images(), images)
    if kind in ("nmf", "free em", "free mu", "stationary"):
        torch.testing.assert_close(model.spatial.scale(), torch.ones_like(model.spatial.scale()))


@each_update
def test_microphones_may_come_in_any_order(name: str, update: str) -> None:
    mixture, order = random_mixture(), [2, 0, 1]
    model = make_model(name, "nmf", mixture, update)
    permuted = make_model(name, "nmf", mixture[:, :, order], update)
    if name == "full rank":
        h = model.spatial.scm()[..., order, :][..., order]
        permuted.spatial = FullRank(mixture[:, :, order], h, update)
    elif name in RANK1:
        q = model.spatial.demixing[..., order]
        n_sources = n_sources_of(name, mixture)
        permuted.spatial = Rank1(mixture[:, :, order], q, n_sources, update)
    else:
        q, g = model.spatial.demixing[..., order], model.spatial.gains
        permuted.spatial = JointlyDiagonal(mixture[:, :, order], q, g, update)
    for _ in range(3):
        model.step()
        permuted.step()
    torch.testing.assert_close(permuted.cost(), model.cost())
    torch.testing.assert_close(permuted.images(), model.images()[:, :, :, order])


@each_update
def test_recordings_of_a_batch_do_not_mix(name: str, update: str) -> None:
    mixture = torch.cat([random_mixture(seed=seed) for seed in (0, 1)])
    shape = (2, mixture.shape[1], n_sources_of(name, mixture), mixture.shape[3])
    power = random_psd(shape, seeded())
    both = spatial_model(name, mixture, update)
    together = Model(both, source_model("free mu", power))
    alone = []
    for b in (0, 1):
        spatial = spatial_model(name, mixture[b : b + 1], update)
        for key in ("demixing", "gains", "_h"):
            if hasattr(spatial, key):
                setattr(spatial, key, getattr(both, key)[b : b + 1])
        alone.append(Model(spatial, source_model("free mu", power[b : b + 1])))
    for model in (together, *alone):
        model.step()
        model.step()
    torch.testing.assert_close(together.cost(), torch.cat([model.cost() for model in alone]))
    torch.testing.assert_close(together.images(), torch.cat([model.images() for model in alone]))


def sample(scm: Tensor, psd: Tensor, seed: int = 9) -> Tensor:
    """Mixture (B, F, M, T) drawn from ``Σ_n N(0, λ_nft H_nf)``."""
    shape = (*psd.shape[:3], scm.shape[-1], psd.shape[3])
    root = torch.linalg.cholesky(scm)
    images = root @ (psd[:, :, :, None].sqrt() * complex_normal(shape, seeded(seed), torch.float64))
    return images.sum(2)


@pytest.mark.parametrize(
    ("name", "update"), [pair for pair in SPATIAL_UPDATES if pair[0] not in RANK1]
)
def test_known_sources_reveal_their_spatial_covariances(name: str, update: str) -> None:
    n_freq, n_channels, n_frames = 2, 3, 2000
    rng = seeded(4)
    start = torch.ones(1, n_freq, n_channels, n_frames, dtype=torch.float64)
    psd = random_psd((1, n_freq, n_channels, n_frames), rng).square()
    truth = spatial_model(name, 1j * start, update, seed=5)
    mixture = sample(truth.scm(), psd)
    spatial = spatial_model(name, mixture, update, seed=6)
    model = Model(spatial, Fixed(psd))
    for _ in range(100):
        model.step()
    error = (spatial.scm() - truth.scm()).norm(dim=(-2, -1)) / truth.scm().norm(dim=(-2, -1))
    # A covariance estimated from T frames errs by sqrt(M/T) = 4 %, and by twice that for a source
    # that is the strongest in a third of the frames. The start is off by more than 50 %.
    assert error.max() < 0.15
    assert float(model.cost()) < float(Model(truth_at(truth, mixture), Fixed(psd)).cost())


def truth_at(truth: FullRank | JointlyDiagonal, mixture: Tensor) -> FullRank:
    """The covariances of another model, to be fitted to a mixture; the optimum beats them."""
    return FullRank(mixture, truth.scm(), noise=0.0)


@pytest.mark.parametrize("update", SPATIAL["rank-1"])
def test_sampled_sources_are_demixed(update: str) -> None:
    n_freq, n_sources, n_frames = 6, 3, 600
    rng = seeded(8)
    psd = random_psd((1, 1, n_sources, n_frames), rng).square().expand(-1, n_freq, -1, -1)
    mixing = complex_normal((1, n_freq, n_sources, n_sources), rng, torch.float64)
    sources = psd.sqrt() * complex_normal(tuple(psd.shape), rng, torch.float64)
    eye = torch.eye(n_sources, dtype=torch.complex128).expand(1, n_freq, -1, -1)
    spatial = Rank1(mixing @ sources, eye, n_sources, update)
    source = Gauss()
    source.initialise(spatial.power, rng)
    model = Model(spatial, source)
    for _ in range(60):
        model.step()
    total = (spatial.demixing @ mixing).abs()
    largest, index = total.max(-1)
    # One source per row, the same at every frequency, others 20 dB down or more.
    assert torch.all(index == index[:, :1])
    assert sorted(index[0, 0].tolist()) == [0, 1, 2]
    assert torch.all(total.sort(-1).values[..., -2] < 0.1 * largest)


class Simplex(SourceModel):
    """A source model of a user: PSDs switch between a quiet and a loud spectrum.

    ``λ_nft = a_nft`` with ``a = (1 − u) quiet_nf + u loud_nf``: two states, soft occupancy u.
    Multiplicative updates of both spectra and both occupancies.
    """

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        mean = power.mean(-1, keepdim=True)
        self._spectra = torch.stack([0.1 * mean, mean], dim=-1)[..., 0, :]
        loud = (power > mean).to(power).mean(1)
        self._use = 0.1 + 0.8 * torch.stack([1 - loud, loud], dim=2)

    def psd(self) -> Tensor:
        return floored(torch.einsum("bfnk,bnkt->bfnt", self._spectra, self._use))

    def update(self, evaluate: Evaluate) -> None:
        now = evaluate(self.psd())
        up = torch.einsum("bnkt,bfnt->bfnk", self._use, now.quadratic)
        down = torch.einsum("bnkt,bfnt->bfnk", self._use, now.trace)
        self._spectra = floored(self._spectra * (up / down).sqrt())
        now = evaluate(self.psd())
        up = torch.einsum("bfnk,bfnt->bnkt", self._spectra, now.quadratic)
        down = torch.einsum("bfnk,bfnt->bnkt", self._spectra, now.trace)
        self._use = floored(self._use * (up / down).sqrt())

    def absorb(self, factor: Tensor) -> Tensor:
        self._spectra = self._spectra * factor[..., None]
        return factor


@each_update
def test_a_new_source_model_works_with_every_spatial_model(name: str, update: str) -> None:
    mixture = random_mixture()
    shape = (1, mixture.shape[1], n_sources_of(name, mixture), mixture.shape[3])
    source = Simplex()
    source.initialise(random_psd(shape, seeded()), seeded())
    model = Model(spatial_model(name, mixture, update), source)
    assert_falling(costs(model, 15), tolerance=1e-9)
    before = model.images()
    model.normalise()
    torch.testing.assert_close(model.images(), before)


@each_spatial
def test_sources_at_a_microphone_meet_normalised_covariances(name: str) -> None:
    class AtMicrophone(Free):
        at_microphone = True

        def update(self, evaluate: Evaluate) -> None:
            self.seen = scale()
            super().update(evaluate)

    mixture = random_mixture()
    shape = (1, mixture.shape[1], n_sources_of(name, mixture), mixture.shape[3])
    source = AtMicrophone("mu")
    source.initialise(random_psd(shape, seeded()), seeded())
    spatial = spatial_model(name, mixture)
    scale = spatial.scale
    model = Model(spatial, source)
    for _ in range(2):
        model.step()
        torch.testing.assert_close(source.seen, torch.ones_like(source.seen))


def unrolled(name: str, update: str, kind: str, mixture: Tensor, n_iter: int = 2) -> Model:
    model = make_model(name, kind, mixture, update)
    for _ in range(n_iter):
        model.step()
    return model


@pytest.mark.parametrize("kind", ["nmf", "laplace"])
@each_update
def test_gradients_through_iterations(name: str, update: str, kind: str) -> None:
    mixture = random_mixture(2, 3, 6).requires_grad_()

    def outputs(x: Tensor) -> tuple[Tensor, Tensor]:
        model = unrolled(name, update, kind, x)
        return model.cost(), torch.view_as_real(model.images())

    assert torch.autograd.gradcheck(outputs, (mixture,), fast_mode=True, rtol=1e-3, atol=1e-5)


@each_spatial
def test_a_look_at_the_cost_leaves_gradients_as_they_are(name: str) -> None:
    """The loop monitors the cost without gradients, and models keep what they have computed."""
    gradients = []
    for watched in (False, True):
        mixture = random_mixture(2, 3, 6).requires_grad_()
        model = make_model(name, "nmf", mixture, SPATIAL[name][0])
        for _ in range(2):
            with torch.no_grad():
                _ = model.cost() if watched else None
            model.step()
        gradients.append(*torch.autograd.grad(model.cost().sum(), mixture))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@each_update
def test_gradients_are_finite_over_many_magnitudes(
    name: str, update: str, dtype: torch.dtype
) -> None:
    rng = seeded(3)
    level = 10 ** (8 * torch.rand(2, 4, 1, 30, generator=rng, dtype=torch.float64) - 6)
    mixture = (level * random_mixture(batch=2)).to(dtype.to_complex()).requires_grad_()
    model = unrolled(name, update, "nmf", mixture, n_iter=3)
    loss = model.cost().sum() + model.images().abs().mean()
    (gradient,) = torch.autograd.grad(loss, mixture)
    assert torch.isfinite(torch.view_as_real(gradient)).all()
    assert gradient.abs().max() > 0


@each_spatial
def test_spatial_covariances_are_hermitian_and_positive(name: str) -> None:
    model = unrolled(name, SPATIAL[name][0], "nmf", random_mixture())
    scm = model.spatial.scm()
    torch.testing.assert_close(scm, scm.mH)
    eigenvalues = torch.linalg.eigvalsh(scm)
    floor = -1e-12 * eigenvalues.amax(-1, keepdim=True)
    assert torch.all(eigenvalues > floor)
    power = scm.diagonal(dim1=-2, dim2=-1).real.mean(-1)
    if name == "shared gains":
        power = power.mean(1, keepdim=True)
    torch.testing.assert_close(model.spatial.scale(), power)


def test_nmf_separates_what_it_generated() -> None:
    """ILRMA's model sampled: the fitted PSDs are the true ones up to scale and order."""
    rng = seeded(10)
    n_freq, n_sources, n_frames = 40, 2, 400
    w, h = random_psd((1, n_sources, n_freq, 2), rng), random_psd((1, n_sources, 2, n_frames), rng)
    psd = (w @ h).transpose(1, 2)
    mixing = random_scm((1, n_freq), n_sources, rng)
    sources = psd.sqrt() * complex_normal(tuple(psd.shape), rng, torch.float64)
    eye = torch.eye(n_sources, dtype=torch.complex128)
    demixing = torch.linalg.inv(mixing) + 0.1 * eye
    spatial = Rank1(mixing @ sources, demixing, n_sources)
    source = NMF(n_bases=2)
    source.initialise(spatial.power, rng)
    model = Model(spatial, source)
    for _ in range(60):
        model.step()
    model.normalise()
    truth = (psd * (mixing.abs().square().mean(2))[..., None]).log()
    errors = (model.source.psd().log() - truth).abs().median()
    # 2 (F + T) parameters a source from F T bins: relative errors of sqrt(2 (F + T) / FT) = 0.23.
    assert errors < 0.23
