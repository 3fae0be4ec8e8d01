"""The supervised reference: shapes, data, one training step per configuration, its table row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fca.errors import InputError
from fca.simulate.sets import Condition, Corpora, build
from fca.simulate.stored import load
from recipes import config
from recipes.benchmark import common, quality, scoring

pytest.importorskip("asteroid")
pytest.importorskip("fast_bss_eval")

from recipes.neural.data import Bank, Conditions, Mixtures, make_room
from recipes.prior.data import Corpus
from recipes.supervised import model, train

CONFIGS = sorted((Path(train.__file__).parent / "configs").glob("*.yaml"))
SPEECH = Path(__file__).parent / "data"
RATE = 16000
SMALL = {"n_filters": 16, "bottleneck": 8, "hidden": 16, "blocks": 2, "repeats": 1}


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One mixture of two talkers and one of three, at four microphones."""
    folder = tmp_path_factory.mktemp("sets") / "train"
    short = {"count": 1, "seconds": (1, 1), "rt60": (0.15, 0.2)}
    kinds = {"two": Condition(**short), "three": Condition(talkers=3, **short)}
    build(kinds, Corpora(SPEECH), folder)
    return folder


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One room with three talkers and four microphones."""
    folder = tmp_path_factory.mktemp("bank")
    make_room(0, folder, n_talkers=3, n_mics=4, seed=0)
    return folder


def network(**sizes: Any) -> model.ConvTasNet:
    torch.manual_seed(0)
    return model.ConvTasNet(model.ConvTasNetConfig(**{**SMALL, **sizes})).eval()


@pytest.mark.parametrize(("channels", "talkers", "samples"), [(1, 2, 4000), (4, 3, 4321)])
def test_any_length_and_level_goes_through(channels: int, talkers: int, samples: int) -> None:
    net = network(n_channels=channels, n_talkers=talkers)
    waves = torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out, louder = net(waves), net(10 * waves)
    assert out.shape == (2, talkers, samples)
    torch.testing.assert_close(louder, 10 * out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("filterbank", ["free", "stft"])
def test_filterbanks_give_back_what_they_are_given(filterbank: str) -> None:
    net = network(filterbank=filterbank, n_channels=3, kernel=64, stride=16)
    waves = torch.randn(2, 3, 4321, generator=torch.Generator().manual_seed(1))
    first, features = net.filters.analyse(waves)
    assert features.shape == (2, net.filters.n_features, first.shape[-1])
    back = net.filters.synthesise(first, 4321)
    assert back.shape == (2, 1, 4321)
    if filterbank == "stft":
        torch.testing.assert_close(back, waves[:, :1], rtol=1e-4, atol=1e-4)


def test_an_stft_has_features_of_level_and_phase() -> None:
    filters = network(filterbank="stft", n_channels=2, kernel=64, stride=16).filters
    wave = torch.randn(1, 1, 2000, generator=torch.Generator().manual_seed(1))
    first, features = filters.analyse(torch.cat([wave, -wave], dim=1))
    level, cosine, sine = features.chunk(3, dim=1)
    torch.testing.assert_close(cosine, torch.full_like(cosine, -1.0))
    torch.testing.assert_close(sine, torch.zeros_like(sine), rtol=0, atol=1e-5)
    assert torch.corrcoef(torch.stack([level.exp().flatten(), first.abs().flatten()]))[0, 1] > 0.999


@pytest.mark.parametrize("filterbank", ["free", "stft"])
def test_all_that_is_trained_has_a_gradient(filterbank: str) -> None:
    """Otherwise several processes would wait for it."""
    net = network(filterbank=filterbank, blocks=3, repeats=2)
    net(torch.randn(1, 4, 4000)).square().sum().backward()
    trained = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
    assert trained and not [name for name, gradient in trained.items() if gradient is None]


def test_the_loss_is_exact_in_mixed_precision() -> None:
    references = torch.randn(2, 2, 8000, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 2, 8000, generator=torch.Generator().manual_seed(1))
    task = train.Supervised(network(), train.training.Training())
    task.model.forward = lambda _: references + 0.1 * noise  # type: ignore[method-assign]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = task.loss((references, references))
    torch.testing.assert_close(mixed, task.loss((references, references)))
    assert float(mixed) == pytest.approx(-20, abs=0.2)


def test_pairs_are_reproducible_and_add_up(bank: Path) -> None:
    conditions = Conditions(talkers=(2, 2), channels=(2, 2), snr_db=(60, 60))
    source = Mixtures(Corpus(SPEECH, RATE), Bank(bank), None, conditions)
    pairs = [
        train.Pairs(source, model.ConvTasNetConfig(n_channels=2), 4, 0.25, 1) for _ in range(2)
    ]
    mixture, references = pairs[0][0]
    assert (mixture.shape, references.shape) == ((2, 4000), (2, 4000))
    assert all(torch.equal(*both) for both in zip(pairs[0][3], pairs[1][3], strict=True))
    left = (mixture[0] - references.sum(0)).square().mean() / mixture[0].square().mean()
    assert 10 * left.log10() == pytest.approx(-60, abs=1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_takes_a_step_and_its_network_has_a_row(
    path: Path, mixtures: Path, bank: Path, tmp_path: Path
) -> None:
    arguments = [str(path), f"data.train={SPEECH}", f"data.valid={SPEECH}"]
    arguments += [f"data.rooms={bank}", f"data.valid_rooms={bank}", "data.valid_items=1"]
    arguments += [f"model.{name}={size}" for name, size in SMALL.items()]
    arguments += ["data.seconds=0.5", "data.batch_size=1", f"output={tmp_path}"]
    arguments += ["training.steps=1", "training.steps_per_epoch=1", "training.accelerator=cpu"]
    assert train.main(arguments) == 0
    experiment = config.build(train.Experiment, config.load(tmp_path / "config.yaml"))
    assert experiment.training.steps == 1
    folder = str(tmp_path / "network")
    assert model.ConvTasNet.from_pretrained(folder).config == experiment.model
    override = f"quality.networks.conv-tasnet.folder={folder}"
    chosen = common.settings("quality", None, False, [override])
    (entry,) = common.entries(chosen, ["conv-tasnet"])
    fitting = [item for item in load(mixtures) if entry.fits(item)]
    assert [item.n_talkers for item in fitting] == [experiment.model.n_talkers]
    row = scoring.score(entry, fitting[0], scoring.Terms())
    assert np.isfinite(row["improvement"]["sdr"]).all()
    assert quality._key(entry, fitting[0], {})["weights"] == entry.weights()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    network(n_channels=4).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="for 4 microphones, not 2"):
        model.separate(np.zeros((2, 100)), RATE, 2, folder=str(tmp_path))
    with pytest.raises(InputError, match="for 2 talkers at 16000 Hz"):
        model.separate(np.zeros((4, 100)), RATE, 3, folder=str(tmp_path))
    with pytest.raises(InputError, match="unknown filterbank 'fft'; choose from free, stft"):
        network(filterbank="fft")
    other = train.ConvTasNetConfig(sample_rate=8000)
    experiment = train.Experiment(train.Data(str(SPEECH), str(SPEECH)), str(tmp_path), other)
    with pytest.raises(InputError, match=r"at 16000 Hz: model\.sample_rate cannot be another"):
        train.run(experiment)
    experiment = train.Experiment(train.Data(str(SPEECH), str(SPEECH)), str(tmp_path))
    with pytest.raises(InputError, match=r"give data\.rooms"):
        train.PairData(experiment)
    with pytest.raises(InputError, match=r"2 talkers: give model\.n_talkers, not data\.conditions"):
        train.check_sizes(model.ConvTasNetConfig(), Conditions(talkers=(2, 3)))


def test_the_table_has_the_shipped_network_if_it_can_be_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = common.settings("quality", None, False, [])
    assert [entry.name for entry in common.entries(chosen) if entry.kind == "network"] == [
        "conv-tasnet"
    ]
    monkeypatch.setattr(model, "available", lambda: False)
    assert not [entry for entry in common.entries(chosen) if entry.kind == "network"]
