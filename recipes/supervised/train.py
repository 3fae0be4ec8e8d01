"""Train Conv-TasNet on simulated mixtures with their references.

    fca simulate SPEECH -o sets/train --count 20000 --snr 10 40 --jobs 8
    python -m recipes.supervised.train recipes/supervised/configs/conv-tasnet.yaml \
        data.train=sets/train data.valid=sets/valid output=runs/conv-tasnet

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

from fca import audio
from fca.errors import InputError
from fca.simulated import Item, load
from recipes import config, training
from recipes.supervised.model import ConvTasNet, ConvTasNetConfig

Pair = tuple[Tensor, Tensor]
SILENCE = 1e-3
"""Segments in which a talker has less than this root mean square are drawn again."""


@dataclass(frozen=True)
class Data:
    """Which mixtures, and how they are cut.

    Attributes
    ----------
    train, valid : sets made by `fca simulate`
    seconds, batch_size : of the segments, per process
    workers : processes that prepare batches
    """

    train: str
    valid: str
    seconds: float = 4.0
    batch_size: int = 8
    workers: int = 0


@dataclass(frozen=True)
class Experiment:
    """All settings of one training."""

    data: Data
    output: str
    model: ConvTasNetConfig = field(default_factory=ConvTasNetConfig)
    training: training.Training = field(default_factory=training.Training)
    seed: int = 0


class Segments(Dataset[Pair]):
    """Segments of mixtures (M, samples) and their images at the first microphone (N, samples).

    Number `i` of round `round_` is always the same.
    """

    def __init__(
        self,
        items: list[Item],
        model: ConvTasNetConfig,
        count: int,
        seconds: float,
        seed: int = 0,
        round_: int = 0,
    ) -> None:
        self.items, self.count, self.seed = items, count, (seed, round_)
        self.n_channels = model.n_channels
        self.samples = round(seconds * model.sample_rate)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng([*self.seed, index])
        item = self.items[int(rng.integers(len(self.items)))]
        mixture = audio.fit_length(item.read("mixture")[: self.n_channels], self._length(item))
        references = audio.fit_length(item.references(), self._length(item))
        for _ in range(20):
            start = int(rng.integers(mixture.shape[1] - self.samples + 1))
            segment = slice(start, start + self.samples)
            if np.sqrt(np.mean(references[:, segment] ** 2, axis=1)).min() > SILENCE:
                break
        return torch.from_numpy(mixture[:, segment]), torch.from_numpy(references[:, segment])

    def _length(self, item: Item) -> int:
        return max(self.samples, int(item.row["samples"]))


class Supervised(training.Task):
    """SI-SDR of the best permutation (Kolbæk et al. 2017), against reverberant images."""

    validated = ("mixtures",)

    def loss(self, batch: Any) -> Tensor:
        """Negative SI-SDR in dB of a batch, at most 30 dB of it rewarded."""
        mixtures, references = batch
        loss: Tensor = si_sdr_pit_loss(self.model(mixtures), references, clamp_db=30).mean()
        return loss

    def training_step(self, batch: Any, _: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        self.log("valid/mixtures_loss", self.loss(batch), sync_dist=True, batch_size=len(batch[0]))


class Mixtures(lightning.LightningDataModule):
    """Loaders of an experiment; the training segments change with the epoch."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment, self.options = experiment, experiment.data
        self.train = self._usable(Path(self.options.train))
        self.valid = self._usable(Path(self.options.valid))

    def train_dataloader(self) -> DataLoader[Pair]:
        trainer = self.trainer
        epoch, processes = (trainer.current_epoch, trainer.world_size) if trainer else (0, 1)
        steps = self.experiment.training.steps_per_epoch
        count = steps * self.options.batch_size * processes
        return self._loader(self.train, count, self.experiment.seed, epoch)

    def val_dataloader(self) -> DataLoader[Pair]:
        return self._loader(self.valid, len(self.valid))

    def _loader(
        self, items: list[Item], count: int, seed: int = 0, round_: int = 0
    ) -> DataLoader[Pair]:
        options, model = self.options, self.experiment.model
        segments = Segments(items, model, count, options.seconds, seed, round_)
        return DataLoader(segments, options.batch_size, num_workers=options.workers)

    def _usable(self, folder: Path) -> list[Item]:
        """Mixtures with the network's number of talkers, rate and at least its microphones."""
        model = self.experiment.model
        found = [
            item
            for item in load(folder)
            if item.n_talkers == model.n_talkers
            and item.sample_rate == model.sample_rate
            and item.row["channels"] >= model.n_channels
        ]
        if not found:
            raise InputError(
                f"{folder}: no mixtures of {model.n_talkers} talkers at {model.n_channels} or more "
                f"microphones and {model.sample_rate} Hz"
            )
        return found


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    lightning.seed_everything(experiment.seed, verbose=False)
    network = ConvTasNet(experiment.model)
    task = Supervised(network, experiment.training)
    training.fit(task, experiment, Mixtures(experiment), "mixtures")
    exported = Path(experiment.output) / "network"
    if training.rank() == 0:
        network.save_pretrained(exported)
    return exported


def main(arguments: list[str]) -> int:
    return config.command(Experiment, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
