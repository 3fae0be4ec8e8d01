"""`fca evaluate`: which files are compared, what is written, and what is said when it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from fca import audio
from fca.cli import app
from fca.errors import InputError
from fca.evaluation.diarization import diarization_errors
from fca.evaluation.metrics import evaluate as evaluate_arrays
from fca.evaluation.pairing import find_pairs

RATE = 16000


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def report(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text(), parse_constant=pytest.fail)


def write(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, waveform.astype(np.float32), RATE)


@pytest.fixture(scope="module")
def signals(two_talker_mixture) -> dict[str, np.ndarray]:
    """Images (talkers, channels, samples) of one second, estimates in the other order."""
    images = two_talker_mixture.images[..., RATE : 2 * RATE]
    leak = np.array([[0.2, 1.0], [1.0, 0.1]])
    return {"images": images, "mixture": images.sum(0), "estimates": leak @ images[:, 1]}


@pytest.fixture
def folders(tmp_path: Path, signals: dict[str, np.ndarray]) -> tuple[Path, Path]:
    """Two recordings as folders of estimates and of references; the second has no mixture."""
    for name in ("a", "deep/b"):
        for k in range(2):
            write(tmp_path / "est" / name / f"source{k + 1}.wav", signals["estimates"][k])
            write(tmp_path / "ref" / name / f"talker{k}.wav", signals["images"][k, 1])
        write(tmp_path / "est" / name / "residual.wav", signals["estimates"][0])
    write(tmp_path / "ref/a/mixture.wav", signals["mixture"])
    return tmp_path / "est", tmp_path / "ref"


def test_folders_are_paired_by_name(
    folders: tuple[Path, Path], tmp_path: Path, signals: dict[str, np.ndarray]
) -> None:
    result = evaluate(*folders, "-o", tmp_path / "out", "--channel", 1, "-m", "sdr", "--json")
    assert result.exit_code == 0, result.stderr
    found = report(tmp_path / "out")
    expected = evaluate_arrays(
        signals["images"][:, 1], signals["estimates"], mixture=signals["mixture"][1]
    )
    first, second = found["recordings"]
    assert [first["id"], second["id"]] == ["a", "deep/b"]
    assert first["permutation"] == [1, 0]
    np.testing.assert_allclose(first["scores"]["sdr"], expected.values["sdr"], atol=1e-3)
    rise = expected.improvement["sdr"]
    np.testing.assert_allclose(first["improvement"]["sdr"], rise, atol=1e-3)
    assert second["improvement"] == {}
    assert found["summary"]["all"]["sdr"]["count"] == 2
    assert found["facts"]["reference"].startswith("image: ")
    assert json.loads(result.stdout.splitlines()[0])["id"] == "a"


def test_page_needs_no_other_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["-m", "sdr", "-m", "si_sdr", "--channel", 1, "--players", 1]
    assert evaluate(*folders, "-o", tmp_path / "out", *options).exit_code == 0
    page = (tmp_path / "out/evaluation.html").read_text()
    players = page.count("<audio")
    assert players in (4, 5)  # with a mixture or without
    assert page.count("data:audio/flac;base64,ZkxhQ") == players  # the magic number of FLAC
    assert page.count("data:image/png;base64,") == 2
    assert "<svg" in page
    assert 'src="http' not in page
    assert "<script" not in page
    text = (tmp_path / "out/evaluation.md").read_text()
    assert "## all (2 recordings)" in text
    assert "| deep/b | 2 |" in text


@pytest.mark.parametrize("reference", ["image", "early", "dry"])
def test_sets_give_the_reference_that_was_asked_for(
    tmp_path: Path, signals: dict[str, np.ndarray], reference: str
) -> None:
    images = signals["images"]
    place = tmp_path / "set" / "x_0000"
    parts = {"image": images, "early": 0.5 * images[::-1], "dry": images[::-1, 0]}
    for name, part in zip(("images", "early", "dry"), parts.values(), strict=True):
        write(place / f"{name}.wav", part.reshape(-1, part.shape[-1]))
    write(place / "mixture.wav", signals["mixture"])
    row = {"id": "x_0000", "condition": "x", "channels": 2, "talkers": [{}, {}]}
    (tmp_path / "set/manifest.jsonl").write_text(json.dumps(row) + "\n")
    write(tmp_path / "est/x_0000/mixture.wav/source1.wav", images[0, 0])
    write(tmp_path / "est/x_0000/mixture.wav/source2.wav", images[1, 0])
    (pair,), problems = find_pairs(tmp_path / "est", tmp_path / "set", reference=reference)
    assert not problems
    read = pair.read()
    expected = parts[reference] if reference == "dry" else parts[reference][:, 0]
    np.testing.assert_allclose(read.references, expected, atol=1e-6)
    np.testing.assert_allclose(read.mixture, signals["mixture"][0], atol=1e-6)
    (place / "row.json").write_text(json.dumps(row))
    (alone,), _ = find_pairs(tmp_path / "est", place, reference=reference)
    assert alone == pair, "the folder of one mixture is a set of one"
    options = ["--reference", reference, "-m", "si_sdr", "--players", 0]
    assert evaluate(tmp_path / "est", tmp_path / "set", "-o", tmp_path, *options).exit_code == 0
    assert (
        report(tmp_path)["recordings"][0]["permutation"] == ([0, 1], [1, 0])[reference != "image"]
    )


@pytest.fixture
def one(tmp_path: Path, signals: dict[str, np.ndarray]) -> Path:
    """A set of one mixture, of which `fca separate` calls the results by its file."""
    images = signals["images"]
    write(tmp_path / "one/x_0000/images.wav", images.reshape(-1, images.shape[-1]))
    write(tmp_path / "one/x_0000/mixture.wav", signals["mixture"])
    row = {"id": "x_0000", "channels": 2, "talkers": [{}, {}]}
    (tmp_path / "one/manifest.jsonl").write_text(json.dumps(row) + "\n")
    for k in range(2):
        write(tmp_path / f"results/mixture/source{k + 1}.wav", signals["estimates"][k])
    return tmp_path / "one"


def test_results_of_a_set_of_one_mixture_are_found(one: Path, tmp_path: Path) -> None:
    (pair,), problems = find_pairs(tmp_path / "results", one)
    assert not problems
    assert [path.name for path in pair.estimates] == ["source1.wav", "source2.wav"]
    assert pair.read().estimates.shape == (2, RATE)


def rttm(path: Path, *turns: tuple[str, float, float]) -> Path:
    lines = [
        f"SPEAKER x 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n" for who, start, length in turns
    ]
    path.write_text("".join(lines))
    return path


def test_files_of_a_folder_may_be_recordings(
    tmp_path: Path, signals: dict[str, np.ndarray]
) -> None:
    """If their channels are as many as the talkers of the estimates that have their names."""
    estimates, references = tmp_path / "est", tmp_path / "ref"
    for name in ("rec", "rec.1", "talk [1]"):
        write(estimates / f"{name}.wav", signals["estimates"])
        write(references / f"{name}.wav", signals["images"][:, 1])
        write(tmp_path / "mix" / f"{name}.wav", signals["mixture"])
        (tmp_path / "mix" / f"{name}.json").write_text("{}")
    pairs, problems = find_pairs(estimates, references, mixtures=tmp_path / "mix")
    assert not problems
    for pair, name in zip(pairs, ("rec.1", "rec", "talk [1]"), strict=True):
        assert pair.name == name
        assert pair.estimates == (estimates / f"{name}.wav",)
        assert pair.references == (references / f"{name}.wav",)
        assert pair.mixture == tmp_path / "mix" / f"{name}.wav"
        assert pair.read().references.shape == signals["images"][:, 1].shape
    for name in ("rec.1", "talk [1]"):
        (references / f"{name}.wav").unlink()
    ((pair,), _) = find_pairs(estimates, references / "rec.wav", mixtures=tmp_path / "mix")
    assert pair.mixture == tmp_path / "mix" / "rec.wav"
    write(estimates / "rec.wav", signals["estimates"][:1])
    ((pair,), _) = find_pairs(estimates / "rec.wav", references)
    assert pair.name == "ref", "these channels are the microphones of one talker"


def test_a_list_takes_the_channel_of_the_command(tmp_path: Path) -> None:
    rows = [{"id": n, "estimates": ["e"], "references": ["r"]} for n in ("own", "other")]
    rows[0]["channel"] = 1  # type: ignore[assignment]
    (tmp_path / "list.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    pairs, _ = find_pairs(tmp_path / "list.jsonl", channel=3)
    assert [pair.channel for pair in pairs] == [1, 3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"estimates": "a.wav"}, "estimates of x must be a list of paths"),
        ({"references": [1]}, "references of x must be a list of paths"),
        ({"rttm": {"a": "b"}}, "rttm of x must be a list of paths"),
        ({"mixture": 3}, "mixture of x must be a path, got 3"),
        ({"channel": "left"}, "channel of x must be a whole number, got 'left'"),
        ({"estimates": []}, "x needs estimates and references"),
        ({"id": 1}, "each line needs an object with an id"),
    ],
)
def test_lists_that_hold_something_else(tmp_path: Path, wrong: dict, message: str) -> None:
    row = {"id": "x", "estimates": ["e.wav"], "references": ["r.wav"], **wrong}
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match=message):
        find_pairs(tmp_path / "list.jsonl")


def test_dry_references_belong_to_the_first_channel(one: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x_0000: dry references have the delay and level of"):
        find_pairs(tmp_path / "results", one, reference="dry", channel=1)


def test_a_speaker_who_overlaps_himself_is_heard_once(tmp_path: Path) -> None:
    pytest.importorskip("pyannote.metrics")
    rttm(tmp_path / "ref.rttm", ("ann", 0, 5), ("ann", 3, 4))
    rttm(tmp_path / "est.rttm", ("1", 0, 7))
    errors = diarization_errors(tmp_path / "ref.rttm", tmp_path / "est.rttm")
    assert (errors["DER"], errors["seconds"]) == (0, pytest.approx(7))


def test_list_with_activities(tmp_path: Path, signals: dict[str, np.ndarray]) -> None:
    pytest.importorskip("pyannote.metrics")
    write(tmp_path / "est.wav", signals["estimates"])
    write(tmp_path / "ref.wav", signals["images"][:, 1])
    rttm(tmp_path / "ref.rttm", ("ann", 0, 3), ("bob", 3, 1))
    rttm(tmp_path / "est.rttm", ("1", 0, 2), ("2", 3, 1.5))  # 1 s missed, 0.5 s too much
    row = {"id": "x", "estimates": ["est.wav"], "references": ["ref.wav"]}
    row["rttm"] = ["ref.rttm", "est.rttm"]
    (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
    result = evaluate(tmp_path / "list.jsonl", "-o", tmp_path / "out", "-m", "si_sdr")
    assert result.exit_code == 0, result.stderr
    errors = report(tmp_path / "out")["recordings"][0]["diarization"]
    assert errors["missed"] == pytest.approx(1 / 4)
    assert errors["false alarm"] == pytest.approx(0.5 / 4)
    assert errors["DER"] == pytest.approx(1.5 / 4)
    assert report(tmp_path / "out")["summary"]["all"]["DER"]["mean"] == pytest.approx(1.5 / 4)
    (tmp_path / "none.rttm").write_text("")
    assert np.isnan(diarization_errors(tmp_path / "none.rttm", tmp_path / "est.rttm")["DER"])
    (tmp_path / "bad.rttm").write_text("SPEAKER x 1 soon 2\n")
    with pytest.raises(InputError, match=r"bad\.rttm: cannot be read as RTTM"):
        diarization_errors(tmp_path / "bad.rttm", tmp_path / "est.rttm")


def test_without_pyannote_the_other_scores_are_told(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in folders:
        rttm(folder / "a" / "talk.rttm", ("ann", 0, 1))
    monkeypatch.setitem(sys.modules, "pyannote.metrics.diarization", None)
    result = evaluate(*folders, "-o", tmp_path / "out", "-m", "si_sdr", "--players", 0)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("note: DER needs the extra 'diarize'") == 1
    found = report(tmp_path / "out")
    assert [row["id"] for row in found["recordings"]] == ["a", "deep/b"]
    assert found["facts"]["DER"].startswith("left out: ")


def test_references_at_all_microphones(
    folders: tuple[Path, Path], tmp_path: Path, signals: dict[str, np.ndarray]
) -> None:
    place = folders[1] / "deep/b"
    for k in range(2):
        write(place / f"talker{k}.wav", signals["images"][k])
    found, _ = find_pairs(*folders, channel=1)
    images = found[1].read().references
    np.testing.assert_allclose(images, signals["images"][:, 1], atol=1e-6)
    (pair,) = (pair for pair in find_pairs(*folders, channel=2)[0] if pair.name == "deep/b")
    with pytest.raises(InputError, match=r"talker0\.wav has channels 0 to 1, not 2"):
        pair.read()
    (place / "talker1.wav").unlink()
    write(folders[0] / "deep/b/source3.wav", signals["estimates"][0])
    with pytest.raises(InputError, match=r"\(talker0\.wav has 2 channels, each taken"):
        pair = find_pairs(*folders)[0][1]
        pair.read()


def test_talkers_and_not_channels_are_counted(
    folders: tuple[Path, Path], signals: dict[str, np.ndarray]
) -> None:
    """Each of the two references has both microphones; there is an estimate too many or too few."""
    for k in range(2):
        write(folders[1] / "a" / f"talker{k}.wav", signals["images"][k])
    write(folders[0] / "a" / "source3.wav", signals["estimates"][0])
    hint = r"2 references \(talker0\.wav has 2 channels, of which --channel takes one\): "
    advice = "one for each is needed; separate with --sources 2, or "
    with pytest.raises(InputError, match=rf"^3 estimates for {hint}{advice}move superfluous"):
        find_pairs(*folders)[0][0].read()
    for k in (2, 3):
        (folders[0] / "a" / f"source{k}.wav").unlink()
    with pytest.raises(InputError, match=rf"^1 estimate for {hint}{advice}add silent files for"):
        find_pairs(*folders)[0][0].read()


def test_other_lengths_are_told(folders: tuple[Path, Path], signals: dict[str, np.ndarray]) -> None:
    for k in range(2):
        write(folders[0] / "a" / f"source{k + 1}.wav", signals["estimates"][k, :8000])
    with pytest.raises(InputError, match=r"^estimates of 8000 samples, references of 16000$"):
        find_pairs(*folders)[0][0].read()


def test_sar_has_no_improvement(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--channel", 1, "-m", "sar", "-m", "sdr", "--json"]
    result = evaluate(*folders, "-o", tmp_path, *options)
    assert result.exit_code == 0, result.stderr
    assert "a: improvement: sdr " in result.stderr
    assert "b: scores: sar " in result.stderr
    found = report(tmp_path)
    for row in (found["recordings"][0], json.loads(result.stdout.splitlines()[0])):
        assert list(row["scores"]) == ["sar", "sdr"]
        assert list(row["improvement"]) == ["sdr"]
    assert sorted(found["summary"]["all"]) == ["sar", "sdr", "sdr improvement"]
    for line in (tmp_path / "evaluation.md").read_text().splitlines():
        if line.startswith("| SAR"):
            assert line.endswith("|  |")
        if line.startswith("| a |"):
            assert line.count("(") == 1
    assert evaluate(*folders, "-o", tmp_path, "--channel", 1, "-m", "sar").exit_code == 0


def test_silence_has_its_answers_in_every_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write(folders[0] / "a" / "source2.wav", np.zeros(RATE))
    options = ["--channel", 1, "-m", "sdr", "-m", "stoi"]
    assert evaluate(*folders, "-o", tmp_path / "out", *options).exit_code == 0
    found = report(tmp_path / "out")
    assert found["recordings"][0]["scores"]["sdr"][0] == "-inf"
    summary = found["summary"]["all"]["sdr"]
    assert (summary["count"], summary["excluded"]) == (1, 1)
    assert "(1 left out)" in (tmp_path / "out/evaluation.md").read_text()
    assert "−∞" in (tmp_path / "out/evaluation.html").read_text()


def test_what_does_not_fit_is_said_in_a_line_and_the_rest_is_done(
    folders: tuple[Path, Path], tmp_path: Path, signals: dict[str, np.ndarray]
) -> None:
    write(folders[0] / "a" / "source3.wav", signals["estimates"][0])
    write(folders[1] / "c" / "talker.wav", signals["estimates"][0])
    result = evaluate(*folders, "-o", tmp_path / "out", "-m", "si_sdr", "--players", 0)
    assert result.exit_code == 1
    assert "failed  c: no estimates of it" in result.stderr
    assert "failed  a: 3 estimates for 2 references: one for each is needed" in result.stderr
    assert [row["id"] for row in report(tmp_path / "out")["recordings"]] == ["deep/b"]
    assert len(report(tmp_path / "out")["failures"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["est", "nowhere"], "nowhere: no such file or folder"),
        (["nowhere", "ref"], "nowhere: no such file or folder"),
        (["nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        (["est", "ref", "--mixture", "no.wav"], "no.wav: no such file or folder"),
        (["results", "one", "--mixture", "ref"], "mixtures come from one/manifest.jsonl"),
        (["list.jsonl", "--mixture", "ref"], "mixtures come from list.jsonl"),
        (["est", "ref", "-m", "snr"], "unknown metric 'snr'; choose from sdr"),
        (["est"], "give references, too"),
        (["est", "ref", "--protocol", "bss"], "'bss' is not one of"),
        (["est", "ref", "-o", "file"], "is a file"),
        (["est", "ref", "-o", "file/out"], "file/out: Not a directory"),
    ],
)
def test_a_command_that_makes_no_sense(
    folders: tuple[Path, Path],
    one: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    row = {"id": "a", "estimates": ["est/a/source1.wav"], "references": ["ref/a/talker0.wav"]}
    (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
    result = evaluate("-o", "out", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("jinja2", [], "the page needs the extra 'evaluate'"),
        ("mir_eval.separation", ["--protocol", "mir_eval"], "need the extra 'evaluate'"),
    ],
)
def test_what_is_missing_is_said_before_the_work(
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = evaluate(*folders, "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_said_in_a_line(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "out/evaluation.json").mkdir(parents=True)
    result = evaluate(*folders, "-o", tmp_path / "out", "-m", "si_sdr", "--players", 0)
    assert result.exit_code == 1
    assert "error: [Errno 21] Is a directory" in result.stderr
