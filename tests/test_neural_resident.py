"""Mixtures that are made in the memory of the device that trains, against those made one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fca import audio
from fca.errors import InputError
from fca.neural import NeuralFCA
from fca.simulate import diffuse_coherence
from fca.simulate.images import TALKER_RMS, convolve
from recipes import config
from recipes.neural import resident, train
from recipes.neural.data import Bank, Conditions, Mixtures
from recipes.neural.resident import ResidentMixtures, diffuse_field
from recipes.prior.data import Corpus
from tests.test_recipe_neural import DATA, FIXED, ROOT, SMALL, TINY

CPU = torch.device("cpu")
TWO = Conditions((2, 2), (3, 3))
MICS = np.array([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.2, 0.05]], np.float32)


def write_bank(folder: Path, *shapes: tuple[int, int, int]) -> Bank:
    """Rooms (talkers, microphones, taps) of decaying noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, (n_talkers, n_mics, taps) in enumerate(shapes):
        decay = np.exp(-np.arange(taps) / 100)
        responses = (rng.standard_normal((n_talkers, n_mics, taps)) * decay).astype(np.float16)
        np.savez(folder / f"room-{number:06d}.npz", responses=responses, mics=MICS[:n_mics])
    return Bank(folder)


@pytest.fixture
def mixtures(tmp_path: Path) -> Mixtures:
    bank = write_bank(tmp_path / "bank", (3, 3, 700), (3, 3, 500))
    return Mixtures(Corpus(DATA, 16000), bank, None, Conditions((2, 3), (2, 3)))


def draw(mixtures: Mixtures, seed: int = 0, count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return ResidentMixtures(mixtures, CPU).draw(count, 8000, generator)


def test_are_reproducible_and_vary(mixtures: Mixtures) -> None:
    (first, _), (again, _), (other, _) = (draw(mixtures, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first[0, 0], other[0, 0])
    assert len(set(first.abs().sum((1, 2)).tolist())) == 6


def test_have_every_size_asked_for(mixtures: Mixtures) -> None:
    drawn = [draw(mixtures, seed, count=2) for seed in range(20)]
    assert {(wave.shape[1], int(n[0])) for wave, n in drawn} == {
        (m, n) for m in (2, 3) for n in (2, 3)
    }
    assert all(len(set(n_talkers.tolist())) == 1 for _, n_talkers in drawn)


def test_noise_has_its_level(mixtures: Mixtures) -> None:
    for diffuse in (0.0, 1.0):
        quiet, loud = (
            draw(replace(mixtures, conditions=replace(TWO, snr_db=(s, s), diffuse=diffuse)))[0]
            for s in (100.0, 10.0)
        )
        ratio = quiet.square().mean((1, 2)) / (loud - quiet).square().mean((1, 2))
        assert 10 * ratio.log10() == pytest.approx(np.full(6, 10.0), abs=0.01)


def test_the_first_talker_has_the_level_of_simulated_ones(mixtures: Mixtures) -> None:
    alone = replace(mixtures, conditions=replace(TWO, talkers=(1, 1), snr_db=(100, 100)))
    assert draw(alone)[0].square().mean((1, 2)).sqrt() == pytest.approx(
        np.full(6, TALKER_RMS), rel=1e-3
    )


def test_talkers_are_heard_through_their_rooms(mixtures: Mixtures) -> None:
    source = ResidentMixtures(mixtures, CPU)
    responses, mics = source._rooms(5, 2, 3, torch.Generator().manual_seed(0))
    rooms = [mixtures.bank.read(path) for path in mixtures.bank.paths]
    for heard, places in zip(responses.numpy(), mics.numpy(), strict=True):
        order = [next(k for k, mic in enumerate(MICS) if np.array_equal(mic, p)) for p in places]
        assert sorted(order) == [0, 1, 2]
        for response in heard:
            taps = [room.responses[n][order] for room in rooms for n in range(3)]
            assert any(np.allclose(response[:, : t.shape[1]], t, atol=1e-3) for t in taps)
    dry = torch.randn(5, 2, 1, 4000, generator=torch.Generator().manual_seed(1))
    expected = convolve(dry.numpy(), responses.numpy(), 4000)
    torch.testing.assert_close(
        resident._convolve(dry, responses).double(),
        torch.from_numpy(expected).double(),
        rtol=1e-4,
        atol=1e-4,
    )


def test_the_field_is_diffuse() -> None:
    """Its coherence over many frames is that of theory, within what as many frames scatter."""
    white = torch.randn(1, 3, 400 * 512, generator=torch.Generator().manual_seed(0))
    field = diffuse_field(white, torch.from_numpy(MICS)[None])
    spectra = torch.stft(field[0], 512, 512, window=torch.hann_window(512), return_complex=True)
    cross = torch.einsum("mft,kft->fmk", spectra, spectra.conj())
    level = cross.diagonal(dim1=1, dim2=2).real.sqrt()
    coherence = cross / level[:, :, None] / level[:, None]
    wanted = diffuse_coherence(MICS, np.fft.rfftfreq(512, 1 / 16000))
    assert float((coherence - torch.from_numpy(wanted)).abs().mean()) < 1 / 400**0.5
    assert field.square().mean() == pytest.approx(1.0, abs=0.02)


def test_recorded_noise_is_used(mixtures: Mixtures) -> None:
    loud = replace(mixtures, conditions=replace(TWO, snr_db=(-60, -60), diffuse=1.0))
    white, recorded = (draw(replace(loud, noise=noise))[0] for noise in (None, loud.speech))
    kurtosis = [(w**4).mean() / w.square().mean() ** 2 for w in (white, recorded)]
    assert kurtosis[0] == pytest.approx(3.0, abs=0.3)
    assert kurtosis[1] > 5


@pytest.mark.parametrize(
    ("shapes", "talkers", "message"),
    [
        ([(2, 3, 100), (3, 3, 100)], (2, 2), "as many talkers and microphones"),
        ([(2, 3, 100)], (3, 3), "2 talkers and 3 microphones, 3 and 2 are asked for"),
    ],
)
def test_rooms_that_do_not_fit_are_named(
    shapes: list[tuple[int, int, int]], talkers: tuple[int, int], message: str, tmp_path: Path
) -> None:
    bank = write_bank(tmp_path / "bank", *shapes)
    source = Mixtures(Corpus(DATA, 16000), bank, None, Conditions(talkers, (2, 2)))
    with pytest.raises(InputError, match=message):
        ResidentMixtures(source, CPU)


def test_can_be_trained_on(tmp_path: Path) -> None:
    write_bank(tmp_path / "bank", (2, 3, 300))
    rooms = [f"data.{name}={tmp_path / 'bank'}" for name in ("rooms", "valid_rooms")]
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    chosen = [*TINY, *SMALL, *FIXED, *rooms, "data.resident=true", f"output={tmp_path / 'run'}"]
    assert train.main([str(path), *chosen, "training.steps=2"]) == 0
    assert NeuralFCA.from_pretrained(tmp_path / "run/network").config.n_channels == 3


def test_recordings_are_not_made(tmp_path: Path) -> None:
    path = ROOT / "recipes/neural/configs/neural-fastfca.yaml"
    folder = tmp_path / "recordings"
    folder.mkdir()
    noise = np.random.default_rng(0).standard_normal((3, 16000)).astype(np.float32)
    audio.write(folder / "a.wav", 0.1 * noise, 16000)
    chosen = [*TINY, *SMALL, *FIXED, f"data.train={folder}", f"data.valid={folder}"]
    experiment = config.build(
        train.Experiment, config.load(path, [*chosen, "data.resident=true", "output=none"])
    )
    with pytest.raises(InputError, match=r"give data\.rooms"):
        train.MixtureData(experiment).train_dataloader()
