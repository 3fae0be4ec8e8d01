"""The speech prior: level, floor of the loss, gradients, files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fca import pretrained
from fca.errors import InputError
from fca.prior import PriorConfig, SpeechPrior, networks
from fca.prior.latents import LATENTS
from fca.prior.model import gaussian_nll, itakura_saito
from fca.prior.networks import FrameNetwork, shift
from fca.stft import STFT

SMALL = {"n_fft": 64, "hop": 16, "latent_dim": 4, "width": 24, "encoder_dilations": (1, 2)}


@pytest.fixture(params=LATENTS)
def prior(request: pytest.FixtureRequest) -> SpeechPrior:
    torch.manual_seed(0)
    return SpeechPrior(PriorConfig(latent=request.param, **SMALL)).eval()


@pytest.fixture
def power() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.empty(2, 33, 20).exponential_(generator=generator)


def test_shapes(prior: SpeechPrior, power: torch.Tensor) -> None:
    code = prior.encode(power)
    assert code.z.shape == (2, 4, 20)
    assert code.gain.shape == (2, 1, 1)
    assert prior.decode(code.z).shape == power.shape
    elbo = prior.elbo(power)
    assert elbo.nll.shape == elbo.kl.shape == elbo.per_bin.shape == (2,)
    assert prior.sample(7, 3).shape == (3, 33, 7)


def test_psd_is_equivariant_to_level(prior: SpeechPrior, power: torch.Tensor) -> None:
    base = prior.reconstruct(power)
    assert torch.equal(prior.reconstruct(power * 2.0**20), base * 2.0**20)
    torch.testing.assert_close(prior.reconstruct(power * 1e-7), base * 1e-7, rtol=1e-4, atol=0)


def test_items_of_a_batch_are_independent(prior: SpeechPrior, power: torch.Tensor) -> None:
    alone = prior.reconstruct(power[:1])
    torch.testing.assert_close(prior.reconstruct(power)[:1], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_silence_and_extreme_levels_are_finite(prior: SpeechPrior, value: float) -> None:
    power = torch.full((33, 5), value)
    psd = prior.reconstruct(power)
    assert bool(psd.isfinite().all())
    assert bool((psd > 0).all())
    assert bool(prior.elbo(power).per_bin.isfinite())


def test_loss_reaches_eulers_constant_on_gaussian_data() -> None:
    """Itakura-Saito divergence of |x|² from its true PSD, and no PSD does better on average."""
    generator = torch.Generator().manual_seed(0)
    psd = torch.logspace(-6, 2, 500)[:, None].expand(-1, 1000)
    x = torch.randn(psd.shape, dtype=torch.complex64, generator=generator) * psd.sqrt()
    power = x.abs().square()
    error = 4 * (np.pi**2 / 6 - 1) ** 0.5 / power.numel() ** 0.5  # var(e − log e) = π²/6 − 1
    assert float(itakura_saito(power, psd).mean()) == pytest.approx(np.euler_gamma, abs=error)
    nll = float(gaussian_nll(power, psd).mean())
    assert nll == pytest.approx(float(psd.log().mean()) + 1, abs=4 / power.numel() ** 0.5)
    for factor in (0.9, 1.1):
        assert float(gaussian_nll(power, factor * psd).mean()) > nll


def test_elbo_terms(prior: SpeechPrior, power: torch.Tensor) -> None:
    elbo = prior.elbo(power, sample=False)
    code = prior.encode(power)
    expected = gaussian_nll(power / code.gain, prior.decode(code.z)).mean((1, 2))
    torch.testing.assert_close(elbo.nll, expected)
    torch.testing.assert_close(-elbo.per_bin, elbo.nll + elbo.kl / 33)
    torch.testing.assert_close(elbo.loss(0.0), elbo.nll)


def test_a_given_gain_replaces_the_mean(prior: SpeechPrior, power: torch.Tensor) -> None:
    gain = torch.tensor([2.0, 0.5]).reshape(2, 1, 1)
    code = prior.encode(power, gain)
    assert torch.equal(code.gain, gain)
    assert torch.equal(prior.decode(code.z, gain), prior.decode(code.z) * gain)


def test_gradients(power: torch.Tensor) -> None:
    torch.manual_seed(0)
    prior = SpeechPrior(PriorConfig(**{**SMALL, "n_fft": 8, "width": 6})).double()
    power = power[:1, :5, :6].double().requires_grad_()
    z = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prior.reconstruct, power)
    assert torch.autograd.gradcheck(prior.decode, z)
    loss = lambda p: prior.elbo(p, sample=False).loss(0.5)  # noqa: E731
    assert torch.autograd.gradcheck(loss, power)


def test_a_prior_learns_two_spectra() -> None:
    """Frames of two PSDs that differ by 20 dB: the divergence comes within 0.05 of its floor."""
    torch.manual_seed(0)
    low = torch.cat([torch.full((16,), 1.0), torch.full((17,), 0.01)])
    which = torch.randint(2, (8, 1, 40))
    psd = torch.where(which == 0, low[:, None], low.flip(0)[:, None])
    prior = SpeechPrior(PriorConfig(**SMALL))
    optimizer = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(150):
        power = psd * torch.empty_like(psd).exponential_()
        loss = prior.elbo(power).loss(1.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    power = psd * torch.empty_like(psd).exponential_()
    divergence = itakura_saito(power, prior.reconstruct(power)).mean()
    assert float(divergence.detach()) < np.euler_gamma + 0.05


def test_shift_moves_frames_and_fills_with_zeros() -> None:
    frames = torch.arange(1.0, 6.0).reshape(1, 5, 1)
    assert shift(frames, 2).flatten().tolist() == [0, 0, 1, 2, 3]
    assert shift(frames, -1).flatten().tolist() == [2, 3, 4, 5, 0]
    assert shift(frames, 7).flatten().tolist() == [0] * 5


def test_receptive_field_is_that_of_the_dilations() -> None:
    torch.manual_seed(0)
    network = FrameNetwork(3, 8, 2, (1, 3, 0))
    frames = torch.randn(1, 30, 3)
    changed = frames.clone()
    changed[:, 15] += 1
    moved = (network(changed) - network(frames)).detach().abs().sum(-1)[0] > 0
    assert moved.nonzero().flatten().tolist() == list(range(11, 20))


@pytest.mark.parametrize("able", [True, False])
def test_fixed_weights_work_in_bfloat16_where_the_processor_does(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(networks, "processor_has_bfloat16", lambda: able)
    torch.manual_seed(0)
    network = FrameNetwork(3, 32, 2, (1, 3, 0))
    frames = torch.randn(1, 30, 3)
    exact = network(frames).detach()  # weights that learn are in full precision
    network.requires_grad_(False)
    fixed = network(frames)
    assert fixed.dtype == torch.float32
    torch.testing.assert_close(fixed, exact, rtol=0.02, atol=0.02)
    assert torch.equal(fixed, exact) is not able
    double = network.double()(frames.double())
    torch.testing.assert_close(double.float(), exact, rtol=1e-5, atol=1e-5)


def test_a_torch_that_cannot_tell_of_exports_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.compiler, "is_exporting", raising=False)
    network = FrameNetwork(3, 32, 2, (1,)).requires_grad_(False)
    assert network(torch.randn(1, 30, 3)).shape == (1, 30, 2)


def test_matrices_in_bfloat16_are_those_of_mixed_precision_and_follow_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks, "processor_has_bfloat16", lambda: True)
    torch.manual_seed(0)
    network = FrameNetwork(3, 32, 2, (1, 3, 0)).requires_grad_(False)
    frames = torch.randn(1, 30, 3)
    with torch.inference_mode():
        network(frames)
    for scale in (1.0, 2.0):
        for parameter in network.parameters():
            parameter.mul_(scale)
        expected = frames
        with torch.autocast("cpu", torch.bfloat16):
            for layer in network:
                expected = layer(expected)
        assert torch.equal(network(frames), expected.float())
    frames.requires_grad_()
    network(frames).sum().backward()
    assert float(frames.grad.abs().sum()) > 0
    assert len(network.state_dict()) == len(list(network.parameters()))


def test_wrong_stft_is_refused(prior: SpeechPrior) -> None:
    with pytest.raises(InputError, match="needs powers"):
        prior.encode(torch.ones(1, 65, 10))


def test_files_round_trip(prior: SpeechPrior, power: torch.Tensor, tmp_path: Path) -> None:
    prior.save_pretrained(tmp_path / "a")
    loaded = SpeechPrior.from_pretrained(tmp_path / "a")
    assert loaded.config == prior.config
    assert not any(p.requires_grad for p in loaded.parameters())
    torch.testing.assert_close(  # half precision
        loaded.reconstruct(power), prior.reconstruct(power), rtol=0.05, atol=1e-4
    )
    loaded.save_pretrained(tmp_path / "b")
    again = SpeechPrior.from_pretrained(tmp_path / "b")
    assert torch.equal(again.reconstruct(power), loaded.reconstruct(power))


def _flip_a_byte(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(content))


def _change(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


DAMAGE = {
    "checksum is wrong": _flip_a_byte,
    "No such file": lambda folder: (folder / "model.safetensors").unlink(),
    "shipped": lambda folder: (folder / "config.json").unlink(),
    "not JSON": lambda folder: (folder / "config.json").write_text("{"),
    "not the configuration": lambda folder: (folder / "config.json").write_text("[]"),
    "not a 'speech prior'": lambda folder: _change(folder, kind="other"),
    "do not fit": lambda folder: _change(folder, model={**SMALL, "width": 25}),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damaged_files_give_one_line(message: str, tmp_path: Path) -> None:
    SpeechPrior(PriorConfig(**SMALL)).save_pretrained(tmp_path)
    DAMAGE[message](tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        SpeechPrior.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="no model 'nothing-of-that-name'"):
        SpeechPrior.from_pretrained("nothing-of-that-name")


def test_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InputError, match="here; the hub needs the extra 'hub'"):
        SpeechPrior.from_pretrained("someone/some-prior")


@pytest.fixture(scope="module")
def shipped() -> SpeechPrior:
    return SpeechPrior.from_pretrained("speech-prior")


@pytest.fixture(scope="module")
def speech_power(shipped: SpeechPrior, speech: np.ndarray) -> torch.Tensor:
    stft = STFT(shipped.config.n_fft, shipped.config.hop)
    return stft.analyse(torch.from_numpy(speech)).abs().square()


def test_shipped_prior_is_small_and_named() -> None:
    assert "speech-prior" in pretrained.names()
    folder = pretrained.resolve("speech-prior")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    assert (folder / "README.md").is_file()


def test_shipped_prior_describes_unseen_speech(
    shipped: SpeechPrior, speech_power: torch.Tensor
) -> None:
    """The divergence of unseen speech, as in the results, far below that from a stationary PSD."""
    code = shipped.encode(speech_power)
    power = speech_power / code.gain
    floor = shipped.config.floor
    divergence = itakura_saito(power, shipped.decode(code.z), floor).mean()
    stationary = itakura_saito(power, power.mean(-1, keepdim=True) + floor, floor).mean()
    assert 0.3 < float(divergence) < 0.9
    assert float(stationary) > float(divergence) + 1


def test_shipped_prior_prefers_speech_to_its_scrambled_frequencies(
    shipped: SpeechPrior, speech_power: torch.Tensor
) -> None:
    order = torch.randperm(shipped.config.n_freq, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        of_speech = shipped.elbo(speech_power, sample=False).per_bin
        scrambled = shipped.elbo(speech_power[:, order], sample=False).per_bin
    assert bool((of_speech > scrambled + 1).all())


def test_shipped_prior_is_equivariant_to_level(
    shipped: SpeechPrior, speech_power: torch.Tensor
) -> None:
    base = shipped.reconstruct(speech_power)
    assert torch.equal(shipped.reconstruct(speech_power * 2.0**-30), base * 2.0**-30)
