"""Clean speech as the data of a training."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import DataLoader

from recipes.loaders import Loaders, check_amounts
from recipes.prior.data import Augmentation, Corpus, Excerpts, load_responses
from recipes.prior.resident import Batches, Resident
from recipes.training import Experiment


@dataclass(frozen=True)
class Data:
    """Where the speech is and how it is cut.

    Attributes
    ----------
    train, valid : folders or manifests of speech
    root : folder that the paths of manifests are relative to
    rooms, valid_rooms : banks of room responses; dry validation only without the latter
    seconds, batch_size : of the excerpts, per process
    augmentation : of the training excerpts
    resident : whether these are made in the memory of the device that trains
    """

    train: str
    valid: str
    root: str | None = None
    rooms: str | None = None
    valid_rooms: str | None = None
    seconds: float = 2.0
    batch_size: int = 16
    valid_items: int = 96
    augmentation: Augmentation = field(default_factory=Augmentation)
    resident: bool = False

    def __post_init__(self) -> None:
        check_amounts(self.seconds, self.batch_size, self.valid_items)


class OnSpeech(Experiment, Protocol):
    """Those of a training on clean speech."""

    @property
    def data(self) -> Data: ...

    @property
    def seed(self) -> int: ...


class Speech(Loaders):
    """Loaders of an experiment; the training excerpts change with the epoch."""

    def __init__(self, experiment: OnSpeech, sample_rate: int) -> None:
        super().__init__()
        self.experiment, self.options = experiment, experiment.data
        root = None if self.options.root is None else Path(self.options.root)
        self.train = Corpus(Path(self.options.train), sample_rate, root)
        self.valid = Corpus(Path(self.options.valid), sample_rate, root)
        self.rooms = _bank(self.options.rooms, sample_rate)
        self.valid_rooms = _bank(self.options.valid_rooms, sample_rate)

    @property
    def hardest(self) -> str:
        """Validation set that is nearest to use."""
        return "reverberant" if self.valid_rooms else "dry"

    @cached_property
    def resident(self) -> Resident:
        """The speech to train on, in the memory of the device that trains."""
        return Resident(self.train, self.options.augmentation, self.rooms, self.device)

    def train_dataloader(self) -> Batches[Tensor] | DataLoader[Tensor]:
        options, steps = self.options, self.experiment.training.steps_per_epoch
        if options.resident:
            samples = round(options.seconds * self.train.sample_rate)
            seed = (self.experiment.seed, self.epoch, self.rank)
            return Batches(self.resident, steps, options.batch_size, samples, seed)
        count = steps * options.batch_size * self.processes
        excerpts = Excerpts(
            self.train,
            count,
            options.seconds,
            options.augmentation,
            self.rooms,
            self.experiment.seed,
            self.epoch,
        )
        return DataLoader(excerpts, options.batch_size)

    def val_dataloader(self) -> list[DataLoader[Tensor]]:
        options = self.options
        kinds = [Augmentation()]
        if self.valid_rooms:
            kinds.append(Augmentation(reverberant=1.0))
        return [
            DataLoader(
                Excerpts(self.valid, options.valid_items, 4.0, kind, self.valid_rooms),
                options.batch_size,
            )
            for kind in kinds
        ]


def _bank(path: str | None, sample_rate: int) -> list[Any]:
    return load_responses(Path(path), sample_rate) if path else []
