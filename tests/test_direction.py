"""Directions: plane waves, simulated rooms, arrays in a line, and what people write of arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE
from typer.testing import CliRunner

from fca import audio, plot
from fca.blocks import BlockSeparator
from fca.cli import app
from fca.direction import IN_LINE, Directions, steered_response
from fca.errors import InputError
from fca.positions import SPEED_OF_SOUND, parse_positions, read_positions
from fca.separator import Separator
from fca.simulate import Scene, mix, random_scene, room_responses

AROUND = np.arange(0.0, 360.0)
SQUARE = np.array([[0.05, 0.05, 0], [-0.05, 0.05, 0], [-0.05, -0.05, 0], [0.05, -0.05, 0]])


def plane_waves(positions: np.ndarray, azimuths: list[float], n_freq: int = 129) -> torch.Tensor:
    """Covariances (N, F, M, M) of plane waves: who is nearer to the source hears it earlier."""
    angle = np.radians(azimuths)
    toward = np.stack([np.cos(angle), np.sin(angle), 0 * angle])
    early = positions @ toward / SPEED_OF_SOUND
    omega = 2 * np.pi * np.linspace(0, RATE / 2, n_freq)
    steering = torch.from_numpy(np.exp(1j * omega[:, None] * early.T[:, None]))
    return steering[..., None] * steering[..., None, :].conj()


def apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Degrees between azimuths."""
    return np.abs((np.asarray(first) - np.asarray(second) + 180) % 360 - 180)


@pytest.mark.parametrize("seed", range(4))
def test_plane_waves_are_found_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-0.1, 0.1, (int(rng.integers(3, 9)), 3)) * [1, 1, 0]
    true = [float(x) for x in rng.integers(0, 360, 3)]
    response = steered_response(plane_waves(positions, true), positions, AROUND)
    np.testing.assert_array_equal(AROUND[response.argmax(1)], true)
    np.testing.assert_allclose(response.max(1), 1)


def test_frequencies_count_as_loud_as_the_source_is_there() -> None:
    covariance = plane_waves(SQUARE, [40.0])
    covariance[:, 20:] = 1e-8 * plane_waves(SQUARE, [200.0])[:, 20:]
    response = steered_response(covariance, SQUARE, AROUND)
    assert AROUND[response.argmax()] == 40


@pytest.fixture(scope="module")
def room(speech: np.ndarray) -> tuple[Scene, np.ndarray]:
    """Two talkers in a room of a reverberation time of 0.12 s, and what a square of it records."""
    pytest.importorskip("pyroomacoustics")
    rng, array = np.random.default_rng(1), SQUARE.tolist()
    scene = random_scene(rng, n_talkers=2, rt60=(0.12, 0.12), distance=(1, 2), array=array)
    responses = room_responses(scene)
    mixture = mix(speech[:2], responses, rng, level_db=(0, 0), snr_db=40).mixture
    return scene, mixture.astype(np.float32)


@pytest.mark.parametrize(("method", "n_iter"), [("auxiva", 15), ("fastmnmf2", 5), ("mnmf", 3)])
def test_talkers_of_a_room_are_found_within_five_degrees(
    room: tuple[Scene, np.ndarray], method: str, n_iter: int
) -> None:
    """Of rank-1, jointly diagonal and full-rank covariances."""
    scene, mixture = room
    separation = Separator(method, 2, n_iter=n_iter)(torch.from_numpy(mixture), RATE)
    away = np.array(scene.talkers) - np.mean(scene.mics, 0)
    positions = np.array(scene.mics) - np.mean(scene.mics, 0)
    response = steered_response(separation.covariances()[0], positions, AROUND)
    true = np.degrees(np.arctan2(away[:, 1], away[:, 0]))
    errors = apart(AROUND[response.argmax(1)][:, None], true)
    assert sorted(errors.argmin(1)) == [0, 1]
    assert errors.min(1).max() < 5


class TestDirectionsOfARecording:
    @pytest.fixture
    def wav(self, tmp_path: Path, speech: np.ndarray) -> Path:
        """Two talkers, at 40° and 250° of a square without a room; its third microphone is dead."""
        omega = 2j * np.pi * np.fft.rfftfreq(speech.shape[1], 1 / RATE)
        angle = np.radians([40.0, 250.0])
        early = SQUARE[:, :2] @ np.stack([np.cos(angle), np.sin(angle)]) / SPEED_OF_SOUND
        spectra = np.fft.rfft(speech[:2])[:, None] * np.exp(omega * early.T[..., None])
        mixture = np.fft.irfft(spectra.sum(0), speech.shape[1])
        mixture += 1e-4 * np.random.default_rng(0).standard_normal(mixture.shape)
        mixture[2] = 0
        audio.write(tmp_path / "talk.wav", mixture.astype(np.float32), RATE)
        return tmp_path / "talk.wav"

    def test_blocks_add_up(self, wav: Path) -> None:
        directions = Directions(SQUARE)
        for block in BlockSeparator(Separator("auxiva", 2, n_iter=20), 2.0)(wav):
            directions.add(block)
        assert len(directions.found) == 2
        assert apart(np.sort(np.array(directions.found)), [40, 250]).max() < 3
        assert directions.response.shape == (2, 360)

    def test_the_command_tells_them(self, tmp_path: Path, wav: Path) -> None:
        array = tmp_path / "array.txt"
        np.savetxt(array, SQUARE)
        command = ["separate", str(wav), "-o", str(tmp_path / "out"), "-m", "auxiva", "-i", "20"]
        result = CliRunner().invoke(app, [*command, "--array", str(array), "--plot"])
        assert result.exit_code == 0, result.output
        record = json.loads((tmp_path / "out" / "talk" / "separation.json").read_text())
        assert set(record["azimuths"]) == {"source1", "source2"}
        assert apart(sorted(record["azimuths"].values()), [40, 250]).max() < 3
        assert "directions.png" in record["files"]
        picture = tmp_path / "out" / "talk" / "directions.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
        array.write_text("0 0\n0 0.1")
        again = CliRunner().invoke(app, [*command, "--array", str(array), "--overwrite"])
        assert again.exit_code == 1
        assert "positions of 2 microphones, but 4 channels" in again.output

    def test_a_track_that_is_never_heard_is_nowhere(self, wav: Path) -> None:
        (block,) = BlockSeparator(Separator("auxiva", 2, n_iter=1), 10.0)(wav)
        block.track[1] = -1
        directions = Directions(SQUARE)
        directions.add(block)
        assert directions.found[1] is None
        figure = plot.plot_directions(
            directions.azimuths, directions.response, directions.found, ["ann", "bob"]
        )
        assert len(figure.axes[0].lines) == 2  # the other's response and his direction

    def test_clusters_have_no_covariances(self, wav: Path) -> None:
        directions = Directions(SQUARE)
        (block,) = BlockSeparator(Separator("cacgmm", 2, n_iter=1), 10.0)(wav)
        with pytest.raises(InputError, match="cacgmm does not describe"):
            directions.add(block)


@pytest.mark.parametrize("turn", [0.0, 70.0, 200.0])
def test_a_line_hears_one_side(turn: float) -> None:
    along = np.radians(turn)
    positions = np.outer(np.arange(4) * 0.04, [np.cos(along), np.sin(along), 0]) + 1
    directions = Directions(positions)
    assert directions.in_line
    covariance = plane_waves(positions, [turn + 30, turn - 30])
    response = steered_response(covariance, positions, directions.azimuths)
    found = directions.azimuths[response.argmax(1)]
    np.testing.assert_allclose(apart(found, turn + 30), 0, atol=1e-6)
    assert not Directions(SQUARE).in_line
    assert "mirrored" in IN_LINE


@pytest.mark.parametrize("positions", [[[0, 0, 0]], [[0, 0, 0], [0, 0, 1]], np.zeros((4, 3))])
def test_microphones_in_one_place(positions: list[list[float]]) -> None:
    with pytest.raises(InputError, match="at two places"):
        Directions(np.array(positions))


class TestPositions:
    @pytest.mark.parametrize(
        "text",
        [
            "0, 0, 0\n0.1, 0, 0\n",
            "0,0;0.1,0",
            "# a pair\nx,y,z\n0 0 0\n\n1e-1\t0 0",
            "[[0, 0], [0.1, 0]]",
        ],
    )
    def test_ways_to_write_them(self, text: str) -> None:
        np.testing.assert_array_equal(parse_positions(text), [[0, 0, 0], [0.1, 0, 0]])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "x, y or x, y, z"),
            ("1 2\n1 2 3", "x, y or x, y, z"),
            ("1 2 3 4", "x, y or x, y, z"),
            ("left right", "no position"),
            ("nan 0\n0 0", "finite"),
            ("[[0, 0], 1]", "no list"),
            ("[[0, 0]", "no list"),
        ],
    )
    def test_what_is_none(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            parse_positions(text)
        (tmp_path / "x.txt").write_text(text)
        with pytest.raises(InputError, match=r"x\.txt: .*" + message):
            read_positions(tmp_path / "x.txt")

    def test_a_byte_order_mark_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_text("0 0\n0.1 0\n", encoding="utf-8-sig")
        np.testing.assert_array_equal(
            read_positions(tmp_path / "x.txt"), parse_positions("0 0\n0.1 0")
        )

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"x\.txt: No such file"):
            read_positions(tmp_path / "x.txt")
