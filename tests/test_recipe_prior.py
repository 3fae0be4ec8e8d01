"""The recipe of the speech prior: data, settings, one training step per experiment, resuming."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from fca import audio
from fca.errors import InputError
from fca.prior import SpeechPrior
from fca.prior.networks import ContextBlock, FrameNetwork
from fca.simulate import Mixture
from fca.simulate.stored import Item
from fca.stft import STFT
from recipes import config, optim, training
from recipes.benchmark import ceilings
from recipes.prior import data, evaluate, report, train
from recipes.prior.data import Augmentation, Corpus, Excerpts
from recipes.speech import Speech

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "recipes/prior/configs").rglob("*.yaml"))
TINY = [
    f"data.train={DATA}",
    f"data.valid={DATA}",
    "data.seconds=0.5",
    "data.batch_size=2",
    "data.valid_items=2",
    "model.width=16",
    "model.n_fft=128",
    "model.hop=64",
    "model.latent_dim=4",
    "training.steps=1",
    "training.steps_per_epoch=1",
    "training.accelerator=cpu",
]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(DATA, 16000)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rooms") / "rooms.npz"
    data.main(path, rooms=1, seed=0)
    return path


def test_corpus_of_a_manifest_equals_that_of_the_folder(corpus: Corpus, tmp_path: Path) -> None:
    manifest = tmp_path / "speech.csv"
    names = [path.name for path in corpus.paths]
    manifest.write_text("path,speaker\n" + "".join(f"{name},x\n" for name in names))
    listed = Corpus(manifest, 16000, root=DATA)
    assert listed.paths == corpus.paths
    assert listed.seconds == corpus.seconds == pytest.approx(16.0, abs=0.1)


def test_excerpts_are_reproducible_and_vary(corpus: Corpus, rooms: Path) -> None:
    kind = Augmentation(speed=0.1, eq_db=3.0, reverberant=0.5)
    bank = data.load_responses(rooms, 16000)
    first = Excerpts(corpus, 8, 0.5, kind, bank, seed=1)
    again = Excerpts(corpus, 8, 0.5, kind, bank, seed=1)
    later = Excerpts(corpus, 8, 0.5, kind, bank, seed=1, round_=1)
    assert all(torch.equal(first[i], again[i]) for i in range(8))
    assert not any(torch.equal(first[i], later[i]) for i in range(8))
    assert first[0].shape == (8000,)
    assert len({float(first[i].sum()) for i in range(8)}) == 8


def test_excerpt_without_augmentation_is_the_speech_itself(corpus: Corpus) -> None:
    excerpt = Excerpts(corpus, 1, 0.5, Augmentation())[0].numpy()
    windows = [np.lib.stride_tricks.sliding_window_view(s, 8000) for s in corpus.signals]
    target = np.round(excerpt[:50] * 2**15).astype(np.int16)
    assert any((w[:, :50] == target).all(axis=1).any() for w in windows)


def test_filter_equals_a_literal_convolution() -> None:
    rng = np.random.default_rng(0)
    wave, response = rng.standard_normal(300).astype(np.float32), np.float32([1, 0, -0.5, 0.2])
    expected = np.convolve(wave, response)[:300]
    np.testing.assert_allclose(data.filtered(wave, response, None), expected, atol=1e-5)


def test_equaliser_sets_the_gain_of_a_tone() -> None:
    tone = np.sin(2 * np.pi * 0.125 * np.arange(4096)).astype(np.float32)  # a quarter of Nyquist
    gains = np.zeros(9, np.float32)
    gains[2] = 6.0
    louder = data.filtered(tone, None, gains)
    gain = 20 * np.log10(np.std(louder[500:-500]) / np.std(tone[500:-500]))
    assert gain == pytest.approx(6.0, abs=0.1)


def test_responses_start_at_the_direct_sound(rooms: Path) -> None:
    responses = data.load_responses(rooms, 16000)
    assert len(responses) == 4
    assert all(np.argmax(np.abs(r)) <= 32 and np.abs(r).max() == 1 for r in responses)


def test_settings_inherit_and_are_overridden(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {width: 8, hop: 2}\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nmodel: {width: 9}\n")
    settings = config.load(tmp_path / "b.yaml", ["model.hop=3", "output=x"])
    assert settings == {"model": {"width": 9, "hop": 3}, "seed": 1, "output": "x"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.widht=3"], "unknown setting model.widht"),
        (["output"], "write key=value"),
        ([f"data.train={DATA / 'nothing'}"], "no such folder or manifest"),
        (["data.rooms=nothing.npz"], "not a bank of room responses"),
        (["data.train=..."], "data.train=...: while parsing"),
        (["data.train=12"], "data.train is text, not 12"),
        (["begin=???"], "begin is needed: give begin=..."),
        (["model=3"], "model is a group of settings, not 3"),
        (["model.latent_dim=x"], "model.latent_dim is a whole number, not 'x'"),
        (["model.encoder_dilations=[1, x]"], "encoder_dilations[1] is a whole number, not 'x'"),
        (["training.steps=abc"], "training.steps is a whole number, not 'abc'"),
        (["training.steps=1.5"], "training.steps is a whole number, not 1.5"),
        (["training.steps=true"], "training.steps is a whole number, not True"),
        (["training.hidden_rate=x"], "training.hidden_rate is a number or null, not 'x'"),
        (["training.anneal=maybe"], "training.anneal is true or false, not 'maybe'"),
        (["training.steps=0"], "training.steps must be at least 1"),
        (["training.steps_per_epoch=0"], "training.steps_per_epoch must be at least 1"),
        (["data.batch_size=0"], "data.batch_size must be at least 1"),
        (["data.valid_items=0"], "data.valid_items must be at least 1"),
        (["data.seconds=0"], "data.seconds must be positive"),
    ],
)
def test_bad_settings_give_one_line(
    overrides: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(CONFIGS[0]), *TINY, f"output={tmp_path}", *overrides]
    assert train.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_banks_are_of_one_rate(rooms: Path) -> None:
    with pytest.raises(InputError, match="room responses at 16000 Hz, not 8000"):
        data.load_responses(rooms, 8000)


def test_a_damaged_bank_is_named(rooms: Path, tmp_path: Path) -> None:
    whole = rooms.read_bytes()
    for damaged in (b"", b"nothing", whole[: len(whole) // 2]):
        (tmp_path / "bank.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"bank\.npz: not a bank of room responses"):
            data.load_responses(tmp_path / "bank.npz", 16000)


def test_speech_is_found_among_silence(tmp_path: Path) -> None:
    """Though most excerpts are silent, and even if all of it is faint."""
    tone = np.sin(np.arange(800))[None].astype(np.float32)
    for level in (0.1, 1e-3):
        wave = np.concatenate([level * tone, np.zeros((1, 80000), np.float32)], 1)
        audio.write(tmp_path / "a.wav", wave, 16000)
        corpus = Corpus(tmp_path, 16000)
        for seed in range(20):
            assert corpus.excerpt(np.random.default_rng(seed), 400).any()
    audio.write(tmp_path / "a.wav", np.zeros((1, 8000), np.float32), 16000)
    with pytest.raises(InputError, match=r"a\.wav: silent"):
        Corpus(tmp_path, 16000).excerpt(np.random.default_rng(0), 400)


def test_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("output: x\n")
    speech = ["data={train: x, valid: x}"]
    settings = config.load(tmp_path / "a.yaml", [*speech, "training.learning_rate=1e-4"])
    assert config.build(train.Experiment, settings).training.learning_rate == 1e-4
    settings = config.load(tmp_path / "a.yaml", [*speech, "training.hidden_rate=2e-4"])
    assert config.build(train.Experiment, settings).training.hidden_rate == 2e-4
    settings = config.load(tmp_path / "a.yaml", [*speech, "training.steps=1e3"])
    assert config.build(train.Experiment, settings).training.steps == 1000
    settings = config.load(tmp_path / "a.yaml", [*speech, "training.precision=32"])
    assert config.build(train.Experiment, settings).training.precision == 32
    with pytest.raises(InputError, match=r"training\.clip is a number, not 'much'"):
        settings = config.load(tmp_path / "a.yaml", [*speech, "training.clip=much"])
        config.build(train.Experiment, settings)


def test_reverberation_needs_a_bank(corpus: Corpus) -> None:
    with pytest.raises(InputError, match=r"data\.rooms"):
        Excerpts(corpus, 1, 0.5, Augmentation(reverberant=0.5))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_one_step_of_every_experiment(path: Path, rooms: Path, tmp_path: Path) -> None:
    overrides = [*TINY, f"data.rooms={rooms}", f"data.valid_rooms={rooms}", f"output={tmp_path}"]
    if begins := "begin" in config.load(path):
        with pytest.raises(InputError, match="begin is needed"):
            config.build(train.Experiment, config.load(path, overrides))
        overrides.append(f"begin={tmp_path}")
    experiment = config.build(train.Experiment, config.load(path, overrides))
    if begins:
        SpeechPrior(experiment.model).save_pretrained(tmp_path)
    task = train.PriorTask(experiment)
    before = [p.detach().clone() for p in task.model.parameters()]
    batch = next(iter(Speech(experiment, 16000).train_dataloader()))
    elbo = task.elbo(batch)
    elbo.loss(experiment.training.beta).mean().backward()
    optimizer = task.configure_optimizers()["optimizer"]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.model.parameters())
    optimizer.step()
    after = list(task.model.parameters())
    assert any(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_training_exports(rooms: Path, tmp_path: Path) -> None:
    arguments = [str(CONFIGS[0]), *TINY, f"data.rooms={rooms}", f"data.valid_rooms={rooms}"]
    assert train.main([*arguments, f"output={tmp_path}"]) == 0
    assert SpeechPrior.from_pretrained(tmp_path / "prior").config.width == 16
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["model"]["width"] == 16


def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(CONFIGS[0]), *TINY, f"data.rooms={rooms}", f"data.valid_rooms={rooms}"]
    arguments += ["training.anneal=false"]  # otherwise rates depend on all the steps
    check_resuming(train.main, arguments, tmp_path, monkeypatch)


def check_resuming(
    main: Callable[[list[str]], int],
    arguments: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two steps and two more, in a folder that was moved, against four."""
    taken, step = [], training.VariationalTask.training_step

    def counted(task: training.VariationalTask, batch: object, number: int) -> torch.Tensor:
        taken.append(task.global_step)
        return step(task, batch, number)

    monkeypatch.setattr(training.VariationalTask, "training_step", counted)
    here, there, whole = (folder / name for name in ("here", "there", "whole"))
    assert main([*arguments, f"output={here}", "training.steps=2"]) == 0
    here.rename(there)
    assert main([*arguments, f"output={there}", "training.steps=4"]) == 0
    assert taken == [0, 1, 2, 3]
    assert main([*arguments, f"output={whole}", "training.steps=4"]) == 0
    assert taken == [0, 1, 2, 3] * 2
    resumed, expected = (torch.load(run / "last.ckpt", weights_only=True) for run in (there, whole))
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(resumed[part], expected[part], rtol=0, atol=0)


def test_training_is_not_continued_with_other_settings(
    rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(CONFIGS[0]), *TINY, f"data.rooms={rooms}", f"output={tmp_path}"]
    assert train.main(arguments) == 0
    before = (tmp_path / "config.yaml").read_text()
    assert train.main([*arguments, "training.learning_rate=1e-4"]) != 0
    assert "begun with another training.learning_rate" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == before


def test_how_it_is_computed_may_change() -> None:
    begun = {"data": {"workers": 0, "seconds": 2.0}, "training": {"steps": 1, "devices": "auto"}}
    assert training._unchangeable(begun) == {"data.seconds": "2.0"}


def test_training_goes_on_from_the_latest_and_keeps_the_best(rooms: Path, tmp_path: Path) -> None:
    """At a rate at which it only becomes worse after the first step."""
    arguments = [*TINY, f"data.rooms={rooms}", f"output={tmp_path}", "training.steps=4"]
    wild = ["training.hidden_rate=null", "training.learning_rate=1000.0", "training.anneal=false"]
    assert train.main([str(CONFIGS[0]), *arguments, *wild]) == 0
    steps = {
        name: torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "last")
    }
    assert steps["last"] == 4
    assert steps["best"] < 4


@pytest.mark.parametrize("content", [b"", b"nothing", None])
def test_a_damaged_checkpoint_is_named(
    content: bytes | None, rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(CONFIGS[0]), *TINY, f"data.rooms={rooms}", f"output={tmp_path}"]
    assert train.main(arguments) == 0
    last = tmp_path / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2] if content is None else content)
    capsys.readouterr()
    assert train.main([*arguments, "training.steps=2"]) == 1
    error = capsys.readouterr().err
    assert f"{last}: damaged; copy another checkpoint of the run there" in error
    last.write_bytes((tmp_path / "best.ckpt").read_bytes())
    assert train.main([*arguments, "training.steps=2"]) == 0


def test_the_best_of_a_run_that_was_moved_stays(rooms: Path, tmp_path: Path) -> None:
    """At a rate at which it only becomes worse after the first step."""
    here, there = tmp_path / "here", tmp_path / "there"
    wild = ["training.hidden_rate=null", "training.learning_rate=1000.0", "training.anneal=false"]
    arguments = [str(CONFIGS[0]), *TINY, f"data.rooms={rooms}", *wild]
    assert train.main([*arguments, f"output={here}", "training.steps=2"]) == 0
    best = SpeechPrior.from_pretrained(here / "prior").state_dict()
    here.rename(there)
    for steps in (2, 3):
        assert train.main([*arguments, f"output={there}", f"training.steps={steps}"]) == 0
        found = SpeechPrior.from_pretrained(there / "prior").state_dict()
        torch.testing.assert_close(found, best, rtol=0, atol=0)


def test_steps_after_the_last_epoch_count(rooms: Path, tmp_path: Path) -> None:
    arguments = [*TINY, f"data.rooms={rooms}", f"output={tmp_path}"]
    steps = ["training.steps=2", "training.steps_per_epoch=5"]
    assert train.main([str(CONFIGS[0]), *arguments, *steps]) == 0
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2
    found = SpeechPrior.from_pretrained(tmp_path / "prior").state_dict()
    for name, value in found.items():
        trained = last["state_dict"][f"model.{name}"]
        torch.testing.assert_close(value, trained.half().float())  # as it is stored


def test_two_processes_train_together(rooms: Path, tmp_path: Path) -> None:
    arguments = [str(CONFIGS[0]), *TINY, f"data.rooms={rooms}"]
    check_two_processes("recipes.prior.train", arguments, tmp_path)
    assert SpeechPrior.from_pretrained(tmp_path / "two/prior").config.width == 16


EACH_KEEPS_ITS_WEIGHTS = """
import importlib, sys, torch
from recipes import training

def keep(task):
    torch.save(task.model.state_dict(), f"{task.trainer.default_root_dir}/{task.global_rank}.pt")

training.Task.on_train_end = keep
sys.exit(importlib.import_module(sys.argv[1]).main(sys.argv[2:]))
"""


def check_two_processes(program: str, arguments: list[str], folder: Path) -> None:
    """Both end with the same weights, which are not those of one process that trains alone."""
    script = folder / "script.py"
    script.write_text(EACH_KEEPS_ITS_WEIGHTS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    for name, launcher in (("one", []), ("two", torchrun)):
        (folder / name).mkdir()
        command = [sys.executable, *launcher, str(script), program, *arguments]
        command.append(f"output={folder / name}")
        done = subprocess.run(
            command,
            cwd=folder / name,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    alone, first, second = (
        torch.load(folder / name, weights_only=True)
        for name in ("one/0.pt", "two/0.pt", "two/1.pt")
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert any(not torch.equal(first[name], alone[name]) for name in first)


def test_several_devices_without_torchrun_export_once(rooms: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(EXPORTS_ARE_COUNTED)
    command = [sys.executable, str(script), str(CONFIGS[0]), *TINY, f"output={tmp_path / 'run'}"]
    done = subprocess.run(
        [*command, f"data.rooms={rooms}", "training.devices=2"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "exports").read_text() == "0"


EXPORTS_ARE_COUNTED = """
import os, sys
from fca.prior import SpeechPrior
from recipes.prior import train

def save(model, folder):
    with open("exports", "a") as file:
        file.write(os.environ.get("LOCAL_RANK", "0"))

SpeechPrior.save_pretrained = save
sys.exit(train.main(sys.argv[1:]))
"""


def test_schedules() -> None:
    options = training.Training(steps=100, warmup=10, beta=0.5, beta_ramp=10, beta_period=40)
    weights = [options.beta_at(step) for step in range(80)]
    assert weights[:40] == weights[40:]
    assert weights[0] == pytest.approx(0.05)
    assert max(weights) == weights[20] == 0.5
    rates = [options.rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0.0)


def test_optimisers_share_the_parameters_and_restore() -> None:
    torch.manual_seed(0)
    network = FrameNetwork(3, 8, 2, (1, 2))
    frames = torch.randn(1, 20, 3)

    def steps(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        for _ in range(2):
            optimizer.zero_grad()
            network(frames).square().mean().backward()
            optimizer.step()
        return [p.detach().clone() for p in network.parameters()]

    first = optim.muon(network, ContextBlock, 0.02, 1e-3, 0.0)
    held = [p for group in first.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in network.parameters()}
    assert len(held) == len(list(network.parameters()))
    assert [p.shape for p in first.parts[0].param_groups[0]["params"]] == [(8, 24), (8, 8)] * 2
    steps(first)
    weights, state = copy.deepcopy((network.state_dict(), first.state_dict()))
    expected = steps(first)
    network.load_state_dict(weights)
    second = optim.muon(network, ContextBlock, 0.5, 0.5, 0.0)
    second.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(steps(second), expected, strict=True))
    for group in second.param_groups:
        group["lr"] = 0.0
    frozen = steps(second)
    assert all(torch.equal(a, b) for a, b in zip(frozen, expected, strict=True))


def test_audio_of_any_rate_is_read(tmp_path: Path) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32)
    audio.write(tmp_path / "a.wav", wave, 8000)
    assert Corpus(tmp_path, 16000).seconds == pytest.approx(1.0)


def test_ceiling_orders_the_psd_estimates(
    make_mixture: Callable[..., Mixture], tmp_path: Path
) -> None:
    """True powers beat one NMF basis, which beats a flat PSD, and the filter separates."""
    mixture = make_mixture(seconds=2.0)
    for name, part in (("mixture", mixture.mixture), ("images", mixture.images)):
        audio.write(tmp_path / f"{name}.wav", part.reshape(-1, part.shape[-1]), 16000)
    item = Item(tmp_path, {"id": "a", "talkers": [0, 0], "sample_rate": 16000})
    stft = STFT(512, 128)
    spatial = ceilings.jointly_diagonal
    estimates = (ceilings.true_power, evaluate.nmf(1), torch.ones_like)
    scores = [float(evaluate.ceiling(item, e, stft, spatial).mean()) for e in estimates]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 8
    assert scores[0] > scores[1] + 1


def test_report_holds_the_figures() -> None:
    text = report.report(ROOT / "recipes/prior/results")
    assert text == (ROOT / "recipes/prior/RESULTS.md").read_text()


def test_models_are_kept_on_the_way(rooms: Path, tmp_path: Path) -> None:
    arguments = [*TINY, f"data.rooms={rooms}", f"output={tmp_path}", "training.steps=5"]
    assert train.main([str(CONFIGS[0]), *arguments, "training.keep_every=2"]) == 0
    kept = [SpeechPrior.from_pretrained(tmp_path / f"step-{n}") for n in (2, 4)]
    first, second = (next(model.parameters()) for model in kept)
    assert not torch.equal(first, second)
    assert len(list(tmp_path.glob("step-*"))) == 2
