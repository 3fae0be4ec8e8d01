"""The supervised reference: shapes, data, one training step per configuration, its table row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fca.errors import InputError
from fca.simulate_set import Condition, Corpora, build
from fca.simulated import load
from recipes import config
from recipes.benchmark import common, quality, scoring

pytest.importorskip("asteroid")
pytest.importorskip("fast_bss_eval")

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


def network(**sizes: int) -> model.ConvTasNet:
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


def test_segments_are_reproducible_parts_of_mixtures(mixtures: Path) -> None:
    items = [item for item in load(mixtures) if item.n_talkers == 2]
    sizes = model.ConvTasNetConfig(n_channels=2)
    first = train.Segments(items, sizes, 4, 0.25, seed=1)
    again = train.Segments(items, sizes, 4, 0.25, seed=1)
    mixture, references = first[0]
    assert (mixture.shape, references.shape) == ((2, 4000), (2, 4000))
    assert all(torch.equal(a, b) for a, b in zip(first[3], again[3], strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(items[0].read("mixture")[1], 4000)
    start = np.flatnonzero((windows[:, :20] == mixture[1, :20].numpy()).all(1))
    assert len(start) == 1
    np.testing.assert_array_equal(references, items[0].references()[:, start[0] : start[0] + 4000])
    padded = train.Segments(items, sizes, 1, 2.0)[0][0]
    assert padded.shape == (2, 2 * RATE)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_takes_a_step_and_its_network_has_a_row(
    path: Path, mixtures: Path, tmp_path: Path
) -> None:
    arguments = [str(path), f"data.train={mixtures}", f"data.valid={mixtures}"]
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
    assert quality._key(entry, fitting[0], scoring.Terms(), "")["weights"] == entry.weights()


def test_what_does_not_fit_is_refused(mixtures: Path, tmp_path: Path) -> None:
    network(n_channels=4).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="for 4 microphones, not 2"):
        model.separate(np.zeros((2, 100)), RATE, 2, folder=str(tmp_path))
    with pytest.raises(InputError, match="for 2 talkers at 16000 Hz"):
        model.separate(np.zeros((4, 100)), RATE, 3, folder=str(tmp_path))
    data = train.Data(str(mixtures), str(mixtures))
    sizes = model.ConvTasNetConfig(n_talkers=4)
    with pytest.raises(InputError, match="no mixtures of 4 talkers"):
        train.Mixtures(train.Experiment(data, str(tmp_path), sizes))


def test_without_references_there_is_no_network_in_the_table() -> None:
    configured = common.entries(common.settings("quality", None, False, []))
    assert not [entry for entry in configured if entry.kind == "network"]
