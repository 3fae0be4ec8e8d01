"""The demonstration and the recordings that are shipped for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fca import audio
from recipes.demo import __main__ as demo
from recipes.demo import make_mixture


def test_shipped_images_add_up_to_the_mixture_exactly() -> None:
    folder = demo.DATA / "two_talkers"
    mixture, image1, image2 = (
        audio.read(folder / f"{name}.flac")[0] for name in ("mixture", "image1", "image2")
    )
    np.testing.assert_array_equal(image1 + image2, mixture)
    assert np.abs(mixture).max() < 1


def test_examples_are_small() -> None:
    size = sum(path.stat().st_size for path in demo.DATA.rglob("*") if path.is_file())
    assert size < 5e6


def test_demo_separates_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(out=tmp_path)
    said = capsys.readouterr().out
    for example in demo.EXAMPLES:
        assert example.title in said
        for name in ("source1.wav", "source2.wav", "picture.png"):
            assert (tmp_path / example.name / name).is_file()
            assert str(tmp_path / example.name / name) in said
    gains = [float(line.split()[-2]) for line in said.splitlines() if "mean SDR" in line]
    floors = {"two_talkers": 12, "kinect": 0}
    for example, gain in zip(demo.EXAMPLES, gains, strict=True):
        assert gain > floors[example.name]


def test_make_mixture_needs_measured_azimuths(tmp_path: Path) -> None:
    path = tmp_path / "responses.npz"
    np.savez(path, rir=np.eye(2)[:, None].repeat(2, 1), azimuth_deg=[0.0, 90.0], sample_rate=16000)
    assert make_mixture.responses_at(path, [90.0], 16000)[0, 0].tolist() == [0, 1]
    with pytest.raises(SystemExit, match=r"azimuth 45\.0 was not measured"):
        make_mixture.responses_at(path, [45.0], 16000)
    with pytest.raises(SystemExit, match="16000 Hz, but the speech has 8000 Hz"):
        make_mixture.responses_at(path, [0.0], 8000)
