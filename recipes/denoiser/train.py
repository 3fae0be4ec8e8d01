"""Train the denoising encoder of a speech prior, on clean speech and on refined mixtures.

    python -m recipes.denoiser.train recipes/denoiser/configs/denoiser.yaml \
        data.train=DIR data.valid=DIR data.rooms=FILE output=runs/denoiser

Clean speech is degraded by made-up leakage. Mixtures, if there are any, come from
`recipes.denoiser.refined`: the encoder learns to infer at once what refinement has found.

Stopped runs go on where they were when the command is repeated. Several processes: `torchrun
--nproc-per-node=N -m recipes.denoiser.train …`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.prior.model import Elbo, PriorConfig
from fca.stft import STFT
from recipes import config
from recipes.denoiser.degrade import Leakage, degrade
from recipes.denoiser.refined import ResidentViews, Views, find
from recipes.prior.resident import Batches
from recipes.speech import Data, Speech
from recipes.training import Training, VariationalTask, fit


@dataclass(frozen=True)
class Experiment:
    """All settings of one training.

    Attributes
    ----------
    begin : trained denoiser of the same sizes to begin with
    views : folder of refined mixtures, for half of each batch; None for clean speech alone
    """

    data: Data
    output: str
    model: DenoiserConfig = field(default_factory=DenoiserConfig)
    begin: str | None = None
    views: str | None = None
    leakage: Leakage = field(default_factory=Leakage)
    training: Training = field(default_factory=Training)
    seed: int = 0


class DenoiserTask(VariationalTask):
    """The evidence lower bound of clean speech under the posterior from degraded speech."""

    model: Denoiser

    def __init__(self, experiment: Experiment) -> None:
        model = Denoiser(experiment.model)
        if experiment.begin is not None:
            model.load_state_dict(Denoiser.from_pretrained(experiment.begin).state_dict())
        super().__init__(model, experiment.training)
        self.settings, self.prior = experiment.leakage, self.model.prior.config
        self.stft = STFT(self.prior.n_fft, self.prior.hop)

    def _elbo(self, batch: Tensor | dict[str, Any]) -> Elbo:
        if isinstance(batch, Tensor):
            return self._of_speech(batch)
        own, rest, target = batch["views"]
        speech, views = self._of_speech(batch["speech"]), self.model.elbo(target, own, rest)
        nll, kl = torch.cat([speech.nll, views.nll]), torch.cat([speech.kl, views.kl])
        return Elbo(nll, kl, speech.n_freq)

    def _of_speech(self, waves: Tensor) -> Elbo:
        seen = degrade(self.stft.analyse(waves), self.settings, self.prior.sample_rate)
        return self.model.elbo(seen.clean, seen.own, seen.rest)


class SpeechAndViews(Speech):
    """Clean speech and, if the experiment has them, as many excerpts of refined mixtures."""

    experiment: Experiment

    def __init__(self, experiment: Experiment, prior: PriorConfig) -> None:
        super().__init__(experiment, prior.sample_rate)
        self.files = [] if experiment.views is None else find(experiment.views)
        self.n_frames = 1 + round(self.options.seconds * prior.sample_rate / prior.hop)

    def train_dataloader(self) -> Any:
        speech = super().train_dataloader()
        if not self.files:
            return speech
        if isinstance(speech, Batches):
            sizes = speech.count, speech.batch_size, self.n_frames
            return {"speech": speech, "views": Batches(self.views, *sizes, speech.seed)}
        batch_size = self.options.batch_size
        count = len(speech) * batch_size
        views = Views(self.files, count, self.n_frames, (self.experiment.seed, self.epoch))
        return {"speech": speech, "views": DataLoader(views, batch_size)}

    @cached_property
    def views(self) -> ResidentViews:
        """The mixtures to train on, in the memory of the device that trains."""
        return ResidentViews(self.files, self.device)


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    lightning.seed_everything(experiment.seed, verbose=False)
    task = DenoiserTask(experiment)
    speech = SpeechAndViews(experiment, task.prior)
    return fit(task, experiment, speech, speech.hardest, "denoiser")


def main(arguments: list[str]) -> int:
    return config.command(Experiment, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
