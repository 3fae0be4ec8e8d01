"""Speech enhancement: the Enhancer, its start, and the command line."""

from __future__ import annotations

import inspect
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

import fca
from fca import audio
from fca.cli import app
from fca.cli.enhance import enhance
from fca.enhancer import DEFAULT_INFERENCE, INFERENCES, Enhancer
from fca.errors import InputError
from fca.evaluation.metrics import si_sdr
from fca.inference.start import STARTS
from fca.neural.denoiser import Denoiser, DenoiserConfig
from fca.prior import PriorConfig, SpeechPrior
from fca.simulate import diffuse_noise
from fca.source import DenoisedSpeech
from fca.source.base import floored
from fca.spatial.base import ObservedStatistics
from fca.spatial.observation import Observation

RATE = 16000
SNR_DB = 5.0
MICS = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])
each_inference = pytest.mark.parametrize("inference", INFERENCES)


@pytest.fixture(scope="module")
def prior() -> SpeechPrior:
    """Untrained: what is not about quality holds for any weights."""
    torch.manual_seed(0)
    config = PriorConfig(n_fft=128, hop=32, latent_dim=4, width=16, decoder_dilations=(1,))
    return SpeechPrior(config).eval().requires_grad_(False)


def networks(inference: str, prior: SpeechPrior) -> dict[str, Denoiser | SpeechPrior]:
    """What an inference takes, untrained."""
    if inference != "denoise":
        return {"prior": prior}
    torch.manual_seed(1)
    denoiser = Denoiser(DenoiserConfig(width=16, dilations=(1,)), prior)
    return {"denoiser": denoiser.eval().requires_grad_(False)}


@pytest.fixture(scope="module")
def toy(prior: SpeechPrior, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same prior as a folder."""
    folder = tmp_path_factory.mktemp("prior")
    prior.save_pretrained(folder)
    return str(folder)


def noisy_speech(speech: np.ndarray, n_channels: int, seed: int = 0) -> np.ndarray:
    """One talker, 2 s, equal at all microphones but for a delay, in diffuse white noise."""
    rng = np.random.default_rng(seed)
    clean = np.stack([np.roll(speech[0, : 2 * RATE], 2 * m) for m in range(n_channels)])
    noise = diffuse_noise(rng.standard_normal(clean.shape), MICS[:n_channels])
    noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-SNR_DB / 20)
    return (clean + noise).astype(np.float32)


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@each_inference
def test_speech_and_noise_sum_to_the_recording(
    prior: SpeechPrior, speech: np.ndarray, inference: str, n_channels: int
) -> None:
    noisy = torch.from_numpy(noisy_speech(speech, n_channels)[:, :RATE])
    reference = n_channels - 1
    options = {"n_iter": 2, "reference_channel": reference, **networks(inference, prior)}
    result = fca.enhance(noisy, RATE, inference=inference, **options)
    assert result.speech.shape == result.noise.shape == (RATE,)
    torch.testing.assert_close(result.speech + result.noise, noisy[reference])
    assert result.sample_rate == RATE
    assert result.cost[-1][0] == 2 + INFERENCES[inference].n_refine
    assert result.images().shape == (1, n_channels, RATE)
    torch.testing.assert_close(result.images()[0, reference], result.speech, rtol=0, atol=1e-5)


@each_inference
def test_a_seed_decides_everything(prior: SpeechPrior, speech: np.ndarray, inference: str) -> None:
    noisy = noisy_speech(speech, 1)[:, :RATE]
    options = {"n_iter": 2, **networks(inference, prior)}
    first, second, other = (
        Enhancer(inference, seed=seed, **options)(noisy).speech for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    random = inference != "denoise"  # which draws nothing
    assert torch.equal(first, other) is not random


def test_recordings_of_a_batch_are_denoised_as_if_alone(
    prior: SpeechPrior, speech: np.ndarray
) -> None:
    noisy = torch.from_numpy(noisy_speech(speech, 2)[:, :RATE])
    enhancer = Enhancer("denoise", **networks("denoise", prior))
    both = enhancer(torch.stack([noisy, 4 * noisy.flip(-1)])).speech
    torch.testing.assert_close(both[0], enhancer(noisy).speech, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(both[1], enhancer(4 * noisy.flip(-1)).speech, rtol=1e-3, atol=1e-4)


def test_a_denoiser_sees_the_noise_as_the_rest(prior: SpeechPrior) -> None:
    denoiser = networks("denoise", prior)["denoiser"]
    generator = torch.Generator().manual_seed(0)
    power = torch.rand(1, 65, 2, 20, generator=generator) + 0.1
    source = DenoisedSpeech(denoiser)
    source.initialise(power, generator)
    speech, noise = power.transpose(1, 2).split(1, dim=1)
    code = denoiser.encode(speech, noise)
    expected = floored(prior.decode(code.z) * code.gain)
    torch.testing.assert_close(source.psd()[:, :, 0], expected[:, 0], rtol=1e-4, atol=1e-6)

    other = torch.rand(1, 65, 2, 20, generator=generator) + 0.1
    for _ in range(2):  # the first update keeps the z of the start
        source.update(lambda psd: ObservedStatistics(psd, other))
    speech, noise = other.transpose(1, 2).split(1, dim=1)
    code = denoiser.encode(speech, noise)
    expected = floored(prior.decode(code.z) * code.gain)
    torch.testing.assert_close(source.psd()[:, :, 0], expected[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_channels", [1, 2])
def test_gradient_lowers_the_cost(prior: SpeechPrior, speech: np.ndarray, n_channels: int) -> None:
    noisy = noisy_speech(speech, n_channels)[:, :RATE]
    trace = Enhancer("gradient", prior, n_iter=20)(noisy).cost
    costs = [cost for _, cost in trace]
    assert all(later < earlier for earlier, later in pairwise(costs))


def test_level_and_batch(prior: SpeechPrior, speech: np.ndarray) -> None:
    noisy = torch.from_numpy(noisy_speech(speech, 1)[:, :RATE])
    enhancer = Enhancer("encode", prior)
    alone = enhancer(noisy).speech
    louder = enhancer(noisy * 8).speech
    torch.testing.assert_close(louder, 8 * alone, rtol=1e-3, atol=1e-5)
    both = enhancer(torch.stack([noisy, noisy.flip(-1)]))
    assert both.speech.shape == (2, RATE)
    # The noise's random factors are drawn for the whole batch: the second draw is another one.
    assert float(si_sdr(alone.numpy(), both.speech[0].numpy())) > 20


@pytest.mark.parametrize(("n_channels", "floor"), [(1, 4.0), (3, 5.0)])
def test_white_noise_is_reduced(speech: np.ndarray, n_channels: int, floor: float) -> None:
    """Stationary white noise at 5 dB is the easiest case, for which a good Wiener filter gains 5 dB
    or more; several microphones add spatial filtering."""
    noisy = noisy_speech(speech, n_channels)
    result = fca.enhance(noisy, RATE)
    clean = speech[0, : 2 * RATE]
    gain = si_sdr(clean, result.speech.numpy()) - si_sdr(clean, noisy[0])
    assert gain > floor


def test_start_finds_the_noise_floor_and_diagonalises() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 5, 2, 400)
    noise = torch.randn(shape, dtype=torch.complex64, generator=generator)
    active = (torch.arange(400) % 100 < 40).float()
    source = 10 * active * torch.randn(1, 5, 1, 400, dtype=torch.complex64, generator=generator)
    mixing = torch.randn(1, 5, 2, 1, dtype=torch.complex64, generator=generator)
    mixing = mixing / mixing.abs().square().mean(2, keepdim=True).sqrt()
    start = STARTS["noise floor"](Observation(mixing @ source + noise), 2, generator)
    speech_power, noise_power = start.power.unbind(2)
    # Of unit power; the start overestimates on purpose, by less than 6 dB.
    assert 0.8 < float(noise_power.mean()) < 4
    assert float(speech_power[..., active > 0].mean()) == pytest.approx(100, rel=0.2)
    assert float(speech_power[..., active == 0].mean()) < 1
    gains = start.gains()
    torch.testing.assert_close(gains.sum(-1), torch.ones(1, 5, 2))
    assert bool((gains[:, :, 0].amax(-1) > 0.95).all())  # of rank one
    direction = torch.linalg.inv(start.demixing)
    strongest = gains[:, :, 0].argmax(-1)[..., None, None].expand(-1, -1, 2, 1)
    column = direction.gather(3, strongest)
    cosine = (column.mH @ mixing).abs()[..., 0, 0] / 2
    assert bool((cosine > 0.95).all())


@pytest.mark.parametrize(
    ("waves", "message"),
    [
        (torch.zeros(1, RATE), "silent"),
        (torch.full((1, RATE), float("nan")), "NaN or infinite"),
        (torch.randn(1, 100), "too short"),
        (torch.randn(RATE), "expected \\(channels, samples\\)"),
        (torch.zeros(0, RATE), "got \\(0, 16000\\)"),
        (torch.randn(20, RATE), "at most 16"),
    ],
)
def test_bad_recordings_get_one_line(prior: SpeechPrior, waves: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        Enhancer("encode", prior)(waves, RATE)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inference": "magic"}, "unknown inference"),
        ({"n_iter": 0}, "at least one iteration"),
        ({"n_bases": 0}, "n_bases must be at least 1"),
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"colour": "blue"}, "no option 'colour'"),
        ({"prior": "nowhere"}, "no model 'nowhere'"),
        ({"n_fft": 512}, "n_fft cannot be chosen"),
        ({"hop": 256}, "hop cannot be chosen"),
        ({"n_sources": 2}, "n_sources cannot be chosen"),
        ({"method": "fastmnmf2"}, "method cannot be chosen"),
        ({"inference": "denoise"}, "has the prior of its denoiser"),
        ({"inference": "denoise", "prior": None, "denoiser": "nowhere"}, "no model 'nowhere'"),
    ],
)
def test_bad_options_get_one_line(
    prior: SpeechPrior, speech: np.ndarray, options: dict, message: str
) -> None:
    noisy = noisy_speech(speech, 1)[:, :RATE]
    with pytest.raises(InputError, match=message) as error:
        fca.enhance(noisy, RATE, **{"inference": "gradient", "prior": prior, **options})
    assert "\n" not in str(error.value)


def test_a_dead_channel_is_left_out(prior: SpeechPrior, speech: np.ndarray) -> None:
    noisy = noisy_speech(speech, 2)[:, :RATE]
    noisy[1] = 0
    result = Enhancer("encode", prior)(noisy)
    assert bool(result.speech.isfinite().all())
    assert not bool(result.images()[0, 1].any())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["enhance", *(str(argument) for argument in arguments)])


def test_command_writes_speech_noise_and_a_record(
    tmp_path: Path, speech: np.ndarray, toy: str
) -> None:
    noisy = noisy_speech(speech, 1)[:, :RATE]
    audio.write(tmp_path / "talk.wav", noisy, RATE)
    out = tmp_path / "out"
    arguments = [tmp_path / "talk.wav", "-o", out, "--prior", toy, "--noise", "--json"]
    result = run(*arguments, "--inference", "encode", "-O", "n_bases=2")
    assert result.exit_code == 0, result.stderr
    names = ["enhanced.wav", "enhancement.json", "noise.wav"]
    assert sorted(path.name for path in (out / "talk").iterdir()) == names
    parts = [audio.read(out / "talk" / name)[0] for name in names if name.endswith(".wav")]
    np.testing.assert_allclose(parts[0] + parts[1], noisy, atol=1e-6)
    record = json.loads((out / "talk" / "enhancement.json").read_text())
    assert json.loads(result.stdout) == record
    assert record["method"] == "vae-nmf"
    assert record["settings"]["inference"] == "encode"
    again = run(*arguments, "--inference", "encode", "-O", "n_bases=2")
    assert json.loads(again.stdout)["status"] == "skipped"
    other = run(*arguments, "--inference", "gradient")
    assert other.exit_code == 1
    assert "results of other settings" in other.stderr


def test_command_and_library_have_the_same_defaults() -> None:
    parameters = inspect.signature(enhance).parameters
    assert parameters["inference"].default == DEFAULT_INFERENCE
    assert parameters["prior"].default is inspect.signature(Enhancer).parameters["prior"].default


def test_command_says_what_is_wrong(tmp_path: Path, speech: np.ndarray, toy: str) -> None:
    audio.write(tmp_path / "talk.wav", noisy_speech(speech, 2)[:, :RATE], RATE)
    (tmp_path / "text.wav").write_text("hello")
    out = tmp_path / "out"
    files = [tmp_path / "talk.wav", tmp_path / "text.wav"]
    fast = ["--prior", toy, "--inference", "encode"]
    result = run(*files, "-o", out, *fast)
    assert result.exit_code == 1
    assert "text.wav: cannot be read as audio" in result.stderr
    assert [path.name for path in out.iterdir()] == ["talk"]
    for wrong in (
        ["--prior", "nowhere"],
        ["--inference", "magic"],
        ["--inference", "denoise"],
        ["-O", "colour=blue"],
    ):
        result = run(files[0], "-o", tmp_path / "other", *fast, *wrong)
        assert result.exit_code == 2
        assert "Traceback" not in result.output


def test_enhancement_takes_no_activities(speech: np.ndarray) -> None:
    with pytest.raises(InputError, match="enhancement takes no activities"):
        Enhancer().guided(noisy_speech(speech, 1), torch.ones(1, 10), RATE)
