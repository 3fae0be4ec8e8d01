"""The start that the speech prior makes: a rank-1 model with more outputs than talkers.

Independent vector analysis comes first, from a part of the bins, or classes of bins; then the
source model of the method itself. Stretches of frequencies that changed places are put back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fca.inference.classes import BRIEF, BRIEFEST, demixed, underdetermined
from fca.inference.grouping import grouped
from fca.inference.interferer import with_interferer
from fca.inference.outputs import by_likelihood, by_loudness
from fca.inference.start import Start, fit_outputs, joined, taken
from fca.permutation import follow, reorder
from fca.source import Gauss, SourceModel
from fca.spatial import Rank1
from fca.spatial.observation import Observation, identity_demixing
from fca.spatial.subspace import principal

SPARE = 2
"""Outputs beyond the sources, for noise and for talkers that are split; what large arrays have
beyond these is left to the end (:mod:`fca.spatial.subspace`)."""
THINNING = 4
"""Of how many frequencies one is seen by most of the sweeps."""
QUIETEST = 1e-3
"""Level of an output in its quietest frames, relative to its mean, for the sweeps."""
CONVERGED = 3e-3
"""Cost per bin that ten sweeps gain at least while they go on ..."""
HASTY = 1e-2
"""... and where that has to be fast."""
LONG = 64
"""Frames from which on every other one is enough for the most part."""
SURER = 10.0
"""Doubt, in nats per bin, that a start has less if it shows an interferer."""
SPATIAL_STEPS = 2
"""Updates of Q with every inference of the source model."""
MENDINGS = 2
"""Times at most that what the source model has inferred is mended, and inferred again."""

Fit = Callable[[Observation, Tensor], tuple[Rank1, Tensor]]
"""From a mixture and Q to a model fitted from there and the PSDs of its outputs."""


def rank1(
    observation: Observation,
    n_sources: int,
    generator: torch.Generator,
    source: SourceModel,
    attempt: int = 0,
    doubted: bool = True,
    fast: bool = False,
    interferers: bool = False,
) -> Start:
    """The rank-1 model of ``source`` with more outputs than sources, from :func:`thinned_iva`.

    A source model that knows the frequencies of a talker to belong together mends what IVA has
    permuted, and shows the seams that are left; then the outputs are taken that explain all of them
    (:func:`by_likelihood`), alone or in groups (:func:`grouped`). IVA sees as many principal
    components as there are outputs: of more it would make parts of talkers. More sources than
    microphones have no rank-1 model; their start is
    :func:`~fca.inference.classes.underdetermined`.

    Parameters
    ----------
    observation : Observation
        The mixture. IVA is the start of components of an array, among which there are no delays.
    attempt : int
        Gives another start for every number: in odd ones, or in even ones that are to be ``fast``,
        classes of bins take the place of IVA (:func:`~fca.inference.classes.demixed`) unless
        there is one source only; IVA converges at other frequencies first each time. With more
        sources than microphones, odd ones cluster from random masks, for recordings without clear
        delays.
    doubted : bool
        See :func:`grouped`.
    fast : bool
        Show all but the last round of the source model every other frame of long recordings, which
        still overlap by half, iterate less, and begin with classes: they lose fewer talkers who
        sway.
    interferers : bool
        Take one source more where there is one; see :mod:`fca.inference.interferer`.
    """
    n_channels = observation.mixture.shape[2]
    if n_sources > n_channels:
        delays = attempt % 2 == 0
        return underdetermined(observation, n_sources, generator, source, from_delays=delays)
    n_outputs = number_of_outputs(n_sources, n_channels)
    early = _every_other(observation) if fast else observation
    basis = principal(early.outer.detach())  # coordinates, which gradients have no part in
    seen, others = basis[:, :, :n_outputs], basis[:, :, n_outputs:]
    in_turns = n_sources > 1 and observation.delays
    if in_turns and (attempt % 2 == 1) != fast:
        few, effort = (early, BRIEFEST) if fast else (_every_other(observation), BRIEF)
        rows = demixed(few, seen @ few.mixture, n_sources, generator, source, effort)
    else:
        first = (attempt // 2 if in_turns else attempt) % THINNING
        tolerance = HASTY if fast else CONVERGED
        components = Observation(seen @ early.mixture)
        iva = thinned_iva(components, n_outputs, generator, first=first, tolerance=tolerance)
        rows = iva.demixing
    demixing = torch.cat([rows @ seen, others], dim=2)
    fit = partial(fitted, n_outputs, source, generator)
    demixing = fit_and_mend(fit, early, demixing, MENDINGS)[0].demixing
    spatial, psd = fit_and_mend(fit, observation, demixing, MENDINGS)
    order = by_likelihood(spatial, psd, n_sources)
    if interferers:
        order, found = with_interferer(spatial, order, psd, n_sources, source)
        if found.any():
            return _accompanied(spatial, order, psd, n_sources, source, found)
    return grouped(spatial, order, psd, n_sources, source, doubted)


def number_of_outputs(n_sources: int, n_channels: int, spare: int = SPARE) -> int:
    """Outputs of the model: ``spare`` ones beyond the sources, and where there is one, company."""
    return min(max(n_sources, 2) + spare, n_channels)


def _accompanied(
    spatial: Rank1, order: Tensor, psd: Tensor, n_sources: int, source: SourceModel, found: Tensor
) -> Start:
    """Start with one source more than is wanted, silent where no interferer was ``found``, (B,)."""
    starts = []
    for index in range(len(found)):
        one = slice(index, index + 1)
        alone = Rank1(spatial.mixture[one], spatial.demixing[one], spatial.n_sources)
        n_present = n_sources + int(found[index])
        start = grouped(alone, order[one], psd[one], n_present, source)
        starts.append(_surer(start, found[one]) if found[index] else start)
    return starts[0] if len(starts) == 1 else joined(starts)


def _surer(start: Start, interfered: Tensor) -> Start:
    """A start that shows an interferer, whom others of the recording leave in the sources."""
    assert start.doubt is not None
    return replace(start, doubt=start.doubt - SURER, interfered=interfered)


def thinned_iva(
    observation: Observation,
    n_sources: int,
    generator: torch.Generator,
    n_thin: int = 100,
    n_iter: int = 3,
    first: int = 0,
    tolerance: float = CONVERGED,
) -> Start:
    """:func:`fca.inference.start.iva` that converges on some of the bins before all are seen.

    The activity that ties the frequencies is known from one of :data:`THINNING` as well, the
    ``first`` and so on; up to ``n_thin`` sweeps over these cost a fraction, and as many again where
    stretches of frequencies had to change places. The other frequencies then start from known
    activities.
    """
    mixture, n_channels = observation.mixture, observation.mixture.shape[2]
    some = torch.arange(first, mixture.shape[1], THINNING, device=mixture.device)
    demixing = identity_demixing(mixture)
    sweep = partial(_sweep, n_thin, tolerance, generator)
    thin, _ = fit_and_mend(sweep, Observation(mixture[:, some]), demixing[:, some], n_mendings=1)
    demixing = demixing.index_copy(1, some, thin.demixing)
    spatial = Rank1(observation, demixing, n_channels)
    source = Gauss()
    source.initialise(spatial.power[:, some], generator)
    for _ in range(2):
        spatial.update(source.psd()[:, :1].expand_as(spatial.power))
    fit_outputs(spatial, Gauss(quietest=QUIETEST), n_iter, generator)
    return taken(spatial, by_loudness(spatial), n_sources)


def fit_and_mend(
    fit: Fit, observation: Observation, demixing: Tensor, n_mendings: int
) -> tuple[Rank1, Tensor]:
    """What ``fit`` gives; where :func:`follow` finds seams, it is mended and fitted again.

    At most ``n_mendings`` times, and only the recordings that have any.
    """
    mixture = observation.mixture
    spatial, psd = fit(observation, demixing)
    for _ in range(n_mendings):
        order = follow(spatial.power[:, :, : spatial.n_sources])
        rows = torch.arange(order.shape[2], device=order.device)
        seams = (order != rows).any((1, 2)).nonzero()[:, 0]
        if not len(seams):
            break
        some = observation if len(seams) == len(mixture) else Observation(mixture[seams])
        again, its_psd = fit(some, _reordered(spatial, order)[seams])
        mended = spatial.demixing.index_copy(0, seams, again.demixing)
        spatial = Rank1(observation, mended, spatial.n_sources)
        psd = psd.index_copy(0, seams, its_psd)
    return spatial, psd


def _every_other(observation: Observation) -> Observation:
    """Every other frame of a mixture that is long enough."""
    mixture = observation.mixture
    if mixture.shape[-1] < LONG:
        return observation
    return Observation(mixture[..., ::2].contiguous(), observation.delays)


def _reordered(spatial: Rank1, order: Tensor) -> Tensor:
    """Q with its outputs in an order (B, F, N), the background as it is."""
    outputs, background = spatial.demixing.tensor_split([spatial.n_sources], dim=2)
    return torch.cat([reorder(outputs, order), background], dim=2)


def _sweep(
    n_iter: int,
    tolerance: float,
    generator: torch.Generator,
    observation: Observation,
    demixing: Tensor,
) -> tuple[Rank1, Tensor]:
    """Sweeps of IVA until they gain little: of each recording as many as it takes."""
    mixture = observation.mixture
    found, psd = [], []
    for x, q in zip(mixture[:, None], demixing[:, None], strict=True):
        spatial, source = Rank1(x, q, x.shape[2]), Gauss(quietest=QUIETEST)
        fit_outputs(spatial, source, n_iter, generator, tolerance=tolerance)
        found.append(spatial.demixing)
        psd.append(source.psd())
    return Rank1(mixture, torch.cat(found), mixture.shape[2]), torch.cat(psd)


def fitted(
    n_outputs: int,
    source: SourceModel,
    generator: torch.Generator,
    observation: Observation,
    demixing: Tensor,
) -> tuple[Rank1, Tensor]:
    """One iteration of the source model from its outputs."""
    spatial = Rank1(observation, demixing, n_outputs)
    if source.at_microphone:
        spatial.rescale(spatial.scale().reciprocal())
    fit_outputs(spatial, source, 1, generator, spatial_steps=SPATIAL_STEPS)
    return spatial, source.psd()
