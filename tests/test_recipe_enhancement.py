"""The recipe that measures speech enhancement: its data, scores and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fca import audio
from fca.errors import InputError
from fca.prior import PriorConfig, SpeechPrior
from recipes.enhancement.data import SAMPLE_RATE, SNRS_DB, Recipe
from recipes.enhancement.evaluate import competitors, differences, run, tables

DATA = Path(__file__).parent / "data"


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Two kinds of noise, positive in their first half and negative in their second."""
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("hiss", "hum"):
        wave = rng.uniform(0.1, 0.9, 4 * SAMPLE_RATE).astype(np.float32)
        wave[2 * SAMPLE_RATE :] *= -1
        audio.write(folder / f"{name}.wav", wave, SAMPLE_RATE)
    return folder


def test_recordings_have_their_snr_and_half_of_the_noise(noise: Path) -> None:
    for part, kinds, sign in (("tune", {"hiss"}, 1), ("test", {"hiss", "hum"}, -1)):
        items = list(Recipe(DATA, noise, part=part, seconds=1.0, held_out="hum"))
        assert {item.kind for item in items} == kinds
        assert [item.snr_db for item in items] == [*SNRS_DB] * len(kinds)
        for item in items:
            added = item.noisy[0] - item.clean
            snr = 10 * np.log10(np.mean(item.clean**2) / np.mean(added**2))
            assert snr == pytest.approx(item.snr_db, abs=1e-6)
            assert item.held_out == (item.kind == "hum")
            if not item.held_out:
                assert bool((sign * added > 0).all())


def test_recordings_are_seeded(noise: Path) -> None:
    first, second, other = (
        next(iter(Recipe(DATA, noise, seconds=1.0, seed=seed, held_out="hum"))).noisy
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_the_held_out_kind_must_be_there(noise: Path) -> None:
    with pytest.raises(InputError, match="no recording 'rain' to hold out"):
        list(Recipe(DATA, noise, held_out="rain"))


def test_scores_and_tables(noise: Path, tmp_path: Path) -> None:
    pytest.importorskip("noisereduce")
    pytest.importorskip("pesq")
    torch.manual_seed(0)
    config = PriorConfig(n_fft=128, hop=32, latent_dim=4, width=16)
    SpeechPrior(config).save_pretrained(tmp_path / "prior")
    entries = competitors(str(tmp_path / "prior"), seed=0)
    items = list(Recipe(DATA, noise, seconds=1.0, part="tune", held_out="hum"))
    rows = run(items, entries)
    assert len(rows) == len(items) * len(entries)
    unprocessed = [row for row in rows if row["entry"] == "unprocessed"]
    assert [row["si_sdr"] for row in unprocessed] == pytest.approx(list(SNRS_DB), abs=2.0)
    text = tables(rows)
    for name in entries:
        assert text.count(f"| {name} |") == len(SNRS_DB) + 1


def test_differences_are_taken_recording_by_recording() -> None:
    scores = {"ours (default)": [3.0, 5.0, 4.0], "other": [1.0, 3.0, 2.0]}
    rows = [
        {"entry": entry, "si_sdr": value, "pesq": value, "stoi": 0.5, "held_out": False}
        for entry, values in scores.items()
        for value in values
    ]
    text = differences(rows)
    assert "| other | 2.00 ± 0.00 | 2.00 ± 0.00 | 0.00 ± 0.00 |" in text
    assert "Held-out" not in text
    kept = [{**row, "held_out": True, "kind": "hum"} for row in rows]
    assert differences(kept).count("| other |") == 2
