"""Excerpts of clean speech that are made in the memory of the device that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fca import audio
from fca.errors import InputError
from recipes import config
from recipes.denoiser.refined import ResidentViews
from recipes.prior import data, train
from recipes.prior.data import LEAD_SECONDS, Augmentation, Corpus
from recipes.prior.resident import Batches, Resident
from recipes.speech import Speech

DATA = Path(__file__).parent / "data"
CPU = torch.device("cpu")
ALL = Augmentation(speed=0.1, eq_db=3.0, reverberant=0.5)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(DATA, 16000)


def responses() -> list[data.Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(length).astype(np.float32) for length in (50, 400)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_batches_are_reproducible_and_vary(corpus: Corpus) -> None:
    speech = Resident(corpus, ALL, responses(), CPU)
    batches = list(Batches(speech, 2, 3, 8000, (0, 1)))
    again = list(Batches(speech, 2, 3, 8000, (0, 1)))
    (other,) = Batches(speech, 1, 3, 8000, (0, 2))
    assert len(batches) == 2 and batches[0].shape == (3, 8000)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], other)
    assert torch.stack(batches).isfinite().all()


def test_without_augmentation_they_are_the_speech_itself(corpus: Corpus) -> None:
    waves = Resident(corpus, Augmentation(), [], CPU).draw(4, 4000, generator())
    signals = [signal.astype(np.float32) / 2**15 for signal in corpus.signals]
    for wave in waves.numpy():
        windows = [np.lib.stride_tricks.sliding_window_view(s, 32) for s in signals]
        begins = [np.flatnonzero(np.abs(w - wave[:32]).max(-1) < 1e-5) for w in windows]
        found = [s[b : b + 4000] for s, places in zip(signals, begins, strict=True) for b in places]
        padded = [np.pad(piece, (0, 4000 - len(piece))) for piece in found]
        assert any(np.abs(piece - wave).max() < 1e-5 for piece in padded)


def test_they_are_filtered_as_one_by_one(corpus: Corpus) -> None:
    """By the responses and gains that the same generator gives."""
    bank = responses()[1:]
    speech = Resident(corpus, Augmentation(eq_db=3.0, reverberant=1.0), bank, CPU)
    dry = Resident(corpus, Augmentation(), [], CPU)
    seen = speech.draw(2, 4000, generator())
    lead = round(LEAD_SECONDS * 16000)
    same = generator()
    plain = dry._at_random_speed(2, lead + 4000, same)
    gains = 3.0 * torch.randn(2, 1, 9, generator=same)[:, 0]
    for wave, own, knots in zip(seen, plain.numpy(), gains.numpy(), strict=True):
        expected = data.filtered(own, bank[0], knots)[lead:]
        np.testing.assert_allclose(wave.numpy(), expected, atol=1e-4 * np.abs(expected).max())


def test_a_change_of_speed_moves_a_tone(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(64000) / 16000)[None]
    audio.write(tmp_path / "tone.wav", tone.astype(np.float32), 16000)
    speech = Resident(Corpus(tmp_path, 16000), Augmentation(speed=0.1), [], CPU)
    peaks = set()
    for seed in range(6):
        (wave,) = speech.draw(1, 8000, generator(seed))
        peaks.add(2 * int(torch.fft.rfft(wave * torch.hann_window(8000)).abs().argmax()))
    assert len(peaks) > 2 and min(peaks) >= 898 and max(peaks) <= 1102


def test_silence_is_not_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, level in (("loud", 0.1), ("silent", 0.0)):
        wave = (level * rng.standard_normal((1, 32000))).astype(np.float32)
        audio.write(tmp_path / f"{name}.wav", wave, 16000)
    speech = Resident(Corpus(tmp_path, 16000), Augmentation(), [], CPU)
    waves = speech._loud(8, 1000, generator(3))
    first = speech._excerpts(9, 1000, generator(3))
    n_loud = int((first.square().mean(-1) > 0).sum())
    assert 0 < n_loud < 9
    assert int((waves.square().mean(-1) > 0).sum()) == min(n_loud, 8)


def test_reverberation_needs_a_bank(corpus: Corpus) -> None:
    with pytest.raises(InputError, match=r"give data\.rooms"):
        Resident(corpus, ALL, [], CPU)


def test_views_are_cut_alike(tmp_path: Path) -> None:
    for number, n_frames in enumerate((30, 40)):
        own, rest = torch.randn(2, 2, 3, 5, n_frames).half()
        saved = {"own": own, "rest": rest, "target": own[0] + 1}
        save_file({key: value.contiguous() for key, value in saved.items()}, tmp_path / f"{number}")
    views = ResidentViews(sorted(tmp_path.iterdir()), CPU)
    own, rest, target = views.draw(50, 20, generator())
    assert own.shape == rest.shape == target.shape == (50, 5, 20)
    firsts = (target.log10() - own.log10() - 1).abs().amax((1, 2)) < 1e-2
    assert 0 < int(firsts.sum()) < 50
    assert views.draw(1, 100, generator())[0].shape[-1] == 30


def test_an_experiment_can_have_it(tmp_path: Path) -> None:
    settings = config.load(
        sorted((Path(train.__file__).parent / "configs").glob("*.yaml"))[0],
        [
            f"data.train={DATA}",
            f"data.valid={DATA}",
            f"output={tmp_path}",
            "data.resident=true",
            "data.augmentation.reverberant=0",
            "data.seconds=0.5",
            "data.batch_size=2",
            "training.steps_per_epoch=3",
        ],
    )
    batches = Speech(config.build(train.Experiment, settings), 16000).train_dataloader()
    assert [batch.shape for batch in batches] == [(2, 8000)] * 3
