"""The denoising encoder: its degraded speech, its training, and as part of a source model."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader

from fca import audio
from fca.errors import InputError
from fca.inference.iterate import iterate
from fca.inference.unroll import elbo, rounds
from fca.linalg import abs2
from fca.methods import Method, get_method
from fca.model import Model
from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.prior import PriorConfig, SpeechPrior, networks
from fca.source import VAE
from fca.spatial import JointlyDiagonal
from fca.stft import STFT
from recipes import config
from recipes.denoiser import train
from recipes.denoiser.average import average
from recipes.denoiser.degrade import Leakage, degrade
from recipes.denoiser.refined import Views, Witness, find, refined
from recipes.denoiser.refined import main as refine
from recipes.prior import data
from tests.toy import complex_normal, random_mixture, random_psd, seeded

DATA = Path(__file__).parent / "data"
CONFIGS = sorted((Path(__file__).parent.parent / "recipes/denoiser/configs").rglob("*.yaml"))
NOTHING = Leakage(
    leak_db=(-300.0, -299.0),
    bass_db=0.0,
    ripple_db=0.0,
    missing=0.0,
    swaps=0.0,
    noise_db=(-300.0, -299.0),
)


@pytest.fixture(scope="module")
def prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("prior")
    config_ = PriorConfig(n_fft=16, hop=8, latent_dim=3, width=16, encoder_dilations=(1,))
    SpeechPrior(config_).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def denoiser(prior_folder: Path) -> Denoiser:
    torch.manual_seed(1)
    return Denoiser(DenoiserConfig(str(prior_folder), 16, (1,))).eval().requires_grad_(False)


def spectra(n_items: int = 3) -> Tensor:
    return complex_normal((n_items, 9, 20), seeded(), torch.float32)


def test_degrading_is_random_and_repeatable() -> None:
    outcomes = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outcomes.append(degrade(spectra(), Leakage(), 16000))
    first, again, other = outcomes
    assert torch.equal(first.own, again.own) and torch.equal(first.rest, again.rest)
    assert not torch.equal(first.own, other.own)
    assert torch.equal(first.clean, other.clean)
    assert all((d.own > 0).all() and d.own.isfinite().all() for d in outcomes)


def test_without_leakage_a_source_is_seen_as_it_is() -> None:
    degraded = degrade(spectra(), NOTHING, 16000)
    torch.testing.assert_close(degraded.own, degraded.clean)
    torch.testing.assert_close(degraded.clean.mean((1, 2)), torch.ones(3))


def test_what_is_missing_only_attenuates() -> None:
    torch.manual_seed(0)
    lacking = dataclasses.replace(NOTHING, missing=1.0)
    degraded = degrade(spectra(), lacking, 16000)
    assert bool((degraded.own <= degraded.clean * 1.001).all())
    assert not torch.allclose(degraded.own, degraded.clean, rtol=0.1)


def test_swapped_bands_hold_the_other_talker() -> None:
    torch.manual_seed(0)
    whole = dataclasses.replace(NOTHING, swaps=1.0, level_db=0.0)
    degraded = degrade(spectra(), whole, 16000)
    same = torch.isclose(degraded.own, degraded.clean, rtol=1e-4).all(-1)
    assert same.any() and not same.all()


def test_louder_input_gives_a_louder_psd_and_the_same_z(denoiser: Denoiser) -> None:
    own, rest = abs2(spectra(2))
    code, louder = denoiser.encode(own, rest), denoiser.encode(100 * own, 100 * rest)
    torch.testing.assert_close(code.z, louder.z)
    torch.testing.assert_close(100 * code.gain, louder.gain)


def test_rest_matters(denoiser: Denoiser) -> None:
    own, rest = abs2(spectra(2))
    assert not torch.allclose(denoiser.encode(own, rest).z, denoiser.encode(own, 9 * rest).z)


def test_saved_denoiser_is_the_same(denoiser: Denoiser, tmp_path: Path) -> None:
    denoiser.save_pretrained(tmp_path)
    loaded = Denoiser.from_pretrained(tmp_path)
    own, rest = abs2(spectra(2))
    before, after = denoiser.encode(own, rest).z, loaded.encode(own, rest).z
    torch.testing.assert_close(before, after, atol=2e-2, rtol=2e-2)
    names = {name.split(".")[0] for name in loaded.state_dict()}
    assert names == {"network"}


def test_the_prior_goes_where_the_denoiser_goes(prior_folder: Path) -> None:
    moved = Denoiser(DenoiserConfig(str(prior_folder), 16, (1,))).double()
    assert {p.dtype for p in moved.prior.parameters()} == {torch.float64}
    power = abs2(complex_normal((2, 9, 20), seeded(), torch.float64))
    assert moved.elbo(*power, power[0]).nll.dtype == torch.float64


def test_denoiser_that_is_not_one_is_refused(prior_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'speech prior' model, not a 'denoiser'"):
        Denoiser.from_pretrained(prior_folder)
    with pytest.raises(InputError, match="no model"):
        Denoiser.from_pretrained(tmp_path / "nothing")
    with pytest.raises(InputError, match="width of a network must be positive"):
        DenoiserConfig(width=0)


def method(denoiser: Denoiser, spatial: str) -> Method:
    options = {"denoiser": denoiser}
    update = "em" if spatial == "full rank" else "ip"
    return Method("test", spatial, "vae", update, "-", 2, spatial_steps=2, options=options)


@pytest.mark.parametrize("spatial", ["rank-1", "jointly diagonal", "full rank"])
@pytest.mark.parametrize(("n_channels", "n_talkers"), [(2, 2), (3, 2), (4, 3)])
def test_any_array_and_any_number_of_talkers(
    denoiser: Denoiser, spatial: str, n_channels: int, n_talkers: int
) -> None:
    mixture = random_mixture(n_freq=9, n_channels=n_channels).to(torch.complex64)
    model = method(denoiser, spatial).build(mixture, n_talkers, seeded())
    iterate(model, 2)
    images = model.images()
    assert images.shape[2] == n_talkers and images.isfinite().all()


def test_order_of_microphones_does_not_matter(denoiser: Denoiser) -> None:
    mixture = random_mixture(n_freq=9, n_channels=3).to(torch.complex64)
    demixing = complex_normal((1, 9, 3, 3), seeded(1), torch.float32)
    gains = random_psd((1, 9, 2, 3), seeded(2), torch.float32)
    estimates = []
    for order in ([0, 1, 2], [2, 0, 1]):
        spatial = JointlyDiagonal(mixture[:, :, order], demixing[..., order], gains)
        source = VAE(denoiser=denoiser)
        source.initialise(spatial.power[:, :, :2], seeded())
        model = Model(spatial, source, 2)
        iterate(model, 2)
        estimates.append(model.images()[:, :, :, [order.index(m) for m in range(3)]])
    torch.testing.assert_close(*estimates, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["deep-fca", "deep-fca-fast"])
def test_recordings_of_a_batch_do_not_meet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A product in bfloat16 rounds each recording of a batch otherwise than the same one alone.
    monkeypatch.setattr(networks, "processor_has_bfloat16", lambda: False)
    # Fewer frames of noise than there are for classes would magnify rounding.
    mixture = torch.cat([random_mixture(2049, 3, 48, dtype=torch.float32, seed=s) for s in (0, 1)])
    # The third sound of one would be an interferer; tests/test_interferer.py has these in batches.
    row = get_method(name).with_options(interferers=False)

    def images(part: Tensor) -> Tensor:
        model = row.build(part, 2, seeded())
        iterate(model, row.n_iter)
        return model.images(slice(0, 1))

    together = images(mixture)
    alone = torch.cat([images(mixture[:1]), images(mixture[1:])])
    assert together.isfinite().all()
    assert float((together - alone).abs().mean() / together.abs().mean()) < 1e-2


def test_another_window_than_the_denoisers_is_refused() -> None:
    row = get_method("deep-fca").with_options()
    with pytest.raises(InputError, match="the prior needs powers"):
        row.build(random_mixture(9).to(torch.complex64), 2, seeded())


def test_the_window_is_that_of_the_networks(denoiser: Denoiser) -> None:
    assert get_method("deep-fca").with_options(denoiser=denoiser).n_fft == 16


def fitted(denoiser: Denoiser, **options: object) -> Model:
    row = dataclasses.replace(method(denoiser, "jointly diagonal"), spatial_steps=1)
    mixture = random_mixture(n_freq=9, n_channels=3, dtype=torch.float32)
    model = row.with_options(**options).build(mixture, 2, seeded())
    assert isinstance(model, Model)
    return model


def test_the_first_round_is_that_of_the_start(denoiser: Denoiser) -> None:
    model = fitted(denoiser)
    start = model.source.psd()
    model.source.update(model.spatial.statistics)
    assert torch.equal(model.source.psd(), start)
    model.step()
    assert not torch.equal(model.source.psd(), start)


@pytest.mark.parametrize("strength", [0.5, 1.0, 8.0])
def test_bins_depart_from_the_decoded_spectra_and_the_cost_falls(
    denoiser: Denoiser, strength: float
) -> None:
    model = fitted(denoiser, refinement="em", strength=strength)
    costs = [model.cost()]
    for _ in range(6):
        model.refine()
        costs.append(model.cost())
    assert bool((torch.stack(costs).diff(dim=0) <= 1e-5).all()) and costs[-1] < costs[0]
    model.normalise()
    torch.testing.assert_close(model.cost(), costs[-1])


def test_a_strong_prior_holds_every_bin(denoiser: Denoiser) -> None:
    model = fitted(denoiser, refinement="em", strength=1e8)
    decoded = model.source.psd()
    model.source.refine(model.spatial.statistics)
    torch.testing.assert_close(model.source.psd(), decoded, rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match="strength of a prior must be positive"):
        fitted(denoiser, strength=0.0)
    with pytest.raises(InputError, match="unknown refinement 'mcmc'"):
        fitted(denoiser, refinement="mcmc")


def test_rounds_give_the_gradient_of_each_round_alone(prior_folder: Path) -> None:
    """Through its own spectra, with all else constant."""
    torch.manual_seed(2)
    network = Denoiser(DenoiserConfig(str(prior_folder), 16, (1,)))

    def gradient(loss: Tensor) -> Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, network.parameters())])

    bounds = [elbo(model).loss(1.0).sum() for model in rounds(fitted(network), 2)]
    total = gradient(sum(bounds, torch.zeros(())))
    first, second = (
        gradient(elbo(list(rounds(fitted(network), 2))[k]).loss(1.0).sum()) for k in (0, 1)
    )
    torch.testing.assert_close(total, first + second, rtol=1e-3, atol=1e-6)
    assert bool(first.abs().sum() > 0) and bool(second.abs().sum() > 0)


def test_average_of_two_denoisers(denoiser: Denoiser, prior_folder: Path, tmp_path: Path) -> None:
    other = Denoiser(denoiser.config)
    mean = average(copy.deepcopy(denoiser), other)
    for ours, theirs, both in zip(
        denoiser.parameters(), other.parameters(), mean.parameters(), strict=True
    ):
        torch.testing.assert_close(both, (ours + theirs) / 2)
    with pytest.raises(InputError, match="same sizes"):
        average(other, Denoiser(DenoiserConfig(str(prior_folder), 8, (1,))))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rooms") / "rooms.npz"
    data.main(path, rooms=1, seed=0)
    return path


def tiny(prior_folder: Path, rooms: Path, output: Path) -> list[str]:
    """Settings that make any experiment small; the prior's window sets the STFT."""
    return [
        f"data.train={DATA}",
        f"data.valid={DATA}",
        f"data.rooms={rooms}",
        f"data.valid_rooms={rooms}",
        f"model.prior={prior_folder}",
        f"output={output}",
        "data.seconds=0.2",
        "data.batch_size=2",
        "data.valid_items=2",
        "model.width=16",
        "training.steps=1",
        "training.steps_per_epoch=1",
        "training.accelerator=cpu",
    ]


def witness(denoiser: Denoiser) -> Witness:
    seeing = Witness(denoiser.config)
    seeing.load_state_dict(denoiser.state_dict())
    return seeing.eval().requires_grad_(False)


def test_views_and_spectra_of_the_last_rounds(denoiser: Denoiser) -> None:
    """Few steps leave the spectra near what the encoder infers from the last view."""
    mixture = 0.1 * torch.randn(2, 800, generator=seeded())
    views = refined(mixture, 2, witness(denoiser), n_steps=5)
    assert views["own"].shape == views["rest"].shape == (2, *views["target"].shape)
    assert views["target"].shape[:2] == (2, 9)
    own, rest, target = (10 ** views[name].float() for name in ("own", "rest", "target"))
    # The one talker is the rest of the other, to the digits that are kept.
    torch.testing.assert_close(own[:, 0], rest[:, 1], rtol=0.02, atol=0)
    code = denoiser.encode(own[-1], rest[-1])
    inferred = code.gain * denoiser.prior.decode(code.z)
    assert 0 < float((inferred / target).log().abs().mean()) < 1.0


def test_a_set_is_refined_once(denoiser: Denoiser, tmp_path: Path) -> None:
    mixture = 0.1 * torch.randn(2, 800, generator=seeded())
    (tmp_path / "set/a").mkdir(parents=True)
    audio.write(tmp_path / "set/a/mixture.wav", mixture.numpy(), 16000)
    row = {"id": "a", "condition": "two", "sample_rate": 16000, "talkers": [{}, {}]}
    (tmp_path / "set/manifest.jsonl").write_text(json.dumps(row) + "\n")
    denoiser.save_pretrained(tmp_path / "denoiser")
    command = (tmp_path / "set", tmp_path / "views", str(tmp_path / "denoiser"), 1)
    refine(*command)
    (path,) = find(tmp_path / "views")
    written = path.stat().st_mtime_ns
    refine(*command)
    assert path.stat().st_mtime_ns == written
    path.unlink()
    refine(*command, jobs=2)
    assert find(tmp_path / "views") == [path]
    assert Views([path], count=1, n_frames=20)[0][2].isfinite().all()
    with pytest.raises(InputError, match=r"views: made with .*'steps': 1.* not .*'steps': 2"):
        refine(*command[:3], 2)
    Denoiser(denoiser.config).save_pretrained(tmp_path / "denoiser")
    with pytest.raises(InputError, match="checksum of the denoiser"):
        refine(*command)
    with pytest.raises(InputError, match="make the set"):
        refine(tmp_path, tmp_path / "others", *command[2:])
    assert not (tmp_path / "others").exists()


def test_views_are_drawn_by_number(denoiser: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no views"):
        find(tmp_path)
    mixture = 0.1 * torch.randn(2, 800, generator=seeded())
    save_file(refined(mixture, 2, witness(denoiser), n_steps=1), tmp_path / "a.safetensors")
    views = Views(find(tmp_path), count=3, n_frames=20)
    assert [part.shape for part in views[0]] == [(9, 20)] * 3
    assert all(torch.equal(a, b) for a, b in zip(views[1], views[1], strict=True))
    assert not torch.equal(views[0][0], views[1][0])


def test_views_of_a_batch_are_as_long_as_the_shortest(tmp_path: Path) -> None:
    for n_frames in (12, 30):
        powers = {name: torch.zeros(2, 2, 9, n_frames).half() for name in ("own", "rest")}
        saved = {**powers, "target": torch.zeros(2, 9, n_frames).half()}
        save_file(saved, tmp_path / f"{n_frames}.safetensors")
    loader = DataLoader(Views(find(tmp_path), count=8, n_frames=20), 8)
    assert [part.shape for part in next(iter(loader))] == [(8, 9, 12)] * 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_one_step_of_every_experiment(
    path: Path, denoiser: Denoiser, prior_folder: Path, rooms: Path, tmp_path: Path
) -> None:
    arguments = tiny(prior_folder, rooms, tmp_path)
    if path.stem != "denoiser":
        with pytest.raises(InputError, match="begin is needed"):
            config.build(train.Experiment, config.load(path, arguments))
        Denoiser(DenoiserConfig(str(prior_folder), 16)).save_pretrained(tmp_path / "begin")
        arguments.append(f"begin={tmp_path / 'begin'}")
    if path.stem.startswith("refined"):
        with pytest.raises(InputError, match="views is needed"):
            config.build(train.Experiment, config.load(path, arguments))
        mixture = 0.1 * torch.randn(2, 8000, generator=seeded())
        save_file(refined(mixture, 2, witness(denoiser), 1), tmp_path / "one.safetensors")
        arguments.append(f"views={tmp_path}")
    experiment = config.build(train.Experiment, config.load(path, arguments))
    task = train.DenoiserTask(experiment)
    loaders = train.SpeechAndViews(experiment, task.prior).train_dataloader()
    if experiment.views is None:
        batch = next(iter(loaders))
    else:
        batch = {name: next(iter(loader)) for name, loader in loaders.items()}
    task.elbo(batch).loss(experiment.training.beta).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.model.parameters())
    before = [p.detach().clone() for p in task.model.parameters()]
    optimizer = task.configure_optimizers()["optimizer"]  # kept, as its schedule refers to it
    optimizer.step()
    after = task.model.parameters()
    assert any(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_training_exports_and_validates_alike(
    prior_folder: Path, rooms: Path, tmp_path: Path
) -> None:
    (path,) = (path for path in CONFIGS if path.stem == "denoiser")
    arguments = [str(path), *tiny(prior_folder, rooms, tmp_path)]
    assert train.main(arguments) == 0
    exported = Denoiser.from_pretrained(tmp_path / "denoiser")
    assert exported.config.width == 16
    experiment = config.build(train.Experiment, config.load(arguments[0], arguments[1:]))
    task = train.DenoiserTask(experiment).eval()
    waves = torch.randn(2, 800, generator=seeded())
    state = torch.random.get_rng_state()
    first = task.elbo(waves).kl
    assert torch.equal(first, task.elbo(waves).kl)
    assert torch.equal(state, torch.random.get_rng_state())
    assert STFT(task.prior.n_fft, task.prior.hop).n_freq == 9
