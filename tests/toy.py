"""Small random mixtures, and every spatial and source model at a random start."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fca.evaluation.metrics import evaluate
from fca.likelihood import Likelihood
from fca.methods import METHODS
from fca.model import Fittable, Model
from fca.separator import Separator
from fca.simulate.stored import Item
from fca.source import NMF, Fixed, Free, Gauss, Laplace, SourceModel, Stack, Stationary, Student
from fca.spatial import FullRank, JointlyDiagonal, Rank1, SpatialModel
from fca.spatial.observation import Observation

DEMIXING = ("ip", "ip2", "iss")
SPATIAL = {
    "rank-1": DEMIXING,
    "overdetermined": DEMIXING,
    "jointly diagonal": DEMIXING,
    "shared gains": DEMIXING,
    "full rank": ("em", "mu"),
}
"""Spatial models and their updates; "overdetermined" is rank-1 with fewer sources than channels."""
SPATIAL_UPDATES = [(name, update) for name, updates in SPATIAL.items() for update in updates]
SOURCES = (
    "gauss",
    "bounded gauss",
    "laplace",
    "student",
    "untied laplace",
    "nmf",
    "free em",
    "free mu",
    "stationary",
    "fixed",
    "stack",
)
each_spatial = pytest.mark.parametrize("name", SPATIAL)
CLASSICAL = [row.name for row in METHODS.values() if row.source not in ("vae", "neural")]
"""Methods that run with any window; those with the speech prior need the prior's."""

each_update = pytest.mark.parametrize(("name", "update"), SPATIAL_UPDATES)
each_source = pytest.mark.parametrize("kind", SOURCES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complex_normal(shape: tuple[int, ...], rng: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Circular complex Gaussian of unit variance; drawn in float64 whatever ``dtype`` is."""
    pair = torch.randn((*shape, 2), generator=rng, dtype=torch.float64) / 2**0.5
    return torch.view_as_complex(pair).to(dtype.to_complex())


def random_psd(
    shape: tuple[int, ...], rng: torch.Generator, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Log-uniform values over two decades."""
    return (10 ** (2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1)).to(dtype)


def random_scm(
    shape: tuple[int, ...],
    size: int,
    rng: torch.Generator,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Well-conditioned Hermitian positive definite matrices (*shape, size, size)."""
    root = complex_normal((*shape, size, size), rng, dtype)
    return root @ root.mH + 0.1 * torch.eye(size, dtype=root.dtype)


def random_mixture(
    n_freq: int = 4,
    n_channels: int = 3,
    n_frames: int = 30,
    *,
    batch: int = 1,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Tensor:
    """Convolutive mixture (B, F, M, T) of as many active-or-not sources as channels, plus noise."""
    rng = seeded(seed)
    psd = random_psd((batch, 1, n_channels, n_frames), rng).square()
    sources = psd.sqrt() * complex_normal((batch, n_freq, n_channels, n_frames), rng, torch.float64)
    mixing = complex_normal((batch, n_freq, n_channels, n_channels), rng, torch.float64)
    mixture = mixing @ sources
    mixture = mixture + 0.1 * complex_normal(tuple(mixture.shape), rng, torch.float64)
    return (mixture / mixture.abs().square().mean().sqrt()).to(dtype.to_complex())


def n_sources_of(name: str, mixture: Tensor) -> int:
    """As many sources as channels, one less for "overdetermined"."""
    return mixture.shape[2] - (name == "overdetermined")


def spatial_model(
    name: str,
    mixture: Tensor,
    update: str | None = None,
    *,
    likelihood: Likelihood | None = None,
    observation: Observation | None = None,
    seed: int = 1,
) -> SpatialModel:
    """Spatial model called ``name`` with random parameters, of all or what is seen of a mixture."""
    rng, dtype = seeded(seed), mixture.real.dtype
    batch, n_freq, n_channels, _ = mixture.shape
    n_sources = n_sources_of(name, mixture)
    update = update or SPATIAL[name][0]
    if name == "full rank":
        scm = random_scm((batch, n_freq, n_sources), n_channels, rng, dtype)
        return FullRank(mixture, scm, update, likelihood)
    demixing = torch.eye(n_channels, dtype=mixture.dtype) + 0.3 * complex_normal(
        (batch, n_freq, n_channels, n_channels), rng, dtype
    )
    seen = mixture if observation is None else observation
    if name in ("rank-1", "overdetermined"):
        return Rank1(seen, demixing, n_sources, update, likelihood)
    gains_freq = 1 if name == "shared gains" else n_freq
    gains = random_psd((batch, gains_freq, n_sources, n_channels), rng, dtype)
    return JointlyDiagonal(seen, demixing, gains, update, likelihood)


def source_model(kind: str, power: Tensor, seed: int = 2) -> SourceModel:
    """Source model called ``kind``, initialised at ``power`` (B, F, N, T)."""
    n_sources = power.shape[2]
    models = {
        "gauss": Gauss,
        "bounded gauss": lambda: Gauss(quietest=0.5),
        "laplace": Laplace,
        "student": lambda: Student(dof=2.0),
        "untied laplace": lambda: Laplace(tied=False),
        "nmf": lambda: NMF(n_bases=3, warmup=2),
        "free em": lambda: Free("em"),
        "free mu": lambda: Free("mu"),
        "stationary": Stationary,
        "fixed": lambda: Fixed(power),
        "stack": lambda: Stack([(NMF(2, warmup=0), n_sources - 1), (Stationary(), 1)]),
    }
    model = models[kind]()
    model.initialise(power, seeded(seed))
    return model


def make_model(
    name: str,
    kind: str,
    mixture: Tensor,
    update: str | None = None,
    *,
    likelihood: Likelihood | None = None,
) -> Model:
    """A composition at a random start."""
    shape = (mixture.shape[0], mixture.shape[1], n_sources_of(name, mixture), mixture.shape[3])
    power = random_psd(shape, seeded(3), mixture.real.dtype)
    spatial = spatial_model(name, mixture, update, likelihood=likelihood)
    return Model(spatial, source_model(kind, power))


def costs(model: Fittable, step: Callable[[], None], n_steps: int) -> Tensor:
    """Costs of a model before and after each of its steps, (n_steps + 1, B)."""
    trace = [model.cost()]
    for _ in range(n_steps):
        step()
        trace.append(model.cost())
    return torch.stack(trace)


def assert_never_rises(trace: Tensor) -> None:
    """But for rounding in double precision."""
    assert bool((trace.diff(dim=0) <= 1e-9 * trace.abs().max()).all())


def item_improvement(item: Item, separate: Separator) -> float:
    """Mean SDR improvement (dB) over the talkers of a simulated mixture."""
    mixture, references = item.read("mixture"), item.references()
    sources = separate(torch.from_numpy(mixture), item.sample_rate).sources.numpy()
    result = evaluate(references, sources, item.sample_rate, mixture=mixture[0], metrics=["sdr"])
    return float(np.mean(result.improvement["sdr"]))
