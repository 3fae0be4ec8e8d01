"""The start "rank-1": a rank-1 model with more outputs than talkers, by the method's source model.

It begins with independent vector analysis on a part of the bins, or with classes of bins. The
source model of the method follows. Stretches of frequencies in which outputs have changed places
are put back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fca.inference.classes import BRIEF, BRIEFEST, demixed, underdetermined
from fca.inference.grouping import grouped
from fca.inference.interferer import crowded, with_interferer
from fca.inference.mending import fit_and_mend, fit_where
from fca.inference.outputs import by_likelihood, by_loudness
from fca.inference.start import Start, fit_outputs, joined, taken
from fca.source import Gauss, SourceModel
from fca.spatial import Rank1
from fca.spatial.observation import Observation, identity_demixing
from fca.spatial.subspace import principal

SPARE = 2
"""Outputs beyond the sources, for noise and for talkers that are split. Microphones beyond these
are used only at the end (:mod:`fca.spatial.subspace`)."""
THINNING = 4
"""Step between the frequencies that most sweeps of IVA see."""
QUIETEST = 1e-3
"""Least variance of an output in a frame, relative to its mean, during IVA."""
CONVERGED = 3e-3
"""IVA ends when ten sweeps lower the cost by less than this, in nats per bin."""
HASTY = 1e-2
"""The same where the start has to be fast."""
LONG = 64
"""Frames from which on a recording is long enough for every other frame to do in most steps."""
SURER = 10.0
"""Nats per bin by which the doubt of a start is lowered if it shows an interferer. The other starts
of that recording leave the interferer in the talkers, and are thereby dropped."""
SPATIAL_STEPS = 2
"""Updates of Q after each inference of the source model."""
HASTY_STEPS = 4
"""The same where the sources are mostly inferred only once, to save time."""
MENDINGS = 2
"""Most times that outputs are put back into place and then inferred again."""


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
    """Start from a rank-1 model of ``source`` with more outputs than sources.

    It begins with :func:`thinned_iva`, or with classes of bins. IVA sees as many principal
    components as there are outputs; with more, it would split talkers. A source model that knows
    which frequencies of a talker belong together repairs permutations that IVA leaves, and shows
    the seams that remain. The sources are then the outputs that explain all outputs best
    (:func:`~fca.inference.outputs.by_likelihood`), single or in groups
    (:func:`~fca.inference.grouping.grouped`). With more sources than microphones there is no rank-1
    model, and the start is :func:`~fca.inference.classes.underdetermined`.

    Parameters
    ----------
    observation : Observation
        The mixture. If its channels are components of an array, which have no delays between
        them, the start is always IVA.
    n_sources : int
        Sources wanted.
    generator : torch.Generator
        Random numbers of the start and of the source model.
    source : SourceModel
        Source model of the outputs.
    attempt : int
        Number of the start; each number gives another one. Odd numbers (even ones if ``fast``)
        begin with classes of bins (:func:`~fca.inference.classes.demixed`) unless there is one
        source only. The others begin with IVA, thinned to another set of frequencies each time.
        With more sources than microphones, odd numbers cluster from random masks, which serves
        recordings without clear delays.
    doubted : bool
        See :func:`~fca.inference.grouping.grouped`.
    fast : bool
        Iterate less, look only at every other frame of long recordings (which still overlap by
        half), and begin with classes, which lose fewer talkers who sway. From classes in a long
        recording, the outputs are inferred a second time only where they are :func:`crowded
        <fca.inference.interferer.crowded>`.
    interferers : bool
        Look for an interferer and give it a source of its own; see
        :mod:`fca.inference.interferer`.
    """
    n_channels = observation.mixture.shape[2]
    if n_sources > n_channels:
        delays = attempt % 2 == 0
        return underdetermined(observation, n_sources, generator, source, from_delays=delays)
    n_outputs = number_of_outputs(n_sources, n_channels)
    early = _every_other(observation) if fast else observation
    basis = principal(early.outer.detach())  # only coordinates: no gradient
    seen, others = basis[:, :, :n_outputs], basis[:, :, n_outputs:]
    in_turns = n_sources > 1 and observation.delays
    from_classes = in_turns and (attempt % 2 == 1) != fast
    if from_classes:
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
    hurried = from_classes and early is not observation
    spatial, psd = _inferred(fit, early, demixing, n_sources, hurried)
    whole = spatial if early is observation else Rank1(observation, spatial.demixing, n_outputs)
    order = by_likelihood(spatial, psd, n_sources)
    if interferers:
        order, found = with_interferer(spatial, order, psd, n_sources, source, whole)
        if found.any():
            return _accompanied(spatial, order, psd, n_sources, source, found, whole)
    return grouped(spatial, order, psd, n_sources, source, doubted, whole=whole)


def _inferred(
    fit: Callable[..., tuple[Rank1, Tensor]],
    observation: Observation,
    demixing: Tensor,
    n_sources: int,
    hurried: bool,
) -> tuple[Rank1, Tensor]:
    """Outputs fitted and mended twice from Q; if ``hurried``, again only where it is crowded."""
    steps = HASTY_STEPS if hurried else SPATIAL_STEPS
    first = partial(fit, spatial_steps=steps)
    spatial, psd = fit_and_mend(first, observation, demixing, MENDINGS)
    again = crowded(psd, n_sources) if hurried else torch.ones(len(psd), dtype=torch.bool)
    mending = partial(fit_and_mend, fit, n_mendings=MENDINGS)
    return fit_where(again, mending, spatial, psd, spatial.demixing)


def number_of_outputs(n_sources: int, n_channels: int, spare: int = SPARE) -> int:
    """Outputs of the model: the sources, or two if there is only one, and ``spare`` ones.

    At most as many as channels.
    """
    return min(max(n_sources, 2) + spare, n_channels)


def _accompanied(
    spatial: Rank1,
    order: Tensor,
    psd: Tensor,
    n_sources: int,
    source: SourceModel,
    found: Tensor,
    whole: Rank1,
) -> Start:
    """Start with a source for an interferer beside those wanted.

    It is silent in recordings where none was ``found``, (B,).
    """
    starts = []
    for index in range(len(found)):
        one, accompanied = slice(index, index + 1), bool(found[index])
        start = grouped(
            spatial.of(one),
            order[one],
            psd[one],
            n_sources + accompanied,
            source,
            accompanied=accompanied,
            whole=whole.of(one),
        )
        starts.append(_preferred(start, found[one]) if accompanied else start)
    return starts[0] if len(starts) == 1 else joined(starts)


def _preferred(start: Start, interfered: Tensor) -> Start:
    """A start that shows an interferer, preferred to starts that do not (:data:`SURER`)."""
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
    """:func:`fca.inference.start.iva` that converges on some of the frequencies before it sees all.

    The activities that tie the frequencies together are known as well from one of every
    :data:`THINNING` frequencies, from ``first`` on. Up to ``n_thin`` sweeps see these alone, at a
    fraction of the time, and as many again where stretches of frequencies had to be put back. The
    other frequencies then start from known activities.
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


def _every_other(observation: Observation) -> Observation:
    """Every other frame of a mixture, if it is long enough."""
    mixture = observation.mixture
    if mixture.shape[-1] < LONG:
        return observation
    return Observation(mixture[..., ::2].contiguous())


def _sweep(
    n_iter: int,
    tolerance: float,
    generator: torch.Generator,
    observation: Observation,
    demixing: Tensor,
) -> tuple[Rank1, Tensor]:
    """Sweeps of IVA until they gain little, as many as each recording needs."""
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
    spatial_steps: int = SPATIAL_STEPS,
) -> tuple[Rank1, Tensor]:
    """Rank-1 model, and the PSDs of its outputs, after one iteration of ``source`` from Q."""
    spatial = Rank1(observation, demixing, n_outputs)
    if source.at_microphone:
        spatial.rescale(spatial.scale().reciprocal())
    fit_outputs(spatial, source, 1, generator, spatial_steps=spatial_steps)
    return spatial, source.psd()
