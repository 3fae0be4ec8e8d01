"""Data modules of trainings, which know their epoch and their place among the processes."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from fca.errors import InputError, at_least_one


def check_amounts(seconds: float, batch_size: int, valid_items: int) -> None:
    """Raise :class:`InputError` if the settings of data ask for nothing."""
    if not 0 < seconds < math.inf:
        raise InputError(f"data.seconds must be positive, and finite, got {seconds}")
    at_least_one("data.batch_size", batch_size)
    at_least_one("data.valid_items", valid_items)


class Loaders(lightning.LightningDataModule):
    """What the data of every training has in common; without a trainer, one process and epoch 0."""

    @property
    def epoch(self) -> int:
        """That is trained, from 0."""
        return self.trainer.current_epoch if self.trainer else 0

    @property
    def processes(self) -> int:
        """That train together."""
        return self.trainer.world_size if self.trainer else 1

    @property
    def rank(self) -> int:
        """Of this process among them, from 0."""
        return self.trainer.global_rank if self.trainer else 0

    @property
    def device(self) -> torch.device:
        """That trains."""
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def dealt(self, items: Dataset[Any]) -> DistributedSampler[Any] | None:
        """Sampler that deals items out to processes in turn, so that their batches go together.

        Lightning would shuffle them. None for a single process, which takes them in order.
        """
        if self.processes == 1:
            return None
        return DistributedSampler(items, self.processes, self.rank, shuffle=False)
