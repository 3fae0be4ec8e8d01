"""Train a network on mixtures alone, by the evidence lower bound of a method that it is part of.

    python -m recipes.neural.train recipes/neural/configs/neural-fastfca.yaml \
        data.train=SPEECH data.valid=SPEECH data.rooms=BANK data.valid_rooms=BANK output=runs/fast

Stopped runs go on where they were when the command is repeated. Several processes: `torchrun
--nproc-per-node=N -m recipes.neural.train …`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from fca.errors import InputError, check_choice
from fca.frontend import SAMPLE_RATE, prepare
from fca.inference.unroll import elbo, rounds, unroll
from fca.methods import Method, get_method
from fca.model import Model
from fca.neural import NeuralConfig, NeuralFCA
from fca.neural.denoiser import Denoiser
from fca.pretrained import Pretrained
from fca.prior import Elbo, SpeechPrior
from fca.stft import STFT
from recipes import config, training
from recipes.loaders import Loaders, check_amounts
from recipes.neural.data import Bank, Conditions, Drawn, Mixtures, Recordings, Sample, Source
from recipes.neural.resident import Batch, ResidentMixtures
from recipes.prior.data import Corpus
from recipes.prior.resident import Batches

NETWORKS: dict[str, Callable[[str], Pretrained]] = {
    "weights": NeuralFCA.from_pretrained,
    "prior": SpeechPrior.from_pretrained,
    "denoiser": Denoiser.from_pretrained,
}
"""Networks that can be trained, by the option through which methods take them."""


@dataclass(frozen=True)
class Data:
    """Where mixtures come from.

    Attributes
    ----------
    train, valid : folders or manifests of speech; of recordings as they are, without `rooms`
    root : folder that the paths of manifests are relative to
    rooms, valid_rooms : banks of rooms that the speech is put into
    noise : folder of noise for diffuse fields, white unless given; not for recordings
    seconds, batch_size : of the mixtures, per process
    valid_items : mixtures to validate on
    workers : processes that prepare batches
    resident : whether mixtures are made in the memory of the device that trains
    conditions : what is drawn; of recordings, only how many channels and for how many talkers
    """

    train: str
    valid: str
    root: str | None = None
    rooms: str | None = None
    valid_rooms: str | None = None
    noise: str | None = None
    seconds: float = 4.0
    batch_size: int = 16
    valid_items: int = 64
    workers: int = 0
    resident: bool = False
    conditions: Conditions = field(default_factory=Conditions)

    def __post_init__(self) -> None:
        check_amounts(self.seconds, self.batch_size, self.valid_items)


@dataclass(frozen=True)
class Training(training.Training):
    """Optimisation; see also :class:`recipes.training.Training`.

    Attributes
    ----------
    first_beta, first_steps : largest weight of the divergence in the first cycles, and for how long
    tracked : how many of the iterations, from the last, gradients pass; None for all
    lean : compute activations again on the way back instead of keeping them
    every_round : the bounds after all iterations count, each by what it infers itself, see
        :func:`fca.inference.unroll.rounds`; the bound after the last one only unless set
    """

    first_beta: float = 1.0
    first_steps: int = 0
    tracked: int | None = None
    lean: bool = False
    every_round: bool = False

    def beta_at(self, step: int) -> float:
        largest = self.first_beta if step < self.first_steps else self.beta
        return largest * self.ramp_at(step)


@dataclass(frozen=True)
class Experiment:
    """All settings of one training.

    Attributes
    ----------
    method : row of the table of methods
    options : of the method
    n_fft : window in samples, the method's or the neural FCA's own unless given
    network : option of the method that takes the network, a key of :data:`NETWORKS`
    begin : trained network to begin with
    model : sizes of a new neural FCA; those of the network to begin with, where there is one
    decoder : speech prior to take a new network's decoder from
    freeze : parts of the network that keep their weights
    """

    data: Data
    output: str
    method: str = "neural-fca"
    options: Mapping[str, Any] = field(default_factory=dict)
    n_fft: int | None = None
    network: str = "weights"
    begin: str | None = None
    model: NeuralConfig = field(default_factory=NeuralConfig)
    decoder: str | None = None
    freeze: tuple[str, ...] = ()
    training: Training = field(default_factory=Training)
    seed: int = 0


class MixtureTask(training.VariationalTask):
    """The evidence lower bound of mixtures under a method, after its iterations.

    Parameters
    ----------
    network : Pretrained
        What is trained.
    method : Method
        Row that holds the network among its options, and takes `stochastic`.
    options : Training
        Optimisation.
    """

    validated = ("mixtures",)

    def __init__(self, network: Pretrained, method: Method, options: Training) -> None:
        super().__init__(network, options)
        self.stft = STFT(method.n_fft, method.n_fft // 4)
        self._unroll = partial(unroll, tracked=options.tracked, lean=options.lean)
        self._every_round = options.every_round
        self._method = method.with_options(stochastic=True)

    def _elbo(self, batch: Any) -> Elbo:
        """Bound of mixtures (B, M, samples) that have as many talkers each, (B,)."""
        (waves, n_talkers), method = batch, self._method
        spectra, _ = prepare(waves, SAMPLE_RATE, self.stft)
        model = method.build(spectra, int(n_talkers[0]), torch.Generator().manual_seed(0))
        if not isinstance(model, Model):
            raise InputError(f"{method.name} has no likelihood to train by")
        if self._every_round:
            return mean([elbo(done) for done in rounds(model, method.n_iter)])
        return elbo(self._unroll(model, method.n_iter))


def mean(bounds: Sequence[Elbo]) -> Elbo:
    """Mean of bounds of the same recordings, (B,)."""
    nll, kl = (torch.stack([getattr(b, term) for b in bounds]).mean(0) for term in ("nll", "kl"))
    return Elbo(nll, kl, bounds[0].n_freq)


class MixtureData(Loaders):
    """Loaders of an experiment; the training mixtures change with the epoch."""

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.experiment, self.options = experiment, experiment.data
        self._train = self._source(self.options.train, self.options.rooms)
        self._valid = self._source(self.options.valid, self.options.valid_rooms)

    @cached_property
    def resident(self) -> ResidentMixtures:
        """The mixtures to train on, in the memory of the device that trains."""
        if not isinstance(self._train, Mixtures):
            raise InputError("recordings are not made in memory: give data.rooms or no resident")
        return ResidentMixtures(self._train, self.device)

    def train_dataloader(self) -> DataLoader[Sample] | Batches[Batch]:
        options, steps = self.options, self.experiment.training.steps_per_epoch
        if options.resident:
            samples = round(options.seconds * SAMPLE_RATE)
            seed = (self.experiment.seed, self.epoch, self.rank)
            return Batches(self.resident, steps, options.batch_size, samples, seed)
        group = options.batch_size * self.processes
        return self._loader(self._train, steps * group, group, self.experiment.seed, self.epoch)

    def val_dataloader(self) -> DataLoader[Sample]:
        count = math.ceil(self.options.valid_items / self.processes) * self.processes
        return self._loader(self._valid, count, self.options.batch_size * self.processes)

    def _loader(
        self, source: Source, count: int, group: int, seed: int = 0, round_: int = 0
    ) -> DataLoader[Sample]:
        options = self.options
        drawn = Drawn(source, options.conditions, count, group, options.seconds, seed, round_)
        sampler = self.dealt(drawn)
        return DataLoader(drawn, options.batch_size, sampler=sampler, num_workers=options.workers)

    def _source(self, folder: str, rooms: str | None) -> Source:
        options = self.options
        if (options.rooms is None) != (options.valid_rooms is None):
            raise InputError("give data.rooms and data.valid_rooms, or neither")
        if rooms is None:
            return recorded(options, folder)
        return simulated(options, folder, rooms)


def recorded(options: Data, folder: str) -> Recordings:
    """Recordings of a folder or manifest.

    Raises
    ------
    InputError
        If there are none, one has too few channels, or noise is to be added to them.
    """
    if options.noise is not None:
        raise InputError("data.noise is for simulated mixtures: leave it out, or give data.rooms")
    return Recordings(Path(folder), options.conditions.channels[1], _root(options))


def simulated(options: Data, speech: str, rooms: str | None) -> Mixtures:
    """Mixtures of a folder or manifest of speech in the rooms of a bank.

    Raises
    ------
    InputError
        Without rooms, or if there is no speech, noise or room where they should be.
    """
    if rooms is None:
        raise InputError("mixtures are simulated in rooms: give data.rooms and data.valid_rooms")
    noise = None if options.noise is None else Corpus(Path(options.noise), SAMPLE_RATE)
    talkers = Corpus(Path(speech), SAMPLE_RATE, _root(options))
    return Mixtures(talkers, Bank(Path(rooms)), noise, options.conditions)


def _root(options: Data) -> Path | None:
    return None if options.root is None else Path(options.root)


def make_network(experiment: Experiment) -> Pretrained:
    """Network to train, at its start.

    Raises
    ------
    InputError
        For an unknown kind of network or part, or one that there is nothing to begin with.
    """
    check_choice("network", experiment.network, NETWORKS)
    if experiment.begin is not None and experiment.decoder is not None:
        raise InputError("a network to begin with has its decoder: give begin or decoder, not both")
    if experiment.begin is not None:
        network = NETWORKS[experiment.network](experiment.begin)
    elif experiment.network == "weights":
        network = new_network(experiment.model, experiment.decoder)
    else:
        raise InputError(f"a {experiment.network} to begin with is needed: give begin")
    network.requires_grad_(True).train()
    parts = dict(network.named_children())
    for part in experiment.freeze:
        if part not in parts:
            raise InputError(f"no part {part!r} to freeze; there are {', '.join(parts)}")
        parts[part].requires_grad_(False)
    return network


def new_network(sizes: NeuralConfig, decoder: str | None) -> NeuralFCA:
    """Untrained neural FCA, with the decoder of a prior if wanted."""
    if decoder is None:
        return NeuralFCA(sizes)
    prior = SpeechPrior.from_pretrained(decoder)
    network = NeuralFCA(sizes.with_decoder(prior))
    network.decoder.load_state_dict(prior.decoder.state_dict())
    return network


def check_sizes(sizes: NeuralConfig, conditions: Conditions) -> None:
    """Raise :class:`InputError` if mixtures are not what a neural FCA is made for."""
    for name, size in (("talkers", sizes.n_talkers), ("channels", sizes.n_channels)):
        low, high = getattr(conditions, name)
        if not low == high == size:
            raise InputError(
                f"the network is for {size} {name}, the mixtures have {low} to {high}: "
                f"model.n_{name} and data.conditions.{name} must agree"
            )


def make_task(experiment: Experiment) -> MixtureTask:
    """Network and method of an experiment."""
    network = make_network(experiment)
    if isinstance(network, NeuralFCA):
        check_sizes(network.config, experiment.data.conditions)
        network.encoder.lean = experiment.training.lean
    options = {**experiment.options, experiment.network: network}
    method = get_method(experiment.method).with_options(**options)
    method = replace(method, n_fft=experiment.n_fft or method.n_fft)
    return MixtureTask(network, method, experiment.training)


def run(experiment: Experiment) -> Path:
    """Train, then export the best checkpoint; returns the exported folder."""
    lightning.seed_everything(experiment.seed, verbose=False)
    task = make_task(experiment)
    if isinstance(task.model, NeuralFCA):
        experiment = replace(experiment, model=task.model.config)  # of whatever it began with
    return training.fit(task, experiment, MixtureData(experiment), "mixtures", "network")


def main(arguments: list[str]) -> int:
    return config.command(Experiment, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
