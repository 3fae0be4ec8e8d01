"""Fitting a model to a stream: a sliding window, and statistics of the frames before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fca.errors import InputError
from fca.inference.iterate import iterate
from fca.methods import Method
from fca.model import Model
from fca.permutation import best_assignment
from fca.source.sliding import SlidingNMF
from fca.spatial.diagonal import JointlyDiagonal
from fca.spatial.online import OnlineJointlyDiagonal, Past


@dataclass(frozen=True)
class Schedule:
    """When and how much a stream is fitted; times are in frames.

    Attributes
    ----------
    first : int
        Frames before the first fit; another fit from the start is made when the window is full.
    window : int
        Frames of the window, which is fitted again with every block.
    memory : float
        Time constant with which the frames that have left the window are forgotten.
    n_iter : int
        Iterations per block.
    n_start : int
        Iterations of a fit that begins from scratch.
    """

    first: int
    window: int
    memory: float
    n_iter: int = 1
    n_start: int = 20


class OnlineFit:
    """Jointly diagonalisable model with NMF sources, updated with every block of a stream.

    Q, the gains and the NMF bases are carried on from block to block. They are estimated from the
    frames of the window and from recursive averages over the frames before it.

    Parameters
    ----------
    method : Method
        A jointly diagonal method with the source model "sliding nmf".
    n_sources : int
        N.
    schedule : Schedule
        When and how much is fitted.
    seed : int
        Seed of all random numbers.
    """

    def __init__(self, method: Method, n_sources: int, schedule: Schedule, seed: int = 0) -> None:
        self._method, self._n_sources, self._schedule = method, n_sources, schedule
        self._generator = torch.Generator().manual_seed(seed)
        self._forget()

    def push(self, block: Tensor, channel: int = 0) -> Tensor:
        """Source images (N, F, L) at one channel, for a block X of frames, complex (F, M, L).

        They sum to the mixture. They are all equal before the first fit, and after a fit that has
        failed until the next one.
        """
        if bool(block.abs().amax() > 0):
            try:
                self._advance(block[None])
            except (InputError, torch.linalg.LinAlgError):  # type: ignore[attr-defined]
                self._forget()
            if self._model is not None:
                images = self._gain * self._images(self._model, block.shape[-1], channel)
                if bool(torch.isfinite(images.abs()).all()):
                    return images
                self._forget()
        return (block[:, channel] / self._n_sources).expand(self._n_sources, -1, -1)

    def _images(self, model: Model, n_frames: int, channel: int) -> Tensor:
        """Images (N, F, L) at one channel of the last L frames, in the order of the sources."""
        spatial, last = self._spatial(model), slice(-n_frames, None)
        assert isinstance(spatial, OnlineJointlyDiagonal)
        psd = model.source.psd()[..., last]
        images = spatial.part(last).images(psd, slice(channel, channel + 1))[0, :, :, 0]
        return images[:, self._order].movedim(1, 0)

    def _forget(self) -> None:
        self._model: Model | None = None
        self._waiting: Tensor | None = None
        self._gain = 1.0
        self._order = torch.arange(self._n_sources)

    def _advance(self, block: Tensor) -> None:
        """Take in a block of frames.

        Wait until there are enough of them, start, start again when the window is full, or go on.
        """
        if self._model is None:
            waiting = block if self._waiting is None else torch.cat([self._waiting, block], -1)
            self._waiting = waiting
            if waiting.shape[-1] >= self._schedule.first:
                self._gain = float(waiting.abs().square().mean().sqrt())
                self._model = self._start(waiting / self._gain)
            return
        before = self._spatial(self._model).mixture
        frames = torch.cat([before, block / self._gain], dim=-1)
        if before.shape[-1] < self._schedule.window <= frames.shape[-1]:
            self._model = self._restart(self._model, frames)
        else:
            self._model = self._go_on(self._model, frames)

    def _start(self, frames: Tensor) -> Model:
        model = self._method.build(frames, self._n_sources, self._generator)
        iterate(model, self._schedule.n_start, monitor_every=self._schedule.n_start)
        assert isinstance(model, Model)
        spatial = self._spatial(model)
        return Model(self._online(frames, spatial, None), model.source)

    def _restart(self, old: Model, frames: Tensor) -> Model:
        """A fit from scratch whose sources are put into the order of the old ones."""
        new = self._start(frames)
        similarity = _similarity(_activity(new), _activity(old)[self._order])
        self._order = best_assignment(similarity)
        return new

    def _go_on(self, model: Model, frames: Tensor) -> Model:
        """A fit of the window that goes on from the present parameters."""
        spatial, source = self._spatial(model), model.source
        assert isinstance(spatial, OnlineJointlyDiagonal) and isinstance(source, SlidingNMF)
        entering = frames.shape[-1] - spatial.mixture.shape[-1]
        leaving = max(0, frames.shape[-1] - self._schedule.window)
        keep = math.exp(-entering / self._schedule.memory)
        past = spatial.leave(source.psd(), leaving, keep) if leaving else None
        source.slide(leaving, entering)
        model = Model(self._online(frames[..., leaving:], spatial, past), source)
        for _ in range(self._schedule.n_iter):
            model.step()
        return model

    def _online(
        self, frames: Tensor, spatial: JointlyDiagonal, past: Past | None
    ) -> OnlineJointlyDiagonal:
        return OnlineJointlyDiagonal(
            frames, spatial.demixing, spatial.gains, self._method.update, past
        )

    @staticmethod
    def _spatial(model: Model) -> JointlyDiagonal:
        assert isinstance(model.spatial, JointlyDiagonal)
        return model.spatial


def _activity(model: Model) -> Tensor:
    """Power of every source in every frame at the first channel, (N, T)."""
    return model.images(slice(0, 1))[0].abs().square().sum((0, 2))


def _similarity(new: Tensor, old: Tensor) -> Tensor:
    """Correlation (N, N) of activities (N, T) over the frames that both cover."""
    frames = old.shape[-1]
    count = len(new)
    return torch.corrcoef(torch.cat([new[:, :frames], old]))[:count, count:].nan_to_num()
