"""Train a speech prior on a folder of clean speech.

    python -m recipes.prior.train recipes/prior/configs/base.yaml \
        data.train=DIR data.valid=DIR data.rooms=FILE output=runs/base

Stopped runs go on where they were when the command is repeated. Several processes: `torchrun
--nproc-per-node=N -m recipes.prior.train …`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import lightning
import torch
from torch import Tensor

from fca.linalg import abs2
from fca.prior import PriorConfig, SpeechPrior
from fca.prior.model import Elbo, mean_power
from fca.stft import STFT
from recipes import config
from recipes.speech import Data, Speech
from recipes.training import Training, VariationalTask, fit


@dataclass(frozen=True)
class PriorTraining(Training):
    """Optimisation of a prior.

    Attributes
    ----------
    level_db : the level of each excerpt is uniformly off by up to this much
    """

    level_db: float = 6.0


@dataclass(frozen=True)
class Experiment:
    """All settings of one training.

    Attributes
    ----------
    begin : trained prior of the same sizes to begin with
    """

    data: Data
    output: str
    model: PriorConfig = field(default_factory=PriorConfig)
    begin: str | None = None
    training: PriorTraining = field(default_factory=PriorTraining)
    seed: int = 0


class PriorTask(VariationalTask):
    """The evidence lower bound of speech at a level that is a little off."""

    model: SpeechPrior

    def __init__(self, experiment: Experiment) -> None:
        model = SpeechPrior(experiment.model)
        if experiment.begin is not None:
            model.load_state_dict(SpeechPrior.from_pretrained(experiment.begin).state_dict())
        super().__init__(model, experiment.training)
        self.level_db = experiment.training.level_db
        self.stft = STFT(experiment.model.n_fft, experiment.model.hop)

    def _elbo(self, waves: Tensor) -> Elbo:
        power = abs2(self.stft.analyse(waves))
        if not self.training:
            return self.model.elbo(power)
        off = self.level_db * (2 * torch.rand_like(power[:, :1, :1]) - 1)
        return self.model.elbo(power, mean_power(power) * 10 ** (off / 10))


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    lightning.seed_everything(experiment.seed, verbose=False)
    task = PriorTask(experiment)
    speech = Speech(experiment, experiment.model.sample_rate)
    return fit(task, experiment, speech, speech.hardest, "prior")


def main(arguments: list[str]) -> int:
    return config.command(Experiment, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
