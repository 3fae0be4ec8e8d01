"""Neural FCA and FastFCA: networks, their place in the table, and training through the rounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import random_mixture, seeded
from typer.testing import CliRunner

from fca import audio
from fca.cli import app
from fca.errors import InputError
from fca.inference.unroll import elbo, unroll
from fca.linalg import pack_outer, weighted_covariance
from fca.memo import computed_anew
from fca.methods import Method, get_method
from fca.model import Model
from fca.neural import NeuralConfig, NeuralFCA
from fca.neural.blocks import BLOCKS, Depthwise
from fca.neural.encoder import features, sweep
from fca.prior import PriorConfig, SpeechPrior
from fca.separator import Separator
from fca.spatial import JointlyDiagonal
from fca.spatial.motion import Moving

F, M, T = 17, 3, 24
CONFIG = NeuralConfig(
    n_channels=M, n_fft=32, latent_dim=4, n_blocks=3, n_layers=2, width=16, hidden=24, levels=True
)
ROWS = {"neural-fca": False, "neural-fastfca": True}
each_row = pytest.mark.parametrize("name", ROWS)
each_block = pytest.mark.parametrize("block", BLOCKS)


def network(name: str = "neural-fca", block: str = "dilated", **changes: object) -> NeuralFCA:
    torch.manual_seed(0)
    config = replace(CONFIG, diagonal=ROWS[name], block=block, **changes)
    model = NeuralFCA(config)
    with torch.no_grad():  # untrained networks say too little for tests otherwise
        model.decoder[-1].weight.mul_(20.0)
        model.decoder[-1].bias.fill_(4.0)
        nn.init.normal_(model.encoder.posterior.weight, std=0.1)
    return model


@pytest.fixture
def mixture() -> Tensor:
    return random_mixture(F, M, T, batch=2, dtype=torch.float32)


@each_row
def test_posteriors_begin_as_the_prior(name: str, mixture: Tensor) -> None:
    untrained = NeuralFCA(replace(CONFIG, diagonal=ROWS[name]))
    row = get_method(name).with_options(weights=untrained)
    assert float(built(row, mixture).source.divergence().detach().abs().max()) == 0.0


@pytest.mark.parametrize("concentration", [None, 0.5, 200.0])
def test_dirichlet_posteriors_begin_as_the_prior(
    mixture: Tensor, concentration: float | None
) -> None:
    sizes = {"latent": "dirichlet", "concentration": concentration}
    untrained = NeuralFCA(replace(CONFIG, **sizes))  # type: ignore[arg-type]
    posterior = untrained.latent.posterior(untrained.encode(mixture).raw)
    assert float(posterior.kl().abs().max()) < 1e-5


def test_posteriors_on_the_sphere_begin_with_directions(mixture: Tensor) -> None:
    untrained = NeuralFCA(replace(CONFIG, latent="von-mises-fisher"))
    raw = untrained.encode(mixture).raw
    norm = untrained.latent.posterior(raw).mean.norm(dim=-1)
    torch.testing.assert_close(norm, torch.ones_like(norm))
    (gradient,) = torch.autograd.grad(raw.square().sum(), [untrained.encoder.posterior.weight])
    assert gradient.isfinite().all()


def built(row: Method, mixture: Tensor, seed: int = 1) -> Model:
    torch.manual_seed(seed)
    model = row.build(mixture, 2, seeded())
    assert isinstance(model, Model)
    return model


def gradients(
    row: Method, parameters: list[nn.Parameter], mixture: Tensor, n_iter: int, lean: bool
) -> tuple[Tensor, list[Tensor]]:
    with computed_anew():  # sums in the same order, kept or not
        model = unroll(built(row, mixture), n_iter, lean=lean)
        loss = elbo(model).loss(0.5).mean()
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


@each_row
@each_block
def test_loss_reaches_every_parameter(name: str, block: str, mixture: Tensor) -> None:
    model = network(name, block)
    row = get_method(name).with_options(weights=model, stochastic=True)
    _, found = gradients(row, list(model.parameters()), mixture, row.n_iter, False)
    named = [key for key, _ in model.named_parameters()]
    for key, gradient in zip(named, found, strict=True):
        assert gradient.isfinite().all(), key
        assert gradient.abs().max() > 0, key


@each_row
@pytest.mark.parametrize("update", ["em", "ip", "iss"])
def test_lean_unrolling_has_the_same_gradients(name: str, update: str, mixture: Tensor) -> None:
    spatial = "full rank" if update == "em" else "jointly diagonal"
    model = network(name).double()
    row = replace(get_method(name), spatial=spatial, update=update)
    row = row.with_options(weights=model, stochastic=True)
    results = []
    for lean in (False, True):
        model.encoder.lean = lean
        wide = mixture.to(torch.complex128)
        results.append(gradients(row, list(model.parameters()), wide, 3, lean))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def kept(row: Method, mixture: Tensor, n_iter: int, lean: bool) -> int:
    """Bytes of what is kept for the backward pass."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        unroll(built(row, mixture), n_iter, lean=lean)
    return sum(held.values())


@each_row
def test_lean_unrolling_keeps_less_in_memory(name: str, mixture: Tensor) -> None:
    """Where it is not lean, every iteration adds as much as the first."""
    row = get_method(name).with_options(weights=network(name), stochastic=True)
    plain, lean = ([kept(row, mixture, n, lean) for n in (2, 6)] for lean in (False, True))
    assert lean[1] - lean[0] < 0.2 * (plain[1] - plain[0])


def test_lean_unrolling_of_an_encoding_prior(mixture: Tensor) -> None:
    """Where the networks act in every round, their random draws are repeated, too."""
    torch.manual_seed(0)
    prior = SpeechPrior(PriorConfig(n_fft=32, hop=8, latent_dim=3, width=16))
    row = get_method("fastmnmf-dp").with_options(
        prior=prior, inference="encode", stochastic=True, start="identity"
    )
    results = [gradients(row, list(prior.parameters()), mixture, 3, k) for k in (False, True)]
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    assert all(gradient.abs().max() > 0 for gradient in results[0][1])


@each_row
def test_gradients_of_the_last_rounds_only(name: str, mixture: Tensor) -> None:
    model = network(name)
    row = get_method(name).with_options(weights=model)
    parameters = list(model.decoder.parameters())

    def found(tracked: int | None) -> tuple[Tensor, ...]:
        loss = elbo(unroll(built(row, mixture), 3, tracked=tracked)).loss(1.0).mean()
        return loss.detach(), *torch.autograd.grad(loss, parameters)

    whole, last = found(None), found(1)
    torch.testing.assert_close(whole[0], last[0])
    torch.testing.assert_close(found(3), whole)
    assert not torch.allclose(whole[1], last[1])


def test_unrolling_is_what_the_loop_does_and_leaves_the_model(mixture: Tensor) -> None:
    row = get_method("neural-fca").with_options(weights=network())
    model = built(row, mixture)
    before = model.cost()
    unrolled = unroll(model, 2)
    torch.testing.assert_close(model.cost(), before)
    for _ in range(2):
        model.step()
    torch.testing.assert_close(unrolled.cost(), model.cost())


@each_row
def test_bound_is_its_definition(name: str, mixture: Tensor) -> None:
    """Against the mixtures' log-density by inverse and determinant and the KL's definition."""
    row = get_method(name).with_options(weights=network(name))
    model = unroll(built(row, mixture), 2)
    psd, scm = model.source.psd(), model.spatial.scm()
    y = torch.einsum("bfnt,bfnij->bftij", psd.to(scm.dtype), scm)
    y = y + 1e-6 * torch.eye(M) * (name == "neural-fca")
    x = mixture.transpose(2, 3)[..., None]
    energy = (x.mH @ torch.linalg.inv(y) @ x).real[..., 0, 0]
    nll = (torch.linalg.slogdet(y).logabsdet + energy).mean((1, 2))
    q = model.source._posterior
    normal = torch.distributions.Normal(q.mean, (0.5 * q.log_variance).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    bound = elbo(model)
    torch.testing.assert_close(bound.nll, nll, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        bound.loss(2.0), nll + 2 * kl.sum((1, 2, 3)) / (F * T), rtol=1e-3, atol=1e-3
    )


def test_full_rank_starts_from_the_identity(mixture: Tensor) -> None:
    row = get_method("neural-fca").with_options(weights=network())
    eye = torch.eye(M, dtype=mixture.dtype).expand(2, F, 3, M, M)
    torch.testing.assert_close(built(row, mixture).spatial.scm(), eye, rtol=0, atol=2e-3)


def test_covariances_move_with_sources_that_a_network_infers(mixture: Tensor) -> None:
    """Amortised inference of talkers who walk (Bando et al. 2023), and gradients through it."""
    weights = network()
    row = get_method("neural-fca").with_options(weights=weights, forgetting=0.9)
    model = built(row, mixture)
    assert isinstance(model.spatial, Moving)
    moved = unroll(model, 3)
    assert torch.all(moved.cost() < model.cost())
    first, second = moved.spatial.inner.scm().chunk(2, dim=2)
    assert (first - second).norm() > 0.01 * first.norm()
    elbo(moved).loss(0.5).mean().backward()
    assert all(weight.grad.isfinite().all() for weight in weights.parameters())
    assert weights.decoder[0].weight.grad.norm() > 0


def test_fast_model_takes_its_basis_from_the_network(mixture: Tensor) -> None:
    model = network("neural-fastfca")
    spatial = built(get_method("neural-fastfca").with_options(weights=model), mixture).spatial
    assert isinstance(spatial, JointlyDiagonal)
    encoding = model.encode(mixture)
    torch.testing.assert_close(spatial.demixing, encoding.demixing)
    torch.testing.assert_close(spatial.gains.mean(-1), torch.ones(2, F, 3))
    outputs = spatial.power.mean((1, 2, 3))
    torch.testing.assert_close(outputs, torch.ones(2))


def test_sweep_lowers_the_auxiliary_function(mixture: Tensor) -> None:
    """``Σ q_mᴴ V_m q_m − 2 log |det Q|`` (Scheibler & Ono 2020), at the best common scale."""
    weight = torch.rand(2, F, M, T, generator=seeded(1)) + 0.1
    covariance = weighted_covariance(pack_outer(mixture), weight)

    def cost(demixing: Tensor) -> Tensor:
        form = torch.einsum("bfmi,bfmij,bfmj->bfm", demixing, covariance, demixing.conj()).real
        log_det = torch.linalg.slogdet(demixing).logabsdet.mean(1)
        return M * form.sum(-1).mean(1).log() - 2 * log_det

    eye = torch.eye(M, dtype=mixture.dtype).expand(2, F, M, M)
    moved = sweep(eye, mixture, weight)
    assert bool((cost(moved) < cost(eye) - 0.01).all())
    torch.testing.assert_close((moved @ mixture).abs().square().mean((1, 2, 3)), torch.ones(2))


def test_features_see_phase_and_level_of_the_first_microphone_alone(mixture: Tensor) -> None:
    seen = features(mixture)
    assert seen.shape == (2, T, (2 * M - 1) * F)
    rotated = mixture * torch.exp(1j * torch.rand(2, F, 1, T, generator=seeded()))
    torch.testing.assert_close(features(rotated), seen, rtol=1e-4, atol=1e-4)
    louder = torch.cat([mixture[:, :, :1], 3.0 * mixture[:, :, 1:]], dim=2)
    torch.testing.assert_close(features(louder), seen, rtol=1e-4, atol=1e-4)


@each_block
@pytest.mark.parametrize("n_frames", [1, 7, 16])
def test_blocks_keep_the_number_of_frames(block: str, n_frames: int) -> None:
    frames = torch.randn(2, n_frames, 8, generator=seeded())
    assert BLOCKS[block](8, 12, 3)(frames).shape == frames.shape


@pytest.mark.parametrize("dilation", [1, 4])
def test_depthwise_filter_equals_the_convolution(dilation: int) -> None:
    torch.manual_seed(0)
    layer = Depthwise(5, 3, dilation)
    frames = torch.randn(2, 20, 5)
    weight = layer.weight.flip(0).T[:, None]  # a convolution, where torch correlates
    expected = nn.functional.conv1d(
        frames.mT, weight, layer.bias, padding=dilation, dilation=dilation, groups=5
    ).mT
    torch.testing.assert_close(layer(frames), expected)


@each_row
def test_saved_networks_come_back(name: str, mixture: Tensor, tmp_path: Path) -> None:
    model = network(name).half().float().requires_grad_(False)
    model.save_pretrained(tmp_path)
    again = NeuralFCA.from_pretrained(tmp_path)
    assert again.config == model.config
    psd = [
        built(get_method(name).with_options(weights=w), mixture).source.psd()
        for w in (model, tmp_path)
    ]
    torch.testing.assert_close(psd[0], psd[1])


def test_decoder_of_a_prior() -> None:
    sizes = {"n_fft": 64, "latent_dim": 6, "width": 10, "decoder_dilations": (1,)}
    prior = SpeechPrior(PriorConfig(hop=16, **sizes))
    model = NeuralFCA(CONFIG.with_decoder(prior))
    model.decoder.load_state_dict(prior.decoder.state_dict())
    z = torch.randn(2, 6, 9, generator=seeded())
    torch.testing.assert_close(model.decode(z), prior.decode(z))
    odd = SpeechPrior(PriorConfig(hop=32, **sizes))
    with pytest.raises(InputError, match="a quarter of its window"):
        CONFIG.with_decoder(odd)


class TestSeparation:
    @each_row
    def test_separates_into_the_mixture(self, name: str) -> None:
        model = network(name, n_fft=512)
        wave = 0.1 * np.random.default_rng(0).standard_normal((M, 8000)).astype(np.float32)
        separator = Separator(name, 2, weights=model)
        assert separator.stft.n_fft == 512
        result = separator(wave, 16000)
        assert result.sources.shape == (2, 8000)
        assert np.isfinite(result.sources.numpy()).all()
        assert result.cost[-1][0] == (5 if name == "neural-fca" else 0)

    @pytest.mark.parametrize(
        ("n_sources", "n_channels", "message"),
        [
            (3, M, "for 2 talkers, not 3"),
            (2, M + 1, f"for {M} microphones, the recording has {M + 1}"),
        ],
    )
    def test_sizes_are_fixed(self, n_sources: int, n_channels: int, message: str) -> None:
        wave = np.random.default_rng(0).standard_normal((n_channels, 8000)).astype(np.float32)
        with pytest.raises(InputError, match=message):
            Separator("neural-fca", n_sources, weights=network())(wave, 16000)

    def test_another_window_is_refused(self) -> None:
        wave = np.random.default_rng(0).standard_normal((M, 8000)).astype(np.float32)
        with pytest.raises(InputError, match="n_fft=32"):
            Separator("neural-fca", weights=network(), n_fft=64)(wave, 16000)

    def test_weights_are_needed_and_must_fit(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no weights ship"):
            Separator("neural-fca")
        with pytest.raises(InputError, match="no model"):
            Separator("neural-fca", weights=str(tmp_path))
        with pytest.raises(InputError, match="not a 'neural FCA'"):
            Separator("neural-fca", weights="speech-prior")
        with pytest.raises(InputError, match="choose start=network"):
            row = get_method("neural-fca").with_options(weights=network(), start="identity")
            row.build(random_mixture(F, M, T), 2, seeded())
        with pytest.raises(InputError, match="with a network"):
            get_method("ilrma").with_options(start="network").build(random_mixture(), 2, seeded())

    def test_command_takes_a_folder_of_weights(self, tmp_path: Path) -> None:
        network("neural-fastfca").save_pretrained(tmp_path / "weights")
        wave = 0.1 * np.random.default_rng(0).standard_normal((M, 4000)).astype(np.float32)
        audio.write(tmp_path / "talk.wav", wave, 16000)
        arguments = ["separate", str(tmp_path / "talk.wav"), "-o", str(tmp_path / "out")]
        arguments += ["--method", "neural-fastfca"]
        refused = CliRunner().invoke(app, arguments)
        assert refused.exit_code == 2
        assert "no weights ship" in " ".join(refused.output.split())
        arguments += ["--weights", str(tmp_path / "weights"), "--refine", "2", "--json"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert '"iterations": 2' in done.stdout
        assert (tmp_path / "out/talk/source2.wav").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block": "magic"}, "unknown block 'magic'"),
        ({"n_channels": 1}, "microphones at least two"),
        ({"width": 0}, "must be positive"),
        ({"n_fft": 30}, "multiple of four"),
        ({"latent": "magic"}, "unknown latent"),
    ],
)
def test_bad_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NeuralFCA(replace(CONFIG, **changes))


def test_stochastic_sources_are_drawn_anew(mixture: Tensor) -> None:
    row = get_method("neural-fca").with_options(weights=network(), stochastic=True)
    psds = [built(row, mixture, seed).source.psd() for seed in (1, 1, 2)]
    assert torch.equal(psds[0], psds[1])
    assert not torch.equal(psds[0], psds[2])
