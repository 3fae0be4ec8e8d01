"""Different models for different sources of a mixture, such as talkers and a background."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.memo import Latest
from fca.source.base import Evaluate, SourceModel
from fca.spatial.base import Statistics


class Stack(SourceModel):
    """Consecutive sources described by consecutive models.

    Parameters
    ----------
    parts : list of (SourceModel, int)
        Models with the number of sources that each describes.
    """

    def __init__(self, parts: list[tuple[SourceModel, int]]) -> None:
        self._parts: list[tuple[SourceModel, slice]] = []
        start = 0
        for model, count in parts:
            self._parts.append((model, slice(start, start + count)))
            start += count
        self.at_microphone = any(model.at_microphone for model, _ in parts)
        self.n_sources = start
        self._together = Latest(_concatenate)

    @property
    def refinable(self) -> bool:
        return any(model.refinable for model, _ in self._parts)

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        if power.shape[2] != self.n_sources:
            raise InputError(f"{self.n_sources} stacked sources, {power.shape[2]} initial powers")
        for model, where in self._parts:
            model.initialise(power[:, :, where], generator)

    def psd(self) -> Tensor:
        return self._together(*(model.psd() for model, _ in self._parts))

    def update(self, evaluate: Evaluate) -> None:
        for model, where in self._parts:
            model.update(self._part(evaluate, where))

    def refine(self, evaluate: Evaluate) -> None:
        """One step of all parts, with the statistics at the PSDs before any part has moved.

        All of them thereby lower one bound of the cost.
        """
        before = evaluate(self.psd())
        for model, where in self._parts:
            model.refine(self._part(evaluate, where, (model.psd(), before.select(where))))

    def divergence(self) -> Tensor | float:
        return sum((model.divergence() for model, _ in self._parts), 0.0)

    def penalty(self) -> Tensor | float:
        return sum((model.penalty() for model, _ in self._parts), 0.0)

    def absorb(self, factor: Tensor) -> Tensor:
        parts = [model.absorb(factor[:, :, where]) for model, where in self._parts]
        return torch.cat(parts, dim=2)

    def _part(
        self, evaluate: Evaluate, where: slice, known: tuple[Tensor, Statistics] | None = None
    ) -> Evaluate:
        """Statistics of one part given the others as they are, or those ``known`` at a PSD."""

        def evaluate_part(psd: Tensor) -> Statistics:
            if known is not None and psd is known[0]:
                return known[1]
            parts = [psd if w == where else model.psd() for model, w in self._parts]
            return evaluate(self._together(*parts)).select(where)

        return evaluate_part


def _concatenate(*psds: Tensor) -> Tensor:
    """PSDs of all sources, (B, F, N, T)."""
    return torch.cat(psds, dim=2)
