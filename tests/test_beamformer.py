"""The beamformer output, and dereverberation before separation."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE, MixtureMaker
from toy import complex_normal, random_psd, random_scm, seeded
from typer.testing import CliRunner

import fca
from fca import audio
from fca.beamforming import WHITE, mvdr_images
from fca.cli import app
from fca.clustering import CACGMM, random_masks
from fca.dereverberation import dereverberate
from fca.errors import InputError
from fca.frontend import prepare
from fca.inference.iterate import iterate
from fca.spatial.observation import Observation
from fca.stft import STFT


def test_beamformer_maximises_the_ratio_and_keeps_the_target() -> None:
    """Against the textbook filter ``Φn⁻¹a / aᴴΦn⁻¹a`` for a target of rank one."""
    steering = complex_normal((1, 2, 3), seeded(0), torch.float64)
    first = steering[..., :, None] * steering[..., None, :].conj()
    scm = torch.stack([first, random_scm((1, 2), 3, seeded(1))], dim=2)
    psd = random_psd((1, 2, 2, 5), seeded(2))
    mixture = complex_normal((1, 2, 3, 5), seeded(3), torch.float64)
    target = psd.mean(-1)[..., None, None] * scm
    power = target.sum(2).diagonal(dim1=-2, dim2=-1).real
    noise = target[:, :, 1] + WHITE * torch.diag_embed(power)
    whitened = torch.linalg.solve(noise, steering)
    filters = whitened / (steering.conj() * whitened).sum(-1, keepdim=True)
    source = (filters.conj()[..., None] * mixture).sum(2)
    images = mvdr_images(mixture, psd.mean(-1)[..., None, None] * scm, slice(1, 3))
    assert images.shape == (1, 2, 2, 2, 5)
    torch.testing.assert_close(images[:, :, 0, 0], steering[:, :, 1, None] * source)


def test_gains_of_microphones_do_not_matter_to_the_beamformer() -> None:
    gain = torch.tensor([1.0, 1e-3, 30.0], dtype=torch.float64)
    mixture = complex_normal((1, 2, 3, 5), seeded(0), torch.float64)
    covariances = torch.stack([random_scm((1, 2), 3, seeded(n)) for n in (1, 2)], dim=2)
    background = random_scm((1, 2), 3, seeded(3))
    level = gain[:, None] * gain
    plain = mvdr_images(mixture, covariances, slice(None), background)
    amplified = mvdr_images(
        gain[:, None] * mixture, level * covariances, slice(None), level * background
    )
    torch.testing.assert_close(amplified, gain[:, None] * plain)


@pytest.mark.parametrize("method", ["auxiva", "overiva", "fastmnmf2", "fca", "cacgmm"])
def test_every_kind_of_model_has_a_beamformer(make_mixture: MixtureMaker, method: str) -> None:
    mixture = make_mixture(2, 3, seconds=1.0).mixture
    options = {"method": method, "n_fft": 512, "n_iter": 3}
    result = fca.separate(mixture, RATE, output_filter="mvdr", **options)
    assert bool(torch.isfinite(result.sources).all())
    torch.testing.assert_close(result.images()[:, 0], result.sources)
    total = result.sources.sum(0) + result.residual
    np.testing.assert_allclose(total.numpy(), mixture[0], atol=1e-5)
    wiener = fca.separate(mixture, RATE, **options)
    assert torch.equal(wiener.sources, result.sources) == (method == "cacgmm")


def test_gradients_pass_the_beamformer(make_mixture: MixtureMaker) -> None:
    mixture = torch.from_numpy(make_mixture(2, 2, seconds=0.5).mixture).requires_grad_()
    result = fca.separate(mixture, RATE, method="auxiva", n_fft=512, n_iter=2, output_filter="mvdr")
    result.sources.square().sum().backward()
    assert mixture.grad is not None
    assert bool(torch.isfinite(mixture.grad).all())


def spectra(waves: torch.Tensor) -> torch.Tensor:
    """Dereverberated spectrograms (B, F, M, T) in the scale of the recordings."""
    spectrum, frontend = prepare(waves, RATE, STFT(512, 128), early=True)
    return spectrum * frontend.gain[..., None]


class TestDereverberation:
    def test_an_echo_of_noise_is_taken_out(self) -> None:
        pytest.importorskip("nara_wpe")
        source = torch.randn(1, 1, 2 * RATE, generator=seeded())
        delay = 800  # 50 ms, within the ten taps
        echo = torch.nn.functional.pad(source, (delay, 0))[..., :-delay]
        early = dereverberate(source + 0.6 * echo)
        error = (early - source).square().mean()
        assert early.shape == source.shape
        assert error < 0.5 * (0.6 * echo).square().mean()

    @pytest.mark.parametrize("factor", [1.0, -0.5])
    def test_copies_of_channels_do_no_harm(self, make_mixture: MixtureMaker, factor: float) -> None:
        """Channels 1 and 3 are multiples of 0 and 2, in one recording of the batch only."""
        pytest.importorskip("nara_wpe")
        room = torch.from_numpy(make_mixture(2, 4, seconds=2.0, rt60=0.3).mixture).float()
        pair = room[:2]
        copied = torch.stack([pair[0], factor * pair[0], pair[1], factor * pair[1]])
        (early, _), expected = (
            spectra(waves) for waves in (torch.stack([copied, room]), pair[None])
        )
        torch.testing.assert_close(early[:, ::2], expected[0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(early[:, 1::2], factor * early[:, ::2])

    def test_on_the_command_line(self, tmp_path: Path, make_mixture: MixtureMaker) -> None:
        pytest.importorskip("nara_wpe")
        recording = make_mixture(2, 2, seconds=1.0, rt60=0.3).mixture.astype(np.float32)
        audio.write(tmp_path / "x.wav", recording, RATE)
        options = ["--method", "auxiva", "-i", "2", "-O", "n_fft=512", "--output-filter", "mvdr"]
        written = []
        for folder, more in (("plain", []), ("early", ["--dereverberate"])):
            arguments = ["separate", str(tmp_path / "x.wav"), "-o", str(tmp_path / folder)]
            assert CliRunner().invoke(app, [*arguments, *options, *more]).exit_code == 0
            written.append(audio.read(tmp_path / folder / "x" / "source1.wav")[0])
        assert written[0].shape == written[1].shape
        assert not np.allclose(*written)

    def test_without_nara_wpe_it_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "nara_wpe.wpe", None)
        with pytest.raises(InputError, match="needs the extra 'dereverberation'"):
            fca.Separator(dereverberate=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_filter": "magic"}, "unknown output filter"),
        ({"output_filter": "mvdr", "reverberation": "ar"}, "goes with dereverberation"),
    ],
)
def test_what_makes_no_sense(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fca.Separator(**options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_beamformer_of_what_is_nearly_singular_does_not_explode(dtype: torch.dtype) -> None:
    """Of a pure tone the covariances have rank one, but for rounding."""
    tone = torch.sin(0.3 * torch.arange(RATE)) * torch.arange(1, 5)[:, None]
    stft = STFT(256, 64)
    spectrum = stft.analyse(tone.to(dtype)[None]).transpose(1, 2).contiguous()
    for seed in range(2):
        model = CACGMM(Observation(spectrum), random_masks(spectrum, 3, seeded(seed)))
        iterate(model, 10)
        images = model.images(slice(1)).permute(0, 2, 3, 1, 4)
        assert float(stft.synthesise(images, RATE).abs().max()) < 2


def test_noise_of_the_beamformer_has_the_background(make_mixture: MixtureMaker) -> None:
    """Three talkers of whom two are wanted: the third is in the background of OverIVA."""
    parts = make_mixture(3, 4, seconds=2.0, snr_db=30, rt60=0.1)
    scores = {}
    for output in ("wiener", "mvdr"):
        separator = fca.Separator("overiva", n_fft=2048, output_filter=output)
        sources = separator(parts.mixture, RATE).sources.numpy()
        alike = np.abs(np.corrcoef(sources, parts.images[:, 0]))[:2, 2:]
        scores[output] = np.sort(alike.max(0))[-2:].mean()
    assert scores["mvdr"] > scores["wiener"] - 0.05
