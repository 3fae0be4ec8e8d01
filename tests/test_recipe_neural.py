"""The recipe of networks that are trained on mixtures: data, every experiment, resuming."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fca import audio
from fca.errors import InputError
from fca.methods import get_method
from fca.neural import NeuralFCA
from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.prior import PriorConfig, SpeechPrior
from recipes import config
from recipes.neural import data, train
from recipes.neural.data import Bank, Conditions, Drawn, Mixtures, Recordings
from recipes.prior.data import Corpus
from tests.test_recipe_prior import check_resuming, check_two_processes

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "recipes/neural/configs").glob("*.yaml"))
each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
TINY = [
    f"data.train={DATA}",
    f"data.valid={DATA}",
    "data.seconds=0.3",
    "data.batch_size=2",
    "data.valid_items=2",
    "data.conditions.channels=[2, 3]",
    "data.conditions.talkers=[2, 2]",
    "training.steps=1",
    "training.steps_per_epoch=1",
    "training.accelerator=cpu",
]
SMALL = ["n_channels=3", "n_fft=128", "width=8", "hidden=12", "n_blocks=2", "n_layers=2"]
SMALL = [f"model.{size}" for size in [*SMALL, "latent_dim=4", "decoder_width=8"]]
FIXED = ["data.conditions.channels=[3, 3]"]
DRAWN = ["data.conditions.talkers=[1, 2]", "training.steps=4", "training.steps_per_epoch=4"]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    arguments = [str(folder), "--rooms", "2", "--talkers", "2", "--mics", "3"]
    app = data.typer.Typer()
    app.command()(data.main)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(DATA, 16000)


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    SpeechPrior(PriorConfig(n_fft=128, hop=32, latent_dim=4, width=8)).save_pretrained(
        tmp_path / "prior"
    )
    denoiser = Denoiser(DenoiserConfig(str(tmp_path / "prior"), width=8, dilations=(1,)))
    denoiser.save_pretrained(tmp_path / "denoiser")
    return tmp_path / "prior"


def settings(path: Path, bank: Path, prior: Path, output: Path, *more: str) -> list[str]:
    chosen = [*TINY, f"data.rooms={bank}", f"data.valid_rooms={bank}", f"output={output}"]
    if path.stem in ("encoding-prior", "denoiser"):
        network = prior.with_name("denoiser") if path.stem == "denoiser" else prior
        return [*chosen, f"begin={network}", "n_fft=128", *more]
    decoder = [f"decoder={prior}"] if "decoder" in config.load(path) else []
    return [*chosen, *SMALL, *FIXED, *decoder, *more]


class TestMixtures:
    def test_are_reproducible_and_vary(self, corpus: Corpus, bank: Path) -> None:
        conditions = Conditions((1, 2), (2, 3))
        source = Mixtures(corpus, Bank(bank), None, conditions)
        first, again = (Drawn(source, conditions, 8, 4, 0.3, seed=1) for _ in range(2))
        later = Drawn(source, conditions, 8, 4, 0.3, seed=1, round_=1)
        waves, same, others = ([drawn[k][0] for k in range(8)] for drawn in (first, again, later))
        assert all(torch.equal(*pair) for pair in zip(waves, same, strict=True))
        assert not any(torch.equal(*pair) for pair in zip(waves, others, strict=True))
        assert len({float(wave.abs().sum()) for wave in waves}) == 8

    def test_of_a_batch_have_as_many_talkers_and_microphones(
        self, corpus: Corpus, bank: Path
    ) -> None:
        conditions = Conditions((1, 2), (2, 3))
        drawn = Drawn(Mixtures(corpus, Bank(bank), None, conditions), conditions, 40, 4, 0.1)
        sizes = [(len(wave), n_talkers) for wave, n_talkers in (drawn[k] for k in range(40))]
        groups = [set(sizes[k : k + 4]) for k in range(0, 40, 4)]
        assert all(len(group) == 1 for group in groups)
        assert len(set.union(*groups)) > 2
        assert drawn[0][0].shape[-1] == 1600

    def test_noise_has_its_level(self, corpus: Corpus, bank: Path) -> None:
        for diffuse in (0.0, 1.0):
            quiet, loud = (
                Mixtures(corpus, Bank(bank), None, Conditions(snr_db=(s, s), diffuse=diffuse))
                for s in (100.0, 10.0)
            )
            draws = [s.draw(2, 3, 8000, np.random.default_rng(0)) for s in (quiet, loud)]
            ratio = np.mean(draws[0] ** 2) / np.mean((draws[1] - draws[0]) ** 2)
            assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.1)

    def test_recorded_noise_is_used(self, corpus: Corpus, bank: Path) -> None:
        """Speech for noise is not Gaussian, as made-up noise is."""
        conditions = Conditions(snr_db=(-60.0, -60.0), diffuse=1.0)
        white, recorded = (
            Mixtures(corpus, Bank(bank), noise, conditions).draw(2, 3, 8000, seeded)
            for noise, seeded in (
                (None, np.random.default_rng(0)),
                (corpus, np.random.default_rng(0)),
            )
        )
        kurtosis = [np.mean(w**4) / np.mean(w**2) ** 2 for w in (white, recorded)]
        assert kurtosis[0] == pytest.approx(3.0, abs=0.3)
        assert kurtosis[1] > kurtosis[0] + 1

    def test_bank_is_continued(self, bank: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in bank.glob("*.npz")}
        assert len(before) == 2
        data.main(bank, rooms=2, talkers=2, mics=3)
        assert {path: path.stat().st_mtime_ns for path in bank.glob("*.npz")} == before
        with pytest.raises(InputError, match=r"made with .*'seed': 0.* not .*'seed': 1"):
            data.main(bank, rooms=3, talkers=2, mics=3, seed=1)

    def test_rooms_hold_responses_of_some_talkers_and_microphones(self, bank: Path) -> None:
        room = Bank(bank).draw(np.random.default_rng(0))
        assert room.responses.shape[:2] == (2, 3)
        assert np.abs(room.responses).max() == pytest.approx(1.0, abs=1e-3)
        some = room.some(1, 2, np.random.default_rng(1))
        assert some.responses.shape[:2] == (1, 2)
        whole = [tuple(mic) for mic in room.mics]
        for channel, mic in enumerate(some.mics):
            origin = room.responses[:, whole.index(tuple(mic))]
            assert any(np.array_equal(some.responses[0, channel], r) for r in origin)

    def test_bad_input_is_named(self, bank: Path, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        with pytest.raises(InputError, match="no bank of rooms"):
            Bank(tmp_path)
        with pytest.raises(InputError, match="2 talkers and 3 microphones, 3 and 2 are asked"):
            Bank(bank).draw(rng).some(3, 2, rng)
        whole = next(bank.glob("*.npz")).read_bytes()
        for damaged in (b"nothing", b"", whole[: len(whole) // 2]):
            (tmp_path / "room-000000.npz").write_bytes(damaged)
            with pytest.raises(InputError, match="not a room"):
                Bank(tmp_path).draw(rng)
        with pytest.raises(InputError, match="smallest first"):
            Conditions(talkers=(3, 2))
        with pytest.raises(InputError, match="two microphones at least"):
            Conditions(channels=(1, 2))


class TestRecordings:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        wave = 0.1 * np.random.default_rng(0).standard_normal((3, 8000)).astype(np.float32)
        (tmp_path / "rec").mkdir()
        audio.write(tmp_path / "rec" / "a.wav", wave, 8000)
        return tmp_path / "rec"

    def test_are_cut_with_microphones_in_random_order(self, folder: Path) -> None:
        source = Recordings(folder, 3)
        draws = [source.draw(2, 2, 4000, np.random.default_rng(k)) for k in range(20)]
        assert all(draw.shape == (2, 4000) for draw in draws)
        channels = source._corpus.signals[0].astype(np.float32) / 2**15
        assert channels.shape == (3, 16000)
        first = {next(m for m in range(3) if np.isin(draw[0], channels[m]).all()) for draw in draws}
        assert first == {0, 1, 2}

    def test_short_ones_are_followed_by_silence(self, folder: Path) -> None:
        draw = Recordings(folder, 3).draw(2, 3, 20000, np.random.default_rng(0))
        assert draw.shape == (3, 20000)
        assert not draw[:, 16000:].any()

    def test_enough_channels_are_needed(self, folder: Path) -> None:
        with pytest.raises(InputError, match="3 channels, 4 are needed"):
            Recordings(folder, 4)

    def test_a_manifest_has_its_root(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "list.csv").write_text("path\na.wav\n")
        options = train.Data(f"{tmp_path}/list.csv", "", conditions=Conditions((1, 1), (3, 3)))
        with pytest.raises(InputError, match="no such file"):
            train.recorded(options, options.train)
        source = train.recorded(replace(options, root=str(folder)), options.train)
        assert source.draw(1, 3, 4000, np.random.default_rng(0)).shape == (3, 4000)
        with pytest.raises(InputError, match=r"data\.noise is for simulated mixtures"):
            train.recorded(replace(options, noise=str(folder)), options.train)

    def test_silence_is_named(self, tmp_path: Path) -> None:
        audio.write(tmp_path / "nothing.wav", np.zeros((2, 8000), np.float32), 16000)
        with pytest.raises(InputError, match=r"nothing\.wav: silent"):
            Recordings(tmp_path, 2).draw(1, 2, 4000, np.random.default_rng(0))

    def test_can_be_trained_on(self, folder: Path, tmp_path: Path) -> None:
        chosen = [*TINY, *SMALL, *FIXED, f"data.train={folder}", f"data.valid={folder}"]
        path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
        assert train.main([str(path), *chosen, f"output={tmp_path}"]) == 0
        assert NeuralFCA.from_pretrained(tmp_path / "network").config.n_channels == 3


@each_config
def test_one_step_of_every_experiment(path: Path, bank: Path, prior: Path, tmp_path: Path) -> None:
    chosen = settings(path, bank, prior, tmp_path, "training.lean=true")
    experiment = config.build(train.Experiment, config.load(path, chosen))
    torch.manual_seed(0)
    task = train.make_task(experiment)
    before = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    batch = next(iter(train.MixtureData(experiment).train_dataloader()))
    task.elbo(batch).loss(1.0).mean().backward()
    optimizer = task.configure_optimizers()["optimizer"]
    for name, parameter in task.model.named_parameters():
        frozen = name.split(".")[0] in experiment.freeze
        assert frozen == (parameter.grad is None), name
        assert frozen or parameter.grad.isfinite().all(), name
    optimizer.step()
    changed = [n for n, p in task.model.named_parameters() if not torch.equal(p, before[n])]
    assert changed
    assert not any(name.split(".")[0] in experiment.freeze for name in changed)


def test_training_exports(bank: Path, prior: Path, tmp_path: Path) -> None:
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    assert train.main([str(path), *settings(path, bank, prior, tmp_path)]) == 0
    row = get_method("neural-fastfca").with_options(weights=tmp_path / "network")
    assert row.n_fft == 128


def test_sizes_that_are_recorded_are_those_of_the_network(
    bank: Path, prior: Path, tmp_path: Path
) -> None:
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    first = settings(path, bank, prior, tmp_path / "first")
    assert train.main([str(path), *first]) == 0
    second = settings(path, bank, prior, tmp_path / "second", "model.width=99")
    assert train.main([str(path), *second, f"begin={tmp_path / 'first/network'}"]) == 0
    recorded = config.load(tmp_path / "second/config.yaml")
    assert recorded["model"]["width"] == 8
    assert NeuralFCA.from_pretrained(tmp_path / "second/network").config.width == 8


def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    bank: Path, prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    arguments = [str(path), *settings(path, bank, prior, tmp_path)]
    check_resuming(train.main, arguments, tmp_path, monkeypatch)


def test_training_lowers_the_loss(bank: Path, prior: Path, tmp_path: Path) -> None:
    """Twenty steps on one batch."""
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    experiment = config.build(
        train.Experiment, config.load(path, settings(path, bank, prior, tmp_path))
    )
    torch.manual_seed(0)
    task = train.make_task(experiment)
    batch = next(iter(train.MixtureData(experiment).train_dataloader()))
    optimizer = task.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(20):
        loss = task.elbo(batch).loss(1.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_a_gradient_that_is_not_finite_moves_nothing(
    bank: Path, prior: Path, tmp_path: Path
) -> None:
    """Nor do the momentum and the decay of the weights."""
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    chosen = settings(path, bank, prior, tmp_path, "training.weight_decay=0.1")
    task = train.make_task(config.build(train.Experiment, config.load(path, chosen)))
    optimizer = task.configure_optimizers()["optimizer"]
    for broken in (False, True, False):
        before = [p.detach().clone() for p in task.model.parameters()]
        for parameter in task.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        if broken:
            next(task.model.parameters()).grad[0, 0] = float("nan")
        task.on_before_optimizer_step(optimizer)
        optimizer.step()
        moved = [
            not torch.equal(*pair) for pair in zip(task.model.parameters(), before, strict=True)
        ]
        assert all(moved) != broken
        assert any(moved) != broken


def test_processes_have_the_same_numbers_of_talkers_and_microphones(
    bank: Path, prior: Path, tmp_path: Path
) -> None:
    path = ROOT / "recipes/neural/configs/denoiser.yaml"
    arguments = settings(path, bank, prior, tmp_path, *DRAWN, "data.valid_items=7")
    experiment = config.build(train.Experiment, config.load(path, arguments))
    sizes = []
    for rank in range(2):
        mixtures = train.MixtureData(experiment)
        mixtures.trainer = SimpleNamespace(current_epoch=0, world_size=2, global_rank=rank)  # type: ignore[assignment]
        batches = [*mixtures.train_dataloader(), *mixtures.val_dataloader()]
        assert all((talkers == talkers[0]).all() for _, talkers in batches)
        sizes.append([(len(x), x.shape[1], int(talkers[0])) for x, talkers in batches])
    assert sizes[0] == sizes[1]
    assert len(set(sizes[0])) > 2


def test_two_processes_train_together(bank: Path, prior: Path, tmp_path: Path) -> None:
    path = ROOT / "recipes/neural/configs/denoiser.yaml"
    arguments = [str(path), *settings(path, bank, prior, tmp_path, *DRAWN)]
    check_two_processes("recipes.neural.train", arguments, tmp_path)
    assert Denoiser.from_pretrained(tmp_path / "two/network").config.width == 8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network=magic"], "unknown network 'magic'"),
        (["network=prior"], "give begin"),
        (["freeze=[head]"], "no part 'head' to freeze; there are"),
        (["data.valid_rooms=null"], "data.rooms and data.valid_rooms, or neither"),
        (["method=cacgmm"], "has no option"),
        (["model.block=magic"], "unknown block"),
        (["data.conditions.snr_db=3"], "data.conditions.snr_db is a list, not 3"),
        (["data.conditions.snr_db=[3]"], "data.conditions.snr_db is a list of 2, not [3]"),
        (["data.conditions.talkers=[2, 3]"], "for 2 talkers, the mixtures have 2 to 3: model.n_ta"),
        (["model.n_channels=2"], "for 2 channels, the mixtures have 3 to 3: model.n_channels and"),
        (["begin=x", "decoder=speech-prior"], "give begin or decoder, not both"),
        (["freeze=decoder"], "freeze is a list, not 'decoder'"),
        (["data.batch_size=0"], "data.batch_size must be at least 1"),
    ],
)
def test_bad_settings_give_one_line(
    overrides: list[str],
    message: str,
    bank: Path,
    prior: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = ROOT / "recipes/neural/configs/neural-fca.yaml"
    assert train.main([str(path), *settings(path, bank, prior, tmp_path), *overrides]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_first_cycles_weigh_the_divergence_more() -> None:
    options = train.Training(
        beta=0.5, beta_ramp=5, beta_period=10, first_beta=5.0, first_steps=20, anneal=False
    )
    weights = [options.beta_at(step) for step in range(40)]
    assert weights[:10] == weights[10:20]
    assert weights[20:30] == weights[30:]
    assert max(weights[:20]) == pytest.approx(5.0)
    assert max(weights[20:]) == pytest.approx(0.5)
    assert options.rate_at(1000) == 1.0


def test_the_divergence_may_have_no_weight_after_the_first_cycles() -> None:
    options = train.Training(beta=0.0, beta_ramp=1, first_beta=2.0, first_steps=1)
    assert [options.beta_at(step) for step in range(3)] == [2.0, 0.0, 0.0]
