"""Training by the evidence lower bound: optimisation and checkpoints.

A recipe brings a :class:`Task` and its data (:mod:`recipes.loaders`) and calls :func:`fit`.
Lightning carries the loop.
"""

from __future__ import annotations

import json
import math
import os
import sys
from abc import abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from fca.errors import InputError, at_least_one
from fca.files import write_text
from fca.pretrained import Pretrained
from fca.prior.model import Elbo
from fca.prior.networks import ContextBlock
from recipes.optim import muon

CHANGEABLE = ("steps", "keep_every", "accelerator", "devices", "precision", "workers", "output")
"""Settings that a run which goes on may have other than it was begun with."""


@dataclass(frozen=True)
class Training:
    """Optimisation.

    Attributes
    ----------
    steps, steps_per_epoch : all, and between validations
    hidden_rate : learning rate of Muon, for the matrices inside the residual blocks; None gives
        them to AdamW, too
    learning_rate : of AdamW, for everything else
    warmup, weight_decay, clip : both rates rise linearly over `warmup` steps
    anneal : whether they decay as a cosine
    beta : weight of the divergence; 1 is the ELBO
    beta_ramp : steps over which the weight rises from zero
    beta_period : steps after which it starts again (cyclic annealing, Fu et al. 2019); 0 for never
    keep_every : the model is also exported after every so many steps, as `step-…`; 0 for never
    precision, accelerator, devices : see :class:`lightning.Trainer`; `torchrun` sets the devices
    """

    steps: int = 5000
    steps_per_epoch: int = 250
    hidden_rate: float | None = 0.02
    learning_rate: float = 1e-3
    warmup: int = 50
    anneal: bool = True
    weight_decay: float = 1e-4
    clip: float = 1.0
    beta: float = 1.0
    beta_ramp: int = 1000
    beta_period: int = 0
    keep_every: int = 0
    precision: str | int = "bf16-mixed"
    accelerator: str = "auto"
    devices: str | int = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "steps_per_epoch"):
            at_least_one(f"training.{name}", getattr(self, name))

    def beta_at(self, step: int) -> float:
        """Weight of the divergence at a step."""
        return self.beta * self.ramp_at(step)

    def ramp_at(self, step: int) -> float:
        """That weight, relative to the largest."""
        place = step % self.beta_period if self.beta_period else step
        return min(1.0, (place + 1) / max(self.beta_ramp, 1))

    def rate_at(self, step: int) -> float:
        """Learning rate at a step, relative to the largest."""
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps))) if self.anneal else 1.0
        return min(1.0, (step + 1) / max(self.warmup, 1)) * decay


class Experiment(Protocol):
    """Settings that all trainings have; recipes add those of their model and data."""

    @property
    def training(self) -> Training: ...

    @property
    def output(self) -> str: ...


class Task(lightning.LightningModule):
    """A network and its optimisation; recipes add the loss.

    Parameters
    ----------
    model : Pretrained
        What is trained.
    options : Training
        Optimisation.
    """

    def __init__(self, model: Pretrained, options: Training) -> None:
        super().__init__()
        self.model, self.options = model, options
        self._seed = torch.initial_seed()

    def on_train_epoch_start(self) -> None:
        """Each epoch of each process has its random numbers, also if the run was stopped before."""
        place = [self._seed, self.current_epoch, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = self._optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.options.rate_at)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A gradient that is not finite is left out, for it would spoil every weight for good.

        Optimisers leave weights without gradients as they are; with zeros, momentum would go on.
        """
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)  # the device is waited for once
        if not bool(norm.isfinite()):
            for parameter in self.model.parameters():
                parameter.grad = None

    def _optimizer(self) -> torch.optim.Optimizer:
        options = self.options
        rate, decay = options.learning_rate, options.weight_decay
        if options.hidden_rate is None:
            return torch.optim.AdamW(self.model.parameters(), rate, weight_decay=decay)
        return muon(self.model, ContextBlock, options.hidden_rate, rate, decay)


class VariationalTask(Task):
    """The loss of a variational model and what is logged of it.

    Attributes
    ----------
    validated : tuple of str
        What the validation sets are called.
    """

    validated: tuple[str, ...] = ("dry", "reverberant")

    def elbo(self, batch: Any) -> Elbo:
        """Evidence lower bound of a batch; out of training with the same draws every time."""
        with torch.random.fork_rng(enabled=not self.training):
            if not self.training:
                torch.manual_seed(0)
            return self._elbo(batch)

    @abstractmethod
    def _elbo(self, batch: Any) -> Elbo:
        """Evidence lower bound of a batch, such as clean speech (B, samples)."""

    def training_step(self, batch: Any, _: int) -> Tensor:
        elbo = self.elbo(batch)
        beta = self.options.beta_at(self.global_step)
        loss = elbo.loss(beta).mean()
        values: dict[str, Tensor | float] = {
            "train/loss": loss,
            "train/nll": elbo.nll.mean(),
            "train/kl": elbo.kl.mean(),
            "train/beta": beta,
        }
        self.log_dict(values)
        return loss

    def validation_step(self, batch: Any, _: int, dataloader_idx: int = 0) -> None:
        elbo = self.elbo(batch)
        name = self.validated[dataloader_idx]
        values = {
            f"valid/{name}_nll": elbo.nll.mean(),
            f"valid/{name}_kl": elbo.kl.mean(),
            f"valid/{name}_elbo": elbo.per_bin.mean(),
            f"valid/{name}_loss": elbo.loss(self.options.beta).mean(),
        }
        size = len(elbo.nll)
        self.log_dict(values, sync_dist=True, add_dataloader_idx=False, batch_size=size)


def fit(
    task: Task,
    experiment: Experiment,
    data: lightning.LightningDataModule,
    watched: str,
    name: str,
) -> Path:
    """Train, then export the best model; returns the folder, called ``name``.

    The best has the lowest loss on the validation set that is ``watched``, of the models at the
    ends of epochs and after the last step. A run that was stopped goes on from its last checkpoint.

    Raises
    ------
    InputError
        If that was made with settings other than :data:`CHANGEABLE`, or cannot be read.
    """
    output = Path(experiment.output)
    output.mkdir(parents=True, exist_ok=True)
    loss = f"valid/{watched}_loss"
    best = _Checkpoint(output, "best", monitor=loss, enable_version_counter=False)
    latest = _Checkpoint(output, "last", enable_version_counter=False)
    trainer = _trainer(experiment, [best, latest, _Keep(output, experiment.training.keep_every)])
    settings = json_like(asdict(experiment))  # type: ignore[call-overload]
    _keep_settings(output / "config.yaml", settings, trainer.is_global_zero)
    trainer.fit(task, data, ckpt_path=_last(output), weights_only=True)
    steps = experiment.training
    ends_within = steps.steps % steps.steps_per_epoch > 0
    if not (ends_within and _ends_best(trainer, task, data, best)):
        task.load_state_dict(_weights(Path(best.best_model_path)))
    if trainer.is_global_zero:
        task.model.save_pretrained(output / name)
    return output / name


def _last(output: Path) -> str | None:
    """Checkpoint that a run goes on from, if there is one that can be read."""
    path = output / "last.ckpt"
    if not path.is_file():
        return None
    _weights(path)
    return str(path)


def _weights(path: Path) -> dict[str, Tensor]:
    """Those of a checkpoint."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights: dict[str, Tensor] = state["state_dict"]
    except (OSError, EOFError, RuntimeError, UnpicklingError, KeyError, TypeError):
        raise InputError(
            f"{path}: damaged; copy another checkpoint of the run there, or remove it to begin anew"
        ) from None
    return weights


def _ends_best(
    trainer: lightning.Trainer,
    task: Task,
    data: lightning.LightningDataModule,
    best: ModelCheckpoint,
) -> bool:
    """Whether the model after the last step, which ends no epoch, is better than those that do."""
    found = trainer.validate(task, datamodule=data, verbose=False)
    losses = {name: value for metrics in found for name, value in metrics.items()}
    least = best.best_model_score
    return least is None or losses[str(best.monitor)] < float(least)


def _keep_settings(path: Path, settings: dict[str, Any], first: bool) -> None:
    """Have the first process write the settings of a run; refuse others than it was begun with."""
    if path.with_name("last.ckpt").is_file() and path.is_file():
        begun = yaml.safe_load(path.read_text("utf-8"))
        other = sorted(set(_unchangeable(begun).items()) ^ set(_unchangeable(settings).items()))
        if other:
            raise InputError(
                f"{path.parent}: begun with another {other[0][0]}; choose another output"
            )
    if first:
        write_text(path, yaml.safe_dump(settings))


def _unchangeable(settings: dict[str, Any]) -> dict[str, str]:
    """Settings a run has to keep, by their dotted names."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        inner = _unchangeable(value) if isinstance(value, dict) else {"": json.dumps(value)}
        flat |= {f"{key}.{name}".rstrip("."): text for name, text in inner.items()}
    return {name: text for name, text in flat.items() if name.split(".")[-1] not in CHANGEABLE}


class _Checkpoint(ModelCheckpoint):
    """Checkpoint that is still known when the folder of a run has been moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(
            {**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath}
        )


class _Keep(Callback):
    """Exports the model after every so many steps; never, if that is 0."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every

    def on_train_batch_end(self, trainer: lightning.Trainer, task: Any, *_: Any) -> None:
        step = trainer.global_step
        if self.every and step % self.every == 0 and trainer.is_global_zero:
            task.model.save_pretrained(self.folder / f"step-{step}")


def _trainer(experiment: Experiment, checkpoints: list[Callback]) -> lightning.Trainer:
    options = experiment.training
    return lightning.Trainer(
        accelerator=options.accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", 0)) or options.devices,  # of `torchrun`
        strategy="ddp" if int(os.environ.get("WORLD_SIZE", "1")) > 1 else "auto",
        precision=options.precision,  # type: ignore[arg-type]
        max_steps=options.steps,
        gradient_clip_val=options.clip,
        callbacks=checkpoints,
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
