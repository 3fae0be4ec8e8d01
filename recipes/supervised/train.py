"""Train Conv-TasNet on the mixtures of recipes.neural with their references.

    python -m recipes.supervised.train recipes/supervised/configs/conv-tasnet.yaml \
        data.train=SPEECH data.valid=SPEECH data.rooms=BANK data.valid_rooms=BANK output=runs/ct

Stopped runs go on where they were when the command is repeated. Several processes: `torchrun
--nproc-per-node=N -m recipes.supervised.train …`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from fast_bss_eval import si_sdr_pit_loss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fca.errors import InputError
from fca.frontend import SAMPLE_RATE
from recipes import config, training
from recipes.loaders import Loaders
from recipes.neural.data import Conditions, Mixtures
from recipes.neural.train import Data, simulated
from recipes.supervised.model import ConvTasNet, ConvTasNetConfig

Pair = tuple[Tensor, Tensor]
"""A mixture (M, samples) and its talkers' images at the first microphone (N, samples)."""


@dataclass(frozen=True)
class Experiment:
    """All settings of one training; the model says how many talkers and microphones."""

    data: Data
    output: str
    model: ConvTasNetConfig = field(default_factory=ConvTasNetConfig)
    training: training.Training = field(default_factory=training.Training)
    seed: int = 0


class Pairs(Dataset[Pair]):
    """Mixtures with their references; item `i` of round `round_` is always the same."""

    def __init__(
        self,
        source: Mixtures,
        model: ConvTasNetConfig,
        count: int,
        seconds: float,
        seed: int = 0,
        round_: int = 0,
    ) -> None:
        self.source, self.model, self.count, self.seed = source, model, count, (seed, round_)
        self.samples = round(seconds * model.sample_rate)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng([*self.seed, index])
        sizes = self.model.n_talkers, self.model.n_channels
        mixture, images = self.source.draw_pair(*sizes, self.samples, rng)
        return torch.from_numpy(mixture), torch.from_numpy(images[:, 0])


class Supervised(training.Task):
    """SI-SDR of the best permutation (Kolbæk et al. 2017), against reverberant images."""

    def loss(self, batch: Any) -> Tensor:
        """Negative SI-SDR in dB of a batch, at most 30 dB of it rewarded."""
        mixtures, references = batch
        talkers = self.model(mixtures)
        with torch.autocast(talkers.device.type, enabled=False):  # its sums need more digits
            loss: Tensor = si_sdr_pit_loss(talkers.float(), references, clamp_db=30).mean()
        return loss

    def training_step(self, batch: Any, _: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self.log("valid/mixtures_loss", self.loss(batch), sync_dist=True, batch_size=len(batch[0]))


def check_sizes(model: ConvTasNetConfig, conditions: Conditions) -> None:
    """Raise :class:`InputError` for other sizes of mixtures than the model's, if they are given."""
    for name, size in (("talkers", model.n_talkers), ("channels", model.n_channels)):
        if getattr(conditions, name) not in (getattr(Conditions(), name), (size, size)):
            raise InputError(
                f"the network is for {size} {name}: give model.n_{name}, not data.conditions.{name}"
            )


class PairData(Loaders):
    """Loaders of an experiment; the training mixtures change with the epoch."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment, self.options = experiment, experiment.data
        if self.options.resident:
            raise InputError("data.resident: pairs are not made in the memory of the device")
        check_sizes(experiment.model, self.options.conditions)
        self._train = simulated(self.options, self.options.train, self.options.rooms)
        self._valid = simulated(self.options, self.options.valid, self.options.valid_rooms)

    def train_dataloader(self) -> DataLoader[Pair]:
        steps = self.experiment.training.steps_per_epoch
        count = steps * self.options.batch_size * self.processes
        return self._loader(self._train, count, self.experiment.seed, self.epoch)

    def val_dataloader(self) -> DataLoader[Pair]:
        return self._loader(self._valid, self.options.valid_items)

    def _loader(
        self, source: Mixtures, count: int, seed: int = 0, round_: int = 0
    ) -> DataLoader[Pair]:
        options, model = self.options, self.experiment.model
        pairs = Pairs(source, model, count, options.seconds, seed, round_)
        return DataLoader(pairs, options.batch_size, num_workers=options.workers)


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    if experiment.model.sample_rate != SAMPLE_RATE:
        raise InputError(f"mixtures are at {SAMPLE_RATE} Hz: model.sample_rate cannot be another")
    lightning.seed_everything(experiment.seed, verbose=False)
    task = Supervised(ConvTasNet(experiment.model), experiment.training)
    return training.fit(task, experiment, PairData(experiment), "mixtures", "network")


def main(arguments: list[str]) -> int:
    return config.command(Experiment, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
