"""Complex angular central Gaussian mixtures and the beamformer behind them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from toy import complex_normal, random_mixture, random_psd, random_scm, seeded

from fca.beamforming import apply, mvdr
from fca.clustering import CACGMM, random_masks
from fca.errors import InputError
from fca.spatial.observation import Observation

SIZE = (1, 8, 3, 160)


def disjoint(seed: int = 0, n_sources: int = 2) -> tuple[Tensor, Tensor]:
    """Sources that take turns in blocks of frames, a little noise: mixture and owner (T,)."""
    rng = seeded(seed)
    batch, n_freq, n_channels, n_frames = SIZE
    owner = torch.arange(n_frames) // 20 % n_sources
    steering = complex_normal((batch, n_freq, n_channels, n_sources), rng, torch.float64)
    level = random_psd((batch, n_freq, 1, n_frames), rng).sqrt()
    sources = level * complex_normal((batch, n_freq, n_sources, n_frames), rng, torch.float64)
    active = (owner == torch.arange(n_sources)[:, None]).double()
    noise = 0.02 * complex_normal(SIZE, rng, torch.float64)
    return steering @ (active * sources) + noise, owner


def fitted(mixture: Tensor, n_classes: int, n_iter: int = 30) -> CACGMM:
    model = CACGMM(Observation(mixture), random_masks(mixture, n_classes, seeded(1)))
    for _ in range(n_iter):
        model.step()
    return model


def test_masks_find_who_is_active() -> None:
    mixture, owner = disjoint()
    masks = fitted(mixture, 2).masks
    torch.testing.assert_close(masks.sum(2), torch.ones_like(masks[:, :, 0]))
    decided = masks.argmax(2)[0]
    share = max(float((decided == order).double().mean()) for order in (owner, 1 - owner))
    assert share > 0.95, "one source per class, the same at every frequency"


def test_levels_of_bins_have_no_say() -> None:
    """Directions alone count: how loud a bin is changes neither masks nor cost."""
    mixture = random_mixture(7, 3, 60)
    level = 10 ** (6 * torch.rand(mixture[:, :, :1].shape, generator=seeded(8)) - 3)
    plain, louder = fitted(mixture, 2, 12), fitted(level * mixture, 2, 12)
    torch.testing.assert_close(louder.masks, plain.masks, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(louder.cost(), plain.cost(), rtol=1e-6, atol=1e-6)


def test_em_lowers_the_cost_between_alignments() -> None:
    mixture = random_mixture(6, 3, 60)
    model = CACGMM(Observation(mixture), random_masks(mixture, 3, seeded()))
    costs = [float(model.cost())]
    for _ in range(7):
        model.step()
        costs.append(float(model.cost()))
    # The small diagonal load of the covariances is not part of the cost.
    assert all(after <= before + 1e-4 for before, after in itertools.pairwise(costs))
    assert costs[-1] < costs[0] - 0.01


@pytest.mark.parametrize("known", [False, True])
def test_one_step_is_that_of_the_paper(known: bool) -> None:
    """Ito et al. 2016, eqs. 19 and 21, with matrices; π shared over frequency, or known."""
    mixture = random_mixture(4, 3, 20)
    model = CACGMM(Observation(mixture), random_masks(mixture, 2, seeded(3)))
    before = model._posterior
    weights = before.mean(1, keepdim=True)
    if known:
        weights = random_psd((1, 4, 2, 20), seeded(4)).softmax(2)
        model.weights = weights
    model.step()
    direction = mixture / mixture.norm(dim=2, keepdim=True)
    outer = torch.einsum("bfit,bfjt->bftij", direction, direction.conj())
    weight = before / before.sum(-1, keepdim=True)
    b = 3 * torch.einsum("bfkt,bftij->bfkij", weight.to(outer.dtype), outer)
    b = b + 1e-4 * torch.eye(3)
    form = torch.einsum(
        "bfit,bfkij,bfjt->bfkt", direction.conj(), torch.linalg.inv(b), direction
    ).real
    log_det = torch.linalg.slogdet(b).logabsdet[..., None]
    joint = weights.log() - log_det - 3 * form.log()
    torch.testing.assert_close(model._posterior, joint.softmax(2).clamp_min(1e-10))


def test_known_weights_keep_the_order_of_the_classes() -> None:
    """What weights of every bin say is not undone by an alignment of frequencies."""
    mixture, owner = disjoint()
    active = (owner == torch.arange(2)[:, None]).double()
    weights = torch.stack([active, 1 - active])[torch.arange(8) % 2][None]
    model = CACGMM(Observation(mixture), (0.2 + weights) / 1.4)
    model.weights = (0.2 + weights) / 1.4
    for _ in range(12):
        model.step()
    assert float((model.masks.argmax(2) == weights.argmax(2)).double().mean()) > 0.95


def test_levels_do_not_matter() -> None:
    """Only directions are modelled: any gain per frame gives the same masks."""
    mixture, _ = disjoint()
    gain = 10 ** (6 * torch.rand(1, 8, 1, 160, generator=seeded(4)).double() - 3)
    torch.testing.assert_close(fitted(mixture * gain, 2).masks, fitted(mixture, 2).masks)


def test_images_extract_each_class() -> None:
    mixture, owner = disjoint()
    images = fitted(mixture, 2).images()
    assert images.shape == (1, 8, 2, 3, 160)
    power = images.abs().square().sum((0, 1, 3))
    own = torch.stack([power[:, owner == n].mean(1) for n in (0, 1)], dim=1)
    order = own.argmax(1)
    assert sorted(order.tolist()) == [0, 1]
    # The MVDR beamformer of three microphones removes the one interferer to the noise's level.
    assert torch.all(own.amin(1) < 0.01 * own.amax(1))
    active = mixture[:, :, :, owner == 0]
    estimate = images[:, :, int(order.tolist().index(0))][..., owner == 0]
    assert (estimate - active).norm() < 0.2 * active.norm()


def test_channels_of_images_can_be_chosen() -> None:
    model = fitted(random_mixture(4, 3, 30), 2, 3)
    torch.testing.assert_close(model.images(slice(1, 2))[:, :, :, 0], model.images()[:, :, :, 1])


def test_silent_frames_are_harmless() -> None:
    mixture, _ = disjoint()
    mixture = torch.cat([mixture, torch.zeros_like(mixture)], dim=-1)
    model = fitted(mixture, 3)
    assert torch.isfinite(model.masks).all()
    assert torch.isfinite(model.cost()).all()


def test_a_class_is_needed() -> None:
    with pytest.raises(InputError, match="at least one class, got 0"):
        random_masks(random_mixture(), 0, seeded())


@pytest.mark.parametrize("reference", [0, 2])
def test_mvdr_keeps_the_target_and_is_optimal(reference: int) -> None:
    rng = seeded(6)
    steering, noise = complex_normal((4, 3, 1), rng, torch.float64), random_scm((4,), 3, rng)
    filters = mvdr(steering @ steering.mH, noise, reference)
    response = (filters.conj()[:, None] @ steering)[:, 0, 0]
    torch.testing.assert_close(response, steering[:, reference, 0])
    # The textbook filter with a known steering vector, times the reference's response.
    whitened = torch.linalg.solve(noise, steering)
    textbook = whitened / (steering.mH @ whitened) * steering[:, reference : reference + 1].conj()
    torch.testing.assert_close(filters, textbook[..., 0])


def test_mvdr_of_nothing_is_finite() -> None:
    nothing = torch.zeros(2, 3, 3, dtype=torch.complex64)
    assert torch.isfinite(torch.view_as_real(mvdr(nothing, nothing, 0))).all()


def test_filters_are_applied_as_inner_products() -> None:
    rng = seeded(7)
    filters = complex_normal((2, 4, 2, 3), rng, torch.float64)
    mixture = complex_normal((2, 4, 3, 9), rng, torch.float64)
    expected = torch.einsum("bfnm,bfmt->bfnt", filters.conj(), mixture)
    torch.testing.assert_close(apply(filters, mixture), expected)
