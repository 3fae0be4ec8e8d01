"""Train the denoising encoder of a speech prior, on clean speech alone.

    python -m recipes.denoiser.train recipes/denoiser/configs/denoiser.yaml \
        data.train=DIR data.valid=DIR data.rooms=FILE output=runs/denoiser

Stopped runs go on where they were when the command is repeated. Several processes: `torchrun
--nproc-per-node=N -m recipes.denoiser.train …`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import lightning
import torch
from torch import Tensor

from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.prior.model import Elbo
from fca.stft import STFT
from recipes import config
from recipes.denoiser.degrade import Leakage, degrade
from recipes.training import Data, Speech, Task, Training, fit, rank


@dataclass(frozen=True)
class Experiment:
    """All settings of one training.

    Attributes
    ----------
    begin : trained denoiser of the same sizes to begin with
    """

    data: Data
    output: str
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    begin: str | None = None
    leakage: Leakage = field(default_factory=Leakage)
    training: Training = field(default_factory=Training)
    seed: int = 0


class DenoiserTask(Task):
    """The evidence lower bound of clean speech under the posterior from degraded speech."""

    model: Denoiser

    def __init__(self, experiment: Experiment) -> None:
        model = Denoiser(experiment.model)
        if experiment.begin is not None:
            model.load_state_dict(Denoiser.from_pretrained(experiment.begin).state_dict())
        super().__init__(model, experiment.training)
        self.settings, self.prior = experiment.leakage, self.model.prior.config
        self.stft = STFT(self.prior.n_fft, self.prior.hop)

    def elbo(self, waves: Tensor) -> Elbo:
        with torch.random.fork_rng(enabled=not self.training):
            if not self.training:  # every validation alike
                torch.manual_seed(0)
            seen = degrade(self.stft.analyse(waves), self.settings, self.prior.sample_rate)
            return self.model.elbo(seen.clean, seen.own, seen.rest)


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    lightning.seed_everything(experiment.seed, verbose=False)
    task = DenoiserTask(experiment)
    speech = Speech(experiment, task.prior.sample_rate)
    fit(task, experiment, speech, speech.hardest)
    exported = Path(experiment.output) / "denoiser"
    if rank() == 0:
        task.model.save_pretrained(exported)
    return exported


def main(arguments: list[str]) -> int:
    return config.command(Experiment, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
