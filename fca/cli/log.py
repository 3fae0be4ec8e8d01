"""What is gathered on the way through the blocks of a recording."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fca.activity import Levels
from fca.direction import IN_LINE, Directions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from torch import Tensor

    from fca.blocks import Block

Record = dict[str, Any]


@dataclass
class Log:
    """What is gathered while a recording is separated block by block.

    Attributes
    ----------
    levels : Levels or None
        Gathers the powers from which the activities are found.
    directions : Directions or None
        Gathers the directions of the tracks.
    blocks : list
        Of each block: its span, the tracks of its sources, and why it could not be separated.
    costs : list
        Iterations and costs of each block that could be separated.
    seconds : float
        Computation time.
    names : list of str
        Names of the tracks.
    remarks : Counter
        What is wrong with channels, and in how many blocks.
    reference_channel : int
        Microphone at which the talkers are wanted.
    mixture, sources : Tensor
        The first block with talkers at the reference channel, (samples,) and (K, samples); the
        first of all if nobody is heard in any.
    first : int
        Sample of the recording at which these two begin.
    """

    levels: Levels | None
    directions: Directions | None = None
    blocks: list[Record] = field(default_factory=list)
    costs: list[list[tuple[int, float]]] = field(default_factory=list)
    seconds: float = 0.0
    names: list[str] = field(default_factory=list)
    remarks: Counter[str] = field(default_factory=Counter)
    reference_channel: int = 0
    mixture: Tensor = field(init=False, repr=False, compare=False)
    sources: Tensor = field(init=False, repr=False, compare=False)
    first: int = 0

    def follow(self, blocks: Iterable[Block]) -> Generator[Block, None, None]:
        """Pass the blocks on, and log each of them."""
        for block in blocks:
            if not self.blocks or (not self.sources.any() and block.sources.any()):
                self.sources, self.first = block.sources.detach().cpu(), block.start
                self.mixture = self.sources.sum(0) + block.residual.detach().cpu()
            span = {"start": block.start, "stop": block.stop, "tracks": block.track}
            self.blocks.append({**span, "problem": block.problem} if block.problem else span)
            if block.separation is not None:
                self.costs.append(block.separation.cost)
                self.seconds += block.separation.seconds
                self.remarks.update(block.separation.remarks)
            if block.remark:
                self.remarks.update([block.remark])
            if block.reference_channel != self.reference_channel:
                self.remarks.update([f"talkers as channel {block.reference_channel} hears them"])
            self.names = block.names
            if self.directions is not None:
                self.directions.add(block)
            if self.levels is not None:
                sources, residual = block.sources.detach().cpu(), block.residual.detach().cpu()
                audible = residual - residual.mean()  # a constant offset masks nobody
                self.levels.add(block.start, sources.numpy(), audible.numpy())
            yield block
            del block  # or its model would stay until the next one is fitted

    @property
    def cost(self) -> list[tuple[int, float]]:
        """Iterations, and the cost after each as a mean over the blocks.

        A block that took fewer of them counts with its last cost.
        """
        iterations = sorted({iteration for trace in self.costs for iteration, _ in trace})
        return [(k, fmean(_cost_at(k, trace) for trace in self.costs)) for k in iterations]

    @property
    def azimuths(self) -> dict[str, dict[str, float | None]]:
        """Azimuths of the tracks by name, for the record; empty if they are not wanted."""
        if self.directions is None:
            return {}
        return {"azimuths": dict(zip(self.names, self.directions.found, strict=True))}

    def notes(self, rate: int) -> list[str]:
        """What the user should know of talkers, directions, channels and blocks that failed."""
        mirrored = self.directions is not None and self.directions.in_line
        return (
            ["nobody is heard"] * (not self.names)
            + [IN_LINE] * mirrored
            + [self._where(remark) for remark in self.remarks]
            + [f"{name}: nobody was found" for name in self._nobody]
            + [
                f"not separated from {start / rate:.1f} to {stop / rate:.1f} s: {problem}"
                for start, stop, problem in self._gaps
            ]
        )

    @property
    def _nobody(self) -> list[str]:
        """Tracks to which no source of any block belongs, unless it was given who speaks when."""
        if self.levels is None:
            return []
        used = {track for block in self.blocks for track in block["tracks"]}
        return [name for track, name in enumerate(self.names) if track not in used]

    @property
    def _gaps(self) -> list[tuple[int, int, str]]:
        """Stretches that could not be separated, and why; successive blocks are joined."""
        gaps = []
        for problem, several in groupby(self.blocks, lambda block: block.get("problem")):
            if problem is not None:
                blocks = list(several)
                gaps.append((blocks[0]["start"], blocks[-1]["stop"], problem))
        return gaps

    def _where(self, remark: str) -> str:
        """A remark, with the number of blocks in which it holds if that is not all."""
        count, all_blocks = self.remarks[remark], len(self.blocks)
        return remark if count == all_blocks else f"{remark} ({count} of {all_blocks} blocks)"


def _cost_at(iteration: int, trace: list[tuple[int, float]]) -> float:
    """Latest cost at or before an iteration."""
    return [cost for k, cost in trace if k <= max(iteration, trace[0][0])][-1]
