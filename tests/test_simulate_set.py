"""`fca simulate`: sets of mixtures that keep their promises, continue, and can be scored."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fca import audio
from fca.cli import app
from fca.errors import InputError
from fca.simulate.corpora import draw_noise, measured_responses
from fca.simulate.sets import Condition, Corpora, build
from fca.simulate.stored import Item, load

SPEECH = Path(__file__).parent / "data"
SHORT = ["--seconds", 1, 1.2, "--rt60", 0.15, 0.2, "--sample-rate", 16000]
NAN, INF = float("nan"), float("inf")


def fca(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(result: Result) -> str:
    """What a command says on standard error, out of its box and in one line."""
    return " ".join(result.stderr.replace("│", " ").split())


def simulate(out: Path, *options: object) -> list[Item]:
    result = fca("simulate", SPEECH, "-o", out, *SHORT, *options)
    assert result.exit_code == 0, result.output
    return load(out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "two"
    simulate(folder, "-c", 2, "--snr", 10, 20, "--level", 3, 6, "--seed", 5)
    return folder


def test_mixtures_are_as_asked(made: Path) -> None:
    for item in load(made):
        mixture, images = item.read("mixture"), item.read("images")
        assert images.shape == (2, 4, item.row["samples"])
        assert 16000 <= item.row["samples"] <= 19200
        noise = mixture - images.sum(0)
        snr = 10 * np.log10(np.mean(images.sum(0) ** 2) / np.mean(noise**2))
        assert 10 <= snr <= 20
        assert snr == pytest.approx(item.row["snr_db"], abs=0.1)
        level = 10 * np.log10(np.mean(images[1] ** 2) / np.mean(images[0] ** 2))
        assert 3 <= level <= 6
        assert item.row["level_db"] == pytest.approx([0, level], abs=0.01)
        speakers = {talker["speaker"] for talker in item.row["talkers"]}
        assert len(speakers) == 2  # each file of a flat folder is a speaker


@pytest.mark.parametrize("count", [1, 2, 4, 6, 8])
@pytest.mark.parametrize("seconds", [5, 60])
def test_excerpts_of_a_noise_are_independent(tmp_path: Path, count: int, seconds: int) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "noise").mkdir()
    recording = 0.1 * rng.standard_normal(seconds * 16000)
    audio.write(tmp_path / "noise" / "hiss.wav", recording, 16000)
    corpora = Corpora(SPEECH, tmp_path / "noise")
    excerpts, name = draw_noise(corpora, count, 32000, rng)
    assert name == "hiss.wav"
    assert excerpts.shape == (count, 32000)
    # 32000 independent samples estimate a correlation with a standard deviation of 0.006.
    np.testing.assert_allclose(np.atleast_2d(np.corrcoef(excerpts)), np.eye(count), atol=0.03)


def apart(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Difference of each talker's images (talkers, channels, samples), relative to them."""
    return np.linalg.norm(others - images, axis=(1, 2)) / np.linalg.norm(images, axis=(1, 2))


def test_talkers_walk(tmp_path: Path) -> None:
    options = ["-c", 1, "--seed", 1, "--distance", 0.7, 1.0]
    still, walking = (
        simulate(tmp_path / str(speed), "--speed", speed, *options)[0] for speed in (0, 30)
    )
    assert walking.row["recipe"]["asked"]["speed"] == 30
    assert walking.row["room"] == still.row["room"]  # whose talkers are where the walk begins
    here, there = still.read("early"), walking.read("early")
    tenth = here.shape[-1] // 10
    assert apart(here[..., :tenth], there[..., :tenth]).max() < 0.2
    assert apart(here[..., -tenth:], there[..., -tenth:]).min() > 0.4
    np.testing.assert_allclose(there.std((1, 2)), here.std((1, 2)), rtol=0.05)
    with pytest.raises(InputError, match="talkers walk in simulated rooms"):
        Condition(count=1, speed=10, measured=True)


def test_talkers_sway(tmp_path: Path) -> None:
    options = ["-c", 1, "--seed", 1, "--seconds", 2, 2, "--distance", 0.7, 1.0]
    still, swaying = (
        simulate(tmp_path / str(sway), "--sway", sway, *options)[0] for sway in (0, 0.02)
    )
    assert swaying.row["recipe"]["asked"]["sway"] == 0.02
    assert swaying.row["room"] == still.row["room"]
    changed = apart(still.read("early"), swaying.read("early"))
    assert changed.min() > 0.01 and changed.max() < 0.6


def test_processes_do_not_change_a_set_and_it_can_grow(made: Path, tmp_path: Path) -> None:
    options = ["--snr", 10, 20, "--level", 3, 6, "--seed", 5]
    first = simulate(tmp_path, "-c", 1, *options)
    stamp = (first[0].folder / "mixture.wav").stat().st_mtime_ns
    grown = simulate(tmp_path, "-c", 2, "--jobs", 2, *options)
    assert (first[0].folder / "mixture.wav").stat().st_mtime_ns == stamp
    for ours, other in zip(grown, load(made), strict=True):
        assert ours.row == other.row
        np.testing.assert_array_equal(ours.read("mixture"), other.read("mixture"))
    result = fca("simulate", SPEECH, "-o", tmp_path, *SHORT, "-c", 2, "--seed", 6)
    assert result.exit_code == 1
    assert "made with other settings (seed, snr_db, level_db); choose another name" in result.stderr


@pytest.mark.parametrize("other", [Corpora(SPEECH, sample_rate=8000), Corpora(SPEECH, SPEECH)])
def test_a_set_is_of_one_rate_and_material(made: Path, tmp_path: Path, other: Corpora) -> None:
    shutil.copytree(made, tmp_path / "set")
    kinds = {"mixture": Condition(**load(made)[0].row["recipe"]["asked"], count=1)}
    assert len(build(kinds, Corpora(SPEECH), tmp_path / "set", seed=5)) == 1
    with pytest.raises(InputError, match="made with other settings"):
        build(kinds, other, tmp_path / "set", seed=5)


@pytest.mark.parametrize("text", ["[", "[1]", '{"id": "mixture_0000", "condition": "mixture"}'])
def test_rows_that_do_not_say_how_they_were_made(made: Path, tmp_path: Path, text: str) -> None:
    shutil.copytree(made, tmp_path / "set")
    (tmp_path / "set/mixture_0000/row.json").write_text(text)
    kinds = {"mixture": Condition(**load(made)[0].row["recipe"]["asked"], count=1)}
    with pytest.raises(InputError, match="mixture_0000: made with other settings"):
        build(kinds, Corpora(SPEECH), tmp_path / "set", seed=5)


def test_a_set_is_not_made_of_itself(tmp_path: Path) -> None:
    shutil.copytree(SPEECH, tmp_path / "speech")
    for root in ([tmp_path / "speech"], [SPEECH, "--noise", tmp_path / "speech"]):
        result = fca("simulate", *root, "-o", tmp_path / "speech" / "set", *SHORT)
        assert result.exit_code == 1
        assert "choose another output folder" in said(result)


def test_a_killed_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fca.simulate.sets._draw", lambda *_: os._exit(9))
    result = fca("simulate", SPEECH, "-o", tmp_path, *SHORT, "-c", 2, "--jobs", 2)
    assert result.exit_code == 1
    assert "a process was killed" in said(result)


def test_blank_lines_of_a_manifest_do_not_count_and_others_must_be_objects(
    made: Path, tmp_path: Path
) -> None:
    text = (made / "manifest.jsonl").read_text()
    (tmp_path / "manifest.jsonl").write_text(text.replace("\n", "\n \n\n"))
    assert [item.row for item in load(tmp_path)] == [item.row for item in load(made)]
    (tmp_path / "manifest.jsonl").write_text(text[:-10])
    with pytest.raises(InputError, match="not JSON lines"):
        load(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="each line needs an object with an id"):
        load(tmp_path)


def test_a_manifest_lists_what_other_calls_made(tmp_path: Path) -> None:
    simulate(tmp_path, "-c", 2)
    assert [item.id for item in simulate(tmp_path, "-c", 1)] == ["mixture_0000", "mixture_0001"]
    for other, text in (("odd", "["), ("list", "[1]"), ("copy", '{"id": "mixture_0000"}')):
        (tmp_path / other).mkdir()
        (tmp_path / other / "row.json").write_text(text)
    three = simulate(tmp_path, "-c", 1, "--name", "three", "--talkers", 3)
    assert [item.id for item in three] == ["three_0000", "mixture_0000", "mixture_0001"]
    shutil.rmtree(tmp_path / "three_0000")
    kinds = {"mixture": Condition(**load(tmp_path)[1].row["recipe"]["asked"], count=1)}
    assert len(build(kinds, Corpora(SPEECH), tmp_path)) == 1
    assert len(build(kinds, Corpora(SPEECH), tmp_path, others=True)) == 2


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--rt60", 2, 3], 2, "rt60: rooms are simulated up to 1.5 s, not 3"),
        (["--snr", 20, 10], 2, "snr_db: from 20.0 to 10.0 is no range to draw from"),
        (["--snr", "nan", "nan"], 2, "snr_db: from nan to nan is no range to draw from"),
        (["--snr", "-inf", "inf"], 2, "snr_db: from -inf to inf is no range to draw from"),
        (["--snr", -1e9, -1e9], 2, "snr_db: from -1e+09 to -1e+09 is not within 150 dB of 0"),
        (["--level", -1e9, -1e9], 2, "level_db: from -1e+09 to -1e+09 is not within 150 dB of 0"),
        (["--name", "../esc"], 2, "the name '../esc' must be without folders"),
        (["--name", "a/b"], 2, "the name 'a/b' must be without folders"),
        (["--name", ".a"], 2, "the name '.a' must be without folders and not begin with a dot"),
        (["--array", "pair", "-m", 4], 2, "the array has 2 microphones, not 4"),
        (["--array", "pair", "--aperture", 1, 1], 2, "--aperture: has no effect with --array"),
        (["--array", "nowhere"], 2, "--array: nowhere: No such file or directory"),
        (["--clean", "--snr", 30, 30], 2, "--snr: has no effect with --clean"),
        (["--clean", "--noise", "."], 2, "--noise: has no effect with --clean"),
        (["--measured", "pair", "--rt60", 1, 1], 2, "--rt60: has no effect with --measured"),
        (["--measured", "pair", "--aperture", 1, 1], 2, "--aperture: has no effect with"),
        (["--measured", "pair", "--distance", 1, 1], 2, "--distance: has no effect with"),
        (["--measured", "pair", "--array", "pair"], 2, "--array: has no effect with --measured"),
        (["--measured", "nowhere"], 2, "'nowhere' does not exist"),
        (["--noise", "nowhere"], 2, "'nowhere' does not exist"),
        (["--seconds", 1e-6, 1e-6], 1, "error: seconds: shorter than a sample"),
        (["--distance", 10, 12], 1, "error: no room holds 2 talkers"),
        (["--seed", -1], 2, "--seed"),
        (["--sample-rate", 0], 2, "the sample rate must be 1000 Hz or more: 0"),
        (["-o", "file"], 2, "is a file"),
        (["-o", "file/set"], 2, "file/set: Not a directory"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(
    options: list, status: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "pair").write_text("0, 0\n0.1, 0\n")
    result = fca("simulate", SPEECH, "-o", "set", "-c", 1, *options)
    assert result.exit_code == status
    assert message in said(result)
    assert not list(tmp_path.rglob("*.wav"))


def test_an_interferer_is_drawn_where_there_is_no_other_noise(tmp_path: Path) -> None:
    options = ["-c", 1, "--clean", "--noise", SPEECH, "--interferer", 0, 0]
    (item,) = simulate(tmp_path, *options)
    assert item.row["noise"] is None and item.row["interferer"].endswith(".flac")


def test_speech_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = fca("simulate", "nowhere", "-o", "set")
    assert result.exit_code == 2
    assert "'nowhere' does not exist" in said(result)
    assert not (tmp_path / "set").exists()


def test_array_of_ones_own_and_no_noise(tmp_path: Path) -> None:
    array = [[0, 0, 0], [0.1, 0, 0], [0.1, 0.05, 0]]
    (tmp_path / "array.json").write_text(json.dumps(array))
    (item,) = simulate(tmp_path / "set", "-c", 1, "--array", tmp_path / "array.json", "--clean")
    mics = np.array(item.row["room"]["mics"])
    spacing = np.linalg.norm(mics[:, None] - mics[None], axis=-1)
    wanted = np.linalg.norm(np.array(array)[:, None] - np.array(array), axis=-1)
    np.testing.assert_allclose(spacing, wanted, atol=1e-9)
    np.testing.assert_allclose(mics[:, 2], mics[0, 2])  # turned about the vertical axis only
    images = item.read("images")
    np.testing.assert_allclose(item.read("mixture"), images.sum(0), atol=1e-6)
    (tmp_path / "bad.json").write_text("[[0, 1, 2, 3]]")
    result = fca("simulate", SPEECH, "-o", tmp_path / "x", "--array", tmp_path / "bad.json")
    assert result.exit_code == 2
    assert "x, y or x, y, z in metres" in said(result)


def test_simulated_separated_evaluated(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("fast_bss_eval")
    options = ["--method", "auxiva", "-i", 2, "-O", "n_fft=512"]
    mixtures = f"{made}/*/mixture.wav"
    assert fca("separate", mixtures, "-o", tmp_path / "est", *options).exit_code == 0
    scores = ["-o", tmp_path / "scores", "-m", "si_sdr", "--players", 0]
    result = fca("evaluate", tmp_path / "est", made, "--reference", "early", *scores)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "scores/evaluation.json").read_text())
    assert [row["id"] for row in found["recordings"]] == [item.id for item in load(made)]
    assert found["facts"]["reference"].startswith("early: ")


def test_measured_responses_of_any_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rir = rng.standard_normal((6, 3, 800)) * np.exp(-np.arange(800) / 100)
    bank = {"rir": rir, "azimuth_deg": np.arange(6) * 60.0, "sample_rate": 16000}
    np.savez(tmp_path / "without.npz", **bank)
    np.savez(tmp_path / "with.npz", mics=0.1 * rng.standard_normal((3, 3)), **bank)
    np.savez(tmp_path / "empty.npz")
    short = ["-m", 3, "-c", 1, "--seconds", 1, 1.2, "--measured"]
    result = fca("simulate", SPEECH, "-o", tmp_path / "set", *short, tmp_path / "with.npz")
    assert result.exit_code == 0, result.output
    (item,) = load(tmp_path / "set")
    assert len(item.read("mixture")) == 3
    assert item.row["room"]["responses"] == "with.npz"
    bank["rir"] = np.eye(1, 800) * rng.uniform(0.5, 1, (6, 3, 1))  # direct sound alone
    np.savez(tmp_path / "dry.npz", mics=0.1 * rng.standard_normal((3, 3)), **bank)
    result = fca("simulate", SPEECH, "-o", tmp_path / "dry", *short, tmp_path / "dry.npz")
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "dry")[0].row["measured_t60"] is None
    bank["rir"] = rir
    for name, message in (
        ("without.npz", "needs the positions"),
        ("empty.npz", "no measured responses"),
    ):
        result = fca("simulate", SPEECH, "-o", tmp_path / "x", *short, tmp_path / name)
        assert result.exit_code == 1
        assert message in result.stderr
    np.savez(tmp_path / "odd.npz", **bank | {"rir": rir[0]})
    with pytest.raises(InputError, match="rir must be"):
        measured_responses(tmp_path / "odd.npz", 16000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be at least 1"),
        ({"seconds": (3, 2)}, "no range to draw from"),
        ({"rt60": (0, 1)}, "no range to draw from"),
        ({"seconds": (1, NAN)}, "no range to draw from"),
        ({"snr_db": (20, 10)}, "snr_db: from 20 to 10 is no range to draw from"),
        ({"snr_db": [0, INF]}, "snr_db: from 0 to inf is no range to draw from"),
        ({"snr_db": NAN}, "snr_db: from nan to nan is no range to draw from"),
        ({"snr_db": -INF}, "snr_db: from -inf to -inf is no range to draw from"),
        ({"snr_db": 151}, "snr_db: from 151 to 151 is not within 150 dB of 0"),
        ({"level_db": (-151, 0)}, "level_db: from -151 to 0 is not within 150 dB of 0"),
        ({"rt60": (1, 2)}, r"up to 1\.5 s"),
        ({"speed": INF}, "degrees per second"),
        ({"sway": 0.2}, r"sway is from 0 to 0\.1 m"),
        ({"sway": NAN}, r"sway is from 0 to 0\.1 m"),
        ({"sway": 0.01, "speed": 5.0}, "where they do not walk"),
        ({"sway": 0.01, "measured": True}, "talkers sway in simulated rooms"),
        ({"array": ((0, 0, 0),)}, "the array has 1 microphones"),
    ],
)
def test_conditions_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Condition(**{"count": 1, **options})


@pytest.mark.parametrize("name", ["../esc", "a/b", "..", ".a"])
def test_names_stay_in_the_set(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be without folders"):
        build({name: Condition(count=1)}, Corpora(SPEECH), tmp_path / "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
def test_levels_at_their_limits(tmp_path: Path) -> None:
    (item,) = simulate(tmp_path, "-c", 1, "--level", -150, -150, "--snr", -150, -150)
    assert item.row["level_db"] == pytest.approx([0, -150], abs=0.01)
    assert np.isfinite(item.read("mixture")).all()
