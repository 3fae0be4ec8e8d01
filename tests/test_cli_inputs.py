"""The command line: which files are found, and what is said when it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import RATE, fca, records, separate, write_all

from fca import audio
from fca.cli.inputs import collect
from fca.cli.manifest import read_manifest
from fca.errors import InputError


class TestInputs:
    def test_folders_are_searched_and_keep_their_structure(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["rec/a.wav", "rec/day1/a.flac", "rec/day1/b.wav"], recording)
        (tmp_path / "rec" / "notes.txt").write_text("not audio")
        found, problems = collect([str(tmp_path / "rec")], tmp_path / "out")
        assert [r.name for r in found] == ["a", "day1/a", "day1/b"]
        assert problems == []

    def test_what_macos_keeps_beside_files_is_passed_over(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["rec/a.wav", "rec/.b.wav"], recording)
        (tmp_path / "rec" / "._a.wav").write_bytes(b"\0\x05\x16\x07")
        found, problems = collect([str(tmp_path / "rec")], tmp_path / "out")
        assert [r.name for r in found] == [".b", "a"]
        assert problems == []

    def test_results_inside_the_searched_folder_are_not_inputs(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["rec/a.wav", "rec/out/a/source1.wav"], recording)
        found, _ = collect([str(tmp_path / "rec")], tmp_path / "rec" / "out")
        assert [r.name for r in found] == ["a"]
        with pytest.raises(InputError, match="must go elsewhere"):
            collect([str(tmp_path / "rec")], tmp_path / "rec")

    def test_results_may_go_above_the_searched_folder(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["rec/a.wav"], recording)
        found, problems = collect([str(tmp_path / "rec")], tmp_path)
        assert [r.name for r in found] == ["a"]
        assert problems == []

    def test_patterns_and_repeats(self, tmp_path: Path, recording: np.ndarray) -> None:
        write_all(tmp_path, ["a.wav", "b.wav", "deep/er/c.wav"], recording)
        inputs = [str(tmp_path / "**" / "*.wav"), str(tmp_path / "a.wav"), str(tmp_path)]
        found, _ = collect(inputs, tmp_path / "out")
        assert [r.name for r in found] == ["a", "b", "deep/er/c"]  # as without the patterns
        assert collect(inputs[::-1], tmp_path / "out")[0] == found

    def test_channels_of_one_folder_are_joined_however_they_are_named(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["rec/a_1.wav", "rec/a_2.wav"], recording[:1])
        inputs = [str(tmp_path / "rec/a_1.wav"), str(tmp_path / "rec")]
        found, problems = collect(inputs, tmp_path / "out", file_per_channel=True)
        assert [(r.name, len(r.files)) for r in found] == [("a", 2)]
        assert problems == []

    def test_equal_names_are_told_apart(self, tmp_path: Path, recording: np.ndarray) -> None:
        names = ["x/talk.wav", "y/talk.wav", "y/talk.flac", "y/other.wav"]
        write_all(tmp_path, names, recording)
        found, _ = collect([str(tmp_path / name) for name in names], tmp_path / "out")
        assert [r.name for r in found] == ["x/talk", "y/talk.wav", "y/talk.flac", "other"]
        assert [r.id for r in found] == ["talk", "talk.wav", "talk.flac", "other"]

    def test_names_do_not_depend_on_further_inputs(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        names = ["rec/a.wav", "rec/b.wav", "more/a.flac", "x/c.wav", "y/c.wav", "a.wav"]
        write_all(tmp_path, names, recording)
        alone, _ = collect([str(tmp_path / "rec")], tmp_path / "out")
        assert [r.name for r in alone] == ["a", "b"]
        for further, others in ([["more/a.flac"], ["more/a"]], [["a.wav"], ["a.wav"]]):
            inputs = [str(tmp_path / name) for name in ["rec", *further, "x/c.wav", "y/c.wav"]]
            for given in (inputs, inputs[::-1]):
                found, _ = collect(given, tmp_path / "out")
                assert {r.name for r in found} == {"a", "b", *others, "x/c", "y/c"}
                assert [r.name for r in found if r.files[0].parent.name == "rec"] == ["a", "b"]

    def test_folders_that_hold_the_same_names(self, tmp_path: Path, recording: np.ndarray) -> None:
        write_all(tmp_path, ["one/a.wav", "two/a.wav", "two/b.wav"], recording)
        found, _ = collect([str(tmp_path / "one"), str(tmp_path / "two")], tmp_path / "out")
        assert [r.name for r in found] == ["one/a", "two/a", "b"]

    def test_files_yield_to_ids(self, tmp_path: Path, recording: np.ndarray) -> None:
        write_all(tmp_path, ["x/a.wav", "y/b.wav"], recording)
        (tmp_path / "wav.scp").write_text(f"a {tmp_path}/y/b.wav\n")
        listed = read_manifest(tmp_path / "wav.scp")
        found, _ = collect([str(tmp_path / "x" / "a.wav")], tmp_path / "out", listed=listed)
        assert [r.name for r in found] == ["a", "x/a"]

    def test_recordings_of_a_run_have_ids_of_their_own(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        """RTTM files know no folders: those of a corpus are joined, and looked up by id."""
        names = ["x/mixture.wav", "y/mixture.wav", "z/talk.wav"]
        write_all(tmp_path, names, recording)
        found, _ = collect([str(tmp_path)], tmp_path / "out")
        assert [r.name for r in found] == ["x/mixture", "y/mixture", "z/talk"]
        assert [r.id for r in found] == ["x_mixture", "y_mixture", "talk"]

    def test_a_first_file_in_common_is_told_apart_by_the_others(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["left.wav", "right.wav", "o.wav"], recording[:1])
        left, right, other = (str(tmp_path / name) for name in ("left.wav", "right.wav", "o.wav"))
        found, _ = collect([f"{left},{right}", f"{left},{other}"], tmp_path / "out")
        assert [r.name for r in found] == ["left+right", "left+o"]

    def test_names_that_cannot_be_told_apart_are_refused(self, tmp_path: Path) -> None:
        pairs = [f"{tmp_path}/left.wav,{tmp_path}/{folder}/o.wav" for folder in "xy"]
        with pytest.raises(InputError, match=r"are both called left\+o"):
            collect(pairs, tmp_path / "out")

    def test_two_ids_of_one_file_are_two_recordings(
        self, tmp_path: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["x.wav"], recording)
        path = tmp_path / "x.wav"
        (tmp_path / "wav.scp").write_text(f"one {path}\nday/two {path}\n")
        found, _ = collect(
            [str(path)], tmp_path / "out", listed=read_manifest(tmp_path / "wav.scp")
        )
        assert [r.name for r in found] == ["one", "day/two"]

    def test_lists_may_begin_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        (tmp_path / "list.txt").write_text("a.wav\nb.wav\n", encoding="utf-8-sig")
        assert [r.files for r in read_manifest(tmp_path / "list.txt")] == [
            (Path("a.wav"),),
            (Path("b.wav"),),
        ]

    @pytest.mark.parametrize("name", ["../evil", "/tmp/x", "a/../../b", "."])
    def test_ids_that_lead_elsewhere_are_refused(
        self, tmp_path: Path, wav: Path, out: Path, name: str
    ) -> None:
        (tmp_path / "wav.scp").write_text(f"talk {wav}\n\n{name} {wav}\n")
        result = separate("-o", out, "--manifest", tmp_path / "wav.scp")
        assert result.exit_code == 2
        said = " ".join(result.stderr.replace("│", " ").split())
        assert f"wav.scp, line 3: '{name}' cannot name a folder" in said
        assert not out.exists()

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["A.CH1.wav", "A.CH2.wav", "A.CH10.wav"], "A"),
            (["ES2002a.Array1-01.wav", "ES2002a.Array1-02.wav"], "ES2002a.Array1"),
            (["U1_16k_c1.wav", "U1_16k_c2.wav"], "U1_16k"),
            (["take mic1.flac", "take mic2.flac"], "take"),
            (["7.wav", "8.wav"], "session"),
        ],
    )
    def test_one_file_per_channel(
        self, tmp_path: Path, recording: np.ndarray, names: list[str], expected: str
    ) -> None:
        folder = tmp_path / "session"
        write_all(folder, names, recording[:1])
        paths = [str(folder / name) for name in reversed(names)]
        found, problems = collect(paths, tmp_path / "out", file_per_channel=True)
        assert [(r.name, [f.name for f in r.files]) for r in found] == [(expected, names)]
        assert problems == []

    def test_one_file_per_channel_in_folders(self, tmp_path: Path, recording: np.ndarray) -> None:
        names = ["s1/CH1.wav", "s1/CH2.wav", "s2/U.1.wav", "s2/U.2.wav", "s2/odd.wav"]
        write_all(tmp_path / "rec", names, recording[:1])
        found, problems = collect([str(tmp_path / "rec")], tmp_path / "out", file_per_channel=True)
        assert [r.name for r in found] == ["s1", "s2/U"]
        assert len(problems) == 1
        assert "does not end in a channel number" in problems[0][1]

    def test_files_of_other_names_are_joined_by_commas(self, tmp_path: Path) -> None:
        left, right = (str(tmp_path / name) for name in ("left.wav", "right.wav"))
        for inputs, hint in (([left, right], f"commas, as {left},{right}"), ([left], "number")):
            found, problems = collect(inputs, tmp_path / "out", file_per_channel=True)
            assert not found
            assert [what for what, _ in problems] == inputs
            assert all(why.endswith(hint) for _, why in problems)

    def test_one_file_per_channel_equals_one_file(
        self, tmp_path: Path, wav: Path, out: Path, recording: np.ndarray
    ) -> None:
        for n, channel in enumerate(recording, start=1):
            audio.write(tmp_path / f"split.CH{n}.wav", channel, RATE)
        files = [tmp_path / f"split.CH{n}.wav" for n in (1, 2)]
        assert separate(wav, "-o", out).exit_code == 0
        assert separate(*files, "-o", out, "--file-per-channel").exit_code == 0
        assert separate(f"{files[0]},{files[1]}", "-o", out / "list").exit_code == 0
        whole, joined, listed = (
            audio.read(out / folder / "source1.wav")[0]
            for folder in ("talk", "split", "list/split.CH1")
        )
        np.testing.assert_array_equal(whole, joined)
        np.testing.assert_array_equal(whole, listed)

    def test_files_of_several_recorders_are_cut_to_the_shortest(
        self, tmp_path: Path, out: Path, recording: np.ndarray
    ) -> None:
        for n, channel in enumerate(recording):
            audio.write(tmp_path / f"rec.CH{n}.wav", channel[: RATE - 9 * n], RATE)
        result = separate(tmp_path / "rec.CH*.wav", "-o", out, "--file-per-channel", "--json")
        assert result.exit_code == 0
        assert records(result)[0]["notes"] == ["cut to the shortest file, by up to 9 samples"]
        assert audio.read(out / "rec" / "source1.wav")[0].shape == (1, RATE - 9)


def write_bad_files(folder: Path, good: np.ndarray) -> dict[str, str]:
    """One file for each fault, and what is said of it."""
    audio.write(folder / "one.wav", good[:1], RATE)
    audio.write(folder / "short.wav", good[:, :500], RATE)
    audio.write(folder / "silent.wav", 0 * good, RATE)
    audio.write(folder / "half.flac", good, RATE)
    audio.write(folder / "dead.wav", good * [[1], [0]], RATE)
    content = (folder / "half.flac").read_bytes()
    (folder / "half.flac").write_bytes(content[: len(content) // 2])
    (folder / "text.wav").write_text("hello")
    (folder / "empty.wav").touch()
    return {
        "one.wav": "at least two microphones",
        "short.wav": "too short",
        "silent.wav": "silent",
        "half.flac": "cannot be read as audio",
        "dead.wav": "only channel 0 carries a signal",
        "text.wav": "cannot be read as audio",
        "empty.wav": "the file is empty",
        "missing.wav": "no such file",
    }


class TestFailures:
    def test_bad_files_get_a_line_each_and_the_rest_is_done(
        self, tmp_path: Path, wav: Path, out: Path, recording: np.ndarray
    ) -> None:
        expected = write_bad_files(tmp_path, recording)
        paths = [tmp_path / name for name in expected]
        result = separate(*paths, wav, tmp_path / "no*thing", "-o", out, "--json")
        assert result.exit_code == 1
        lines = result.stderr.splitlines()
        assert len(lines) == len(expected) + 2
        for name, message in expected.items():
            (line,) = (line for line in lines if name in line)
            assert line.startswith("failed")
            assert message in line
        assert [r["status"] for r in records(result)] == ["failed"] * 9 + ["done"]
        assert [path.name for path in out.iterdir()] == ["talk"]

    @pytest.mark.parametrize("name", ["..wav", "...wav", "day/..wav", "day/...wav"])
    def test_a_file_that_cannot_name_a_folder_is_one_failure(
        self, tmp_path: Path, wav: Path, out: Path, name: str
    ) -> None:
        folder = tmp_path / "in"
        (folder / "day").mkdir(parents=True)
        for copy in (name, "day/talk.wav"):
            shutil.copy(wav, folder / copy)
        for inputs in ([folder], [folder / name, folder / "day" / "talk.wav"]):
            result = separate(*inputs, "-o", out, "--overwrite")
            assert result.exit_code == 1
            failed, done = result.stderr.splitlines()
            assert f"{name}: '" in failed
            assert failed.endswith("cannot name a folder")
            assert done.startswith("done")

    def test_names_that_are_not_utf_8_are_done_like_others(
        self, tmp_path: Path, wav: Path, out: Path
    ) -> None:
        """The names of their results are, as programs want to read them."""
        folder = tmp_path / os.fsdecode(b"in\xfe")
        try:
            folder.mkdir()
        except OSError:
            pytest.skip("the file system has no such names")
        for name in (b"a\xfe.wav", b"a\xff.wav", b"z.wav"):
            shutil.copy(wav, folder / os.fsdecode(name))
        (folder / os.fsdecode(b"bad\xff.wav")).write_text("no audio")
        result = separate(folder, tmp_path / os.fsdecode(b"no\xff"), "-o", out, "--json")
        assert result.exit_code == 1
        statuses = [record["status"] for record in records(result)]
        assert sorted(statuses) == ["done"] * 3 + ["failed"] * 2
        assert sorted(path.name for path in out.iterdir()) == ["a%FE", "a%FF", "z"]
        assert (out / "a%FF" / "activity.rttm").read_text().startswith("SPEAKER a%FF 1")
        assert "in%FE/bad%FF.wav: cannot be read as audio" in result.stderr
        assert "no%FF: no such file" in result.stderr
        again = separate(folder, "-o", out, "--json")
        assert sorted(r["status"] for r in records(again)) == ["failed"] + ["skipped"] * 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--sources", "5"], "5 sources"),
            (["--reference-channel", "7"], "reference channel 7"),
        ],
    )
    def test_what_does_not_fit_the_recording(
        self, wav: Path, out: Path, options: list[str], message: str
    ) -> None:
        result = separate(wav, "-o", out, *options)
        assert result.exit_code == 1
        assert message in result.stderr

    def test_an_output_that_cannot_be_written(self, wav: Path, out: Path) -> None:
        out.write_text("a file is where the folder should be")
        result = separate(wav, "-o", out)
        assert result.exit_code == 1
        assert result.stderr.startswith("failed")

    @pytest.mark.parametrize(
        "options",
        [
            ["--method", "magic"],
            ["--metod", "auxiva"],
            ["--device", "abacus"],
            ["--format", "mp3"],
            ["--block", "0.1"],
            ["--target", "ann"],
            ["--sources", "two"],
            ["--sources", "0"],
            ["--sources", "-1"],
            ["--iterations", "-1"],
            ["--option", "n_fft"],
            ["--option", "n_fft=17"],
            ["--option", "n_fft=big"],
            ["--option", "colour=blue"],
            ["--option", "dof=-1"],
            ["--method", "fastmnmf2", "--option", "n_bases=0"],
            ["--reference-channel", "-1"],
            ["--rttm", "nowhere.rttm"],
            ["--rttm", __file__, "--sources", "3"],
            ["a.wav,"],
            ["a.wav,a.wav"],
        ],
    )
    def test_usage_errors_have_status_2(self, wav: Path, out: Path, options: list[str]) -> None:
        result = fca("separate", wav, "-o", out, *options)
        assert result.exit_code == 2
        assert "Traceback" not in result.output
        assert not out.exists()

    def test_input_and_output_are_needed(self, wav: Path) -> None:
        assert fca("separate", wav).exit_code == 2
        assert fca("separate", "-o", "out").exit_code == 2

    @pytest.mark.parametrize(("share", "status"), [("1/2", 1), ("01/02", 1), ("02/02", 0)])
    def test_the_first_share_tells_what_is_not_there(
        self, wav: Path, out: Path, share: str, status: int
    ) -> None:
        result = separate(wav, "nothing*.wav", "-o", out, "--shard", share)
        assert result.exit_code == status
        assert ("nothing*.wav: no file matches" in result.stderr) == bool(status)

    def test_a_folder_without_audio(self, tmp_path: Path, out: Path) -> None:
        assert f"{tmp_path}: no audio files there" in separate(tmp_path, "-o", out).stderr
