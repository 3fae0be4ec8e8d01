"""Train a speech prior on a folder of clean speech.

    python -m recipes.prior.train recipes/prior/configs/base.yaml \
        data.train=DIR data.valid=DIR data.rooms=FILE output=runs/base

Stopped runs go on where they were when the command is repeated. Several processes: `torchrun
--nproc-per-node=N -m recipes.prior.train …`.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from fca.errors import InputError
from fca.prior import PriorConfig, SpeechPrior
from fca.prior.model import mean_power
from fca.prior.networks import ContextBlock
from fca.stft import STFT
from recipes import config
from recipes.optim import muon
from recipes.prior.data import Augmentation, Corpus, Excerpts, load_responses


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


@dataclass(frozen=True)
class Training:
    """Optimisation.

    Attributes
    ----------
    steps, steps_per_epoch : all, and between validations
    hidden_rate : learning rate of Muon, for the matrices inside the residual blocks; None gives
        them to AdamW, too
    learning_rate : of AdamW, for everything else
    warmup, weight_decay, clip : both rates rise linearly over `warmup` steps and decay as a cosine
    beta : weight of the divergence; 1 is the ELBO
    beta_ramp : steps over which the weight rises from zero
    beta_period : steps after which it starts again (cyclic annealing, Fu et al. 2019); 0 for never
    level_db : the level of each excerpt is uniformly off by up to this much
    """

    steps: int = 5000
    steps_per_epoch: int = 250
    hidden_rate: float | None = 0.02
    learning_rate: float = 1e-3
    warmup: int = 50
    weight_decay: float = 1e-4
    clip: float = 1.0
    beta: float = 1.0
    beta_ramp: int = 1000
    beta_period: int = 0
    level_db: float = 6.0
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    devices: str | int = "auto"

    def beta_at(self, step: int) -> float:
        """Weight of the divergence at a step."""
        place = step % self.beta_period if self.beta_period else step
        return self.beta * min(1.0, (place + 1) / max(self.beta_ramp, 1))

    def rate_at(self, step: int) -> float:
        """Learning rate at a step, relative to the largest."""
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return min(1.0, (step + 1) / max(self.warmup, 1)) * decay


@dataclass(frozen=True)
class Experiment:
    """All settings of one training."""

    data: Data
    output: str
    model: PriorConfig = field(default_factory=PriorConfig)
    training: Training = field(default_factory=Training)
    seed: int = 0


class Task(lightning.LightningModule):
    """The loss of a prior and what is logged of it."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.prior = SpeechPrior(experiment.model)
        self.stft = STFT(experiment.model.n_fft, experiment.model.hop)
        self.options = experiment.training

    def power(self, waves: Tensor) -> Tensor:
        """`|x|²` (B, F, T) of waveforms (B, samples)."""
        return self.stft.analyse(waves).abs().square()

    def training_step(self, waves: Tensor, _: int) -> Tensor:
        power = self.power(waves)
        off = self.options.level_db * (2 * torch.rand_like(power[:, :1, :1]) - 1)
        elbo = self.prior.elbo(power, mean_power(power) * 10 ** (off / 10))
        beta = self.options.beta_at(self.global_step)
        loss = elbo.loss(beta).mean()
        values = {"loss": loss, "nll": elbo.nll.mean(), "kl": elbo.kl.mean(), "beta": beta}
        self.log_dict({f"train/{name}": value for name, value in values.items()})
        return loss

    def validation_step(self, waves: Tensor, _: int, dataloader_idx: int = 0) -> None:
        elbo = self.prior.elbo(self.power(waves))
        name = ("dry", "reverberant")[dataloader_idx]
        options = {"sync_dist": True, "add_dataloader_idx": False, "batch_size": len(waves)}
        self.log(f"valid/{name}_nll", elbo.nll.mean(), **options)
        self.log(f"valid/{name}_kl", elbo.kl.mean(), **options)
        self.log(f"valid/{name}_elbo", elbo.per_bin.mean(), **options)
        self.log(f"valid/{name}_loss", elbo.loss(self.options.beta).mean(), **options)

    def configure_optimizers(self) -> dict[str, Any]:
        options = self.options
        optimizer = self._optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, options.rate_at)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _optimizer(self) -> torch.optim.Optimizer:
        options = self.options
        rate, decay = options.learning_rate, options.weight_decay
        if options.hidden_rate is None:
            return torch.optim.AdamW(self.prior.parameters(), rate, weight_decay=decay)
        return muon(self.prior, ContextBlock, options.hidden_rate, rate, decay)


class Speech(lightning.LightningDataModule):
    """Loaders of an experiment; the training excerpts change with the epoch."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment, self.options = experiment, experiment.data
        rate = experiment.model.sample_rate
        root = None if self.options.root is None else Path(self.options.root)
        self.train = Corpus(Path(self.options.train), rate, root)
        self.valid = Corpus(Path(self.options.valid), rate, root)
        self.rooms = _bank(self.options.rooms)
        self.valid_rooms = _bank(self.options.valid_rooms)

    def train_dataloader(self) -> DataLoader[Tensor]:
        trainer = self.trainer
        epoch, processes = (trainer.current_epoch, trainer.world_size) if trainer else (0, 1)
        options = self.options
        count = self.experiment.training.steps_per_epoch * options.batch_size * processes
        excerpts = Excerpts(
            self.train,
            count,
            options.seconds,
            options.augmentation,
            self.rooms,
            self.experiment.seed,
            epoch,
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


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    output = Path(experiment.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "config.yaml").write_text(yaml.safe_dump(json_like(asdict(experiment))))
    lightning.seed_everything(experiment.seed, verbose=False)
    task, speech = Task(experiment), Speech(experiment)
    reverberant = "reverberant" if experiment.data.valid_rooms else "dry"
    best = ModelCheckpoint(
        output,
        "best",
        monitor=f"valid/{reverberant}_loss",
        save_last=True,
        enable_version_counter=False,
    )
    trainer = _trainer(experiment, best)
    last = output / "last.ckpt"
    resume = str(last) if last.is_file() else None
    trainer.fit(task, speech, ckpt_path=resume, weights_only=True)
    exported = output / "prior"
    if trainer.is_global_zero:
        state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
        task.load_state_dict(state["state_dict"])
        task.prior.save_pretrained(exported)
    return exported


def _trainer(experiment: Experiment, checkpoint: ModelCheckpoint) -> lightning.Trainer:
    options = experiment.training
    return lightning.Trainer(
        accelerator=options.accelerator,
        devices=options.devices,
        strategy="ddp" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto",
        precision=options.precision,  # type: ignore[arg-type]
        max_steps=options.steps,
        gradient_clip_val=options.clip,
        callbacks=[checkpoint],
        logger=TensorBoardLogger(experiment.output, name="", version="tensorboard"),
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=min(50, options.steps),
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def json_like(value: Any) -> Any:
    """`value` with tuples turned into lists."""
    if isinstance(value, dict):
        return {key: json_like(item) for key, item in value.items()}
    return [json_like(item) for item in value] if isinstance(value, list | tuple) else value


def _bank(path: str | None) -> list[Any]:
    return load_responses(Path(path)) if path else []


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    try:
        experiment = config.build(Experiment, config.load(arguments[0], arguments[1:]))
        print(f"exported {run(experiment)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
