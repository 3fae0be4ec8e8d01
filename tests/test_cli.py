"""The command line: what is written, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command import RATE, fca, records, separate, write_all

from fca import audio, plot
from fca.activity import Segment, read_rttm, write_rttm
from fca.cli.log import Log
from fca.cli.options import chosen
from fca.cli.separate import separate as separate_command
from fca.cli.values import separator_types
from fca.methods import METHODS
from fca.pieces import Writer
from fca.simulate import Mixture
from fca.tracks import Tracks


class TestResults:
    def test_one_file_per_talker_and_a_record_of_it(
        self, wav: Path, out: Path, recording: np.ndarray
    ) -> None:
        result = separate(wav, "-o", out, "--residual", "--json")
        assert result.exit_code == 0
        names = ["activity.rttm", "residual.wav", "separation.json", "source1.wav", "source2.wav"]
        assert sorted(path.name for path in (out / "talk").iterdir()) == names
        parts = [audio.read(out / "talk" / name) for name in names if name.endswith(".wav")]
        assert all(x.shape == (1, RATE) and rate == RATE for x, rate in parts)
        # Three float32 files: their rounding is all that the sum may be off.
        np.testing.assert_allclose(sum(x for x, _ in parts)[0], recording[0], atol=1e-6)
        record = json.loads((out / "talk" / "separation.json").read_text())
        assert records(result) == [record]
        assert record["method"] == "auxiva"
        assert record["iterations"] == 2
        assert record["seconds"] > 0
        assert record["cost"][0][1] > record["cost"][-1][1]

    def test_images_are_the_talkers_at_all_microphones(
        self, wav: Path, out: Path, recording: np.ndarray
    ) -> None:
        assert separate(wav, "-o", out, "--images", "--reference-channel", 1).exit_code == 0
        image = audio.read(out / "talk" / "image1.wav")[0]
        source = audio.read(out / "talk" / "source1.wav")[0]
        assert image.shape == recording.shape
        np.testing.assert_allclose(image[1], source[0], atol=1e-6)

    @pytest.mark.parametrize("rate", [8000, 44100])
    def test_other_sample_rates_come_back_and_it_is_said(
        self, tmp_path: Path, out: Path, recording: np.ndarray, rate: int
    ) -> None:
        resampled = audio.resample(recording, RATE, rate)
        audio.write(tmp_path / "x.wav", resampled, rate)
        result = separate(tmp_path / "x.wav", "-o", out)
        assert f"resampled from {rate} to 16000 Hz and back" in result.stderr
        source, its_rate = audio.read(out / "x" / "source1.wav")
        assert its_rate == rate
        assert source.shape == (1, resampled.shape[1])

    @pytest.mark.parametrize(("gain", "subtype"), [(1.0, "PCM_16"), (50.0, "FLOAT")])
    def test_16_bits_or_floats_where_these_would_clip(
        self, tmp_path: Path, out: Path, recording: np.ndarray, gain: float, subtype: str
    ) -> None:
        audio.write(tmp_path / "x.wav", gain * recording, RATE)
        result = separate(tmp_path / "x.wav", "-o", out, "--format", "wav16", "--json")
        (record,) = records(result)
        assert soundfile.info(out / "x/source1.wav").subtype == subtype
        notes = [] if gain == 1 else ["source1.wav: not 16-bit, which would clip or has no room"]
        assert record["notes"][:1] == notes
        assert separate(tmp_path / "x.wav", "-o", out).exit_code == 1, "these are other settings"

    @pytest.mark.parametrize(("gain", "suffix"), [(1.0, "flac"), (50.0, "wav")])
    def test_flac_or_float_wav_where_flac_would_clip(
        self, tmp_path: Path, out: Path, recording: np.ndarray, gain: float, suffix: str
    ) -> None:
        loud = recording * gain / np.abs(recording).max() * 0.5
        audio.write(tmp_path / "x.wav", loud, RATE)
        result = separate(tmp_path / "x.wav", "-o", out, "--format", "flac", "--json")
        assert records(result)[0]["files"] == [
            f"source1.{suffix}",
            f"source2.{suffix}",
            "activity.rttm",
        ]
        assert ("would clip" in result.stderr) == (suffix == "wav")
        total = sum(audio.read(out / "x" / f"source{n}.{suffix}")[0] for n in (1, 2))
        assert np.abs(total).max() == pytest.approx(np.abs(loud[0]).max(), rel=0.01)

    def test_plot_is_a_png(self, wav: Path, out: Path) -> None:
        assert separate(wav, "-o", out, "--plot").exit_code == 0
        assert (out / "talk" / "separation.png").read_bytes().startswith(b"\x89PNG")

    def test_the_first_block_with_talkers_is_drawn(
        self,
        tmp_path: Path,
        out: Path,
        two_talker_mixture: Mixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Nobody is heard before: there are no tracks yet."""
        drawn: list[np.ndarray] = []

        def draw(mixture: np.ndarray, sources: np.ndarray, rate: int) -> object:
            drawn.extend([mixture, sources])
            return plot_separation(mixture, sources, rate)

        def assign(tracks: Tracks, start: int, *signals: object) -> list[int]:
            return [-1, -1] if start == 0 else known(tracks, start, *signals)

        plot_separation, known = plot.plot_separation, Tracks.assign
        monkeypatch.setattr(plot, "plot_separation", draw)
        monkeypatch.setattr(Tracks, "assign", assign)
        mixture = two_talker_mixture.mixture.astype(np.float32)
        audio.write(tmp_path / "x.wav", mixture, RATE)
        options = ["--sources", "auto", "--block", 2, "--plot", "--json", "-O", "n_fft=1024"]
        (record,) = records(separate(tmp_path / "x.wav", "-o", out, *options))
        assert record["blocks"][0]["tracks"] == [-1, -1]
        assert "separation.png shows 1.2 to 2.8 s" in record["notes"]
        np.testing.assert_allclose(drawn[0], mixture[0, 20000:44000], atol=1e-6)
        assert len(drawn[1]) > 0

    def test_nobody_at_all_can_be_drawn(
        self, wav: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Tracks, "assign", lambda *_: [-1, -1])
        result = separate(wav, "-o", out, "--sources", "auto", "--plot", "--json")
        (record,) = records(result)
        assert record["files"] == ["activity.rttm", "separation.png"]
        assert record["notes"] == ["nobody is heard"]

    def test_long_recordings_in_blocks(
        self, tmp_path: Path, out: Path, two_talker_mixture: Mixture
    ) -> None:
        mixture = two_talker_mixture.mixture.astype(np.float32)
        audio.write(tmp_path / "x.wav", mixture, RATE)
        options = ["--block", 2, "--json", "--residual", "--images", "--plot", "-O", "n_fft=1024"]
        result = separate(tmp_path / "x.wav", "-o", out, *options)
        (record,) = records(result)
        assert [block["start"] for block in record["blocks"]] == [0, 20000, 40000]
        assert record["notes"] == ["separation.png shows the first 1.5 s"]
        parts = [audio.read(out / "x" / f"{x}.wav")[0] for x in ("source1", "source2", "residual")]
        assert all(part.shape == (1, mixture.shape[1]) for part in parts)
        np.testing.assert_allclose(sum(parts)[0], mixture[0], atol=1e-6)
        image = audio.read(out / "x" / "image2.wav")[0]
        assert image.shape == mixture.shape
        np.testing.assert_allclose(image[0], parts[1][0], atol=1e-6)

    @pytest.mark.parametrize("offset", [0, 0.5])
    def test_the_number_of_talkers_is_found(
        self, tmp_path: Path, out: Path, two_talker_mixture: Mixture, offset: float
    ) -> None:
        mixture = two_talker_mixture.mixture.astype(np.float32) + np.float32(offset)
        audio.write(tmp_path / "x.wav", mixture[:, : 2 * RATE], RATE)
        options = ["--sources", "auto", "-m", "auxiva", "-i", 20, "--json", "-O", "n_fft=2048"]
        (record,) = records(fca("separate", tmp_path / "x.wav", "-o", out, *options))
        assert record["settings"]["n_sources"] == "auto"
        assert record["n_sources"] == 2
        assert record["files"] == ["source1.wav", "source2.wav", "activity.rttm"]
        spoken = read_rttm(out / "x" / "activity.rttm")
        assert {segment.speaker for segment in spoken} == {"source1", "source2"}
        assert max(segment.end for segment in spoken) <= 2

    def test_a_guide_names_the_talkers(self, tmp_path: Path, wav: Path, out: Path) -> None:
        guide = tmp_path / "guide.rttm"
        spoken = [Segment("ann", 0, 0.6), Segment("bob", 0.4, 0.6)]
        write_rttm(guide, spoken, "talk")
        result = separate(wav, "-o", out, "--rttm", guide, "--images", "--json", "-O", "n_fft=512")
        names = ["ann.wav", "bob.wav", "ann.image.wav", "bob.image.wav"]
        assert records(result)[0]["files"] == names
        only = separate(
            wav, "-o", out / "x", "--rttm", guide, "--target", "bob", "--json", "-O", "n_fft=512"
        )
        assert records(only)[0]["files"] == ["bob.wav"]
        first, second = (audio.read(out / x / "bob.wav")[0] for x in ("talk", "x/talk"))
        np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize(
        ("line", "options", "message"),
        [
            ("SPEAKER a 1 0 1 <NA> <NA> ann\nSPEAKER b 1 0 1 <NA> <NA> ann", [], "called talk"),
            ("SPEAKER a 1 0 1 <NA> <NA> ann", ["--target", "bob"], "nobody is called bob"),
            ("SPEAKER a 1 0 1 <NA> <NA> ../ann", [], "cannot name a file"),
        ],
    )
    def test_guides_of_no_use(
        self, tmp_path: Path, wav: Path, out: Path, line: str, options: list[str], message: str
    ) -> None:
        (tmp_path / "x.rttm").write_text(line)
        result = separate(wav, "-o", out, "--rttm", tmp_path / "x.rttm", *options)
        assert result.exit_code == 1
        assert message in result.stderr
        assert not out.exists()

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("nothing", "begins with SPEAKER"),
            ("SPEAKER a 1 0 -1 <NA> <NA> ann", "line 1: not a stretch of time"),
            ("SPEAKER a 1 -1 2 <NA> <NA> ann", "line 1: begins before the recording, at -1 s"),
            (None, "x.rttm: No such file or directory"),
        ],
    )
    def test_guides_that_cannot_be_read(
        self, tmp_path: Path, wav: Path, out: Path, line: str | None, message: str
    ) -> None:
        """However many recordings there are, it is said once, before any is read."""
        if line is not None:
            (tmp_path / "x.rttm").write_text(line)
        result = separate(wav, "absent.wav", "-o", out, "--rttm", tmp_path / "x.rttm")
        assert result.exit_code == 2
        assert message in " ".join(result.stderr.replace("│", " ").split())
        assert not out.exists()

    @pytest.mark.parametrize(
        ("speakers", "options", "clash"),
        [
            (["residual", "b"], ["--residual"], "residual"),
            (["b", "b.image"], ["--images"], "b.image"),
            (["residual", "b"], [], None),
            (["b", "residual"], ["--residual", "--target", "b"], None),
        ],
    )
    def test_speakers_called_like_other_files(
        self,
        tmp_path: Path,
        wav: Path,
        out: Path,
        speakers: list[str],
        options: list[str],
        clash: str | None,
    ) -> None:
        spoken = [Segment(speakers[0], 0, 0.6), Segment(speakers[1], 0.4, 0.6)]
        write_rttm(tmp_path / "x.rttm", spoken, "talk")
        guide = ["--rttm", tmp_path / "x.rttm", "-O", "n_fft=512"]
        result = separate(wav, "-o", out, *guide, *options)
        assert result.exit_code == (0 if clash is None else 1)
        if clash:
            assert f"the speaker '{clash}' is called like another file" in result.stderr
            assert not out.exists()

    def test_turns_after_the_end(self, tmp_path: Path, wav: Path, out: Path) -> None:
        late = [Segment("ann", 60, 1), Segment("bob", 0.4, 0.6), Segment("cat", 0, 0.6)]
        guide = ["--rttm", tmp_path / "x.rttm", "-O", "n_fft=512", "--json"]
        write_rttm(tmp_path / "x.rttm", late[:1], "talk")
        nobody = separate(wav, "-o", out, *guide)
        assert nobody.exit_code == 1
        assert "all turns are after the end, at 1.0 s" in nobody.stderr
        assert not out.exists()
        write_rttm(tmp_path / "x.rttm", late, "talk")
        assert separate(wav, "-o", out, *guide, "--target", "ann").exit_code == 1
        (record,) = records(separate(wav, "-o", out, *guide))
        assert record["notes"] == ["ann speaks after the end only: silent"]
        write_rttm(tmp_path / "x.rttm", [*late[1:], Segment("cat", 0.9, 0.4)], "talk")
        (record,) = records(separate(wav, "-o", out / "cut", *guide))
        assert record["notes"] == ["turns go on after the end, by up to 0.3 s"]

    @pytest.mark.parametrize("options", [[], ["--shard", "1/2"]])
    def test_a_guide_about_another_is_for_a_single_recording(
        self, tmp_path: Path, wav: Path, out: Path, recording: np.ndarray, options: list[str]
    ) -> None:
        write_all(tmp_path, ["hall.wav"], recording)
        spoken = [Segment("ann", 0, 0.6), Segment("bob", 0.4, 0.6)]
        write_rttm(tmp_path / "x.rttm", spoken, "talk")
        guide = ["--rttm", tmp_path / "x.rttm", "-O", "n_fft=512"]
        both = separate(tmp_path / "hall.wav", wav, "-o", out, *guide, *options)
        assert both.exit_code == 1
        assert "nothing is said of a recording called hall" in both.stderr
        alone = separate(tmp_path / "hall.wav", "-o", out / "x", *guide, "--json")
        assert records(alone)[0]["notes"] == [
            f"{tmp_path / 'x.rttm'} is about talk, applied to hall"
        ]

    def test_a_bad_turn_of_one_recording_leaves_the_others(
        self, tmp_path: Path, wav: Path, out: Path, recording: np.ndarray
    ) -> None:
        write_all(tmp_path, ["hall.wav"], recording)
        turns = ["talk 1 0 0.6 <NA> <NA> ann", "talk 1 0.4 0.6 <NA> <NA> bob"]
        turns += ["talk 1 0.5 0 <NA> <NA> cat", "hall 1 0.5 much <NA> <NA> ann"]
        turns += ["hall 1 0.1 0.6 <NA> <NA> ann"]
        (tmp_path / "x.rttm").write_text("".join(f"SPEAKER {turn}\n" for turn in turns))
        guide = ["--rttm", tmp_path / "x.rttm", "-O", "n_fft=512", "--json"]
        result = separate(tmp_path / "hall.wav", wav, "-o", out, *guide)
        hall, talk = records(result)
        assert hall["status"] == "failed"
        assert hall["error"].endswith("x.rttm, line 4: not 'SPEAKER FILE 1 START SECONDS ...'")
        assert talk["files"] == ["ann.wav", "bob.wav"]

    def test_names_with_spaces_in_activities(
        self, tmp_path: Path, out: Path, two_talker_mixture: Mixture
    ) -> None:
        audio.write(tmp_path / "my talk.wav", two_talker_mixture.mixture.astype(np.float32), RATE)
        assert separate(tmp_path / "my talk.wav", "-o", out, "-i", 10).exit_code == 0
        path = out / "my talk" / "activity.rttm"
        lines = path.read_text().splitlines()
        assert lines
        assert {len(line.split()) for line in lines} == {10}
        assert len(read_rttm(path, "my talk", exact=True)) == len(lines)

    def test_it_is_said_that_nobody_is_heard(self) -> None:
        assert Log(None).notes(RATE) == ["nobody is heard"]
        assert Log(None, names=["source1"]).notes(RATE) == []

    def test_channels_that_tell_nothing_are_named(
        self, tmp_path: Path, out: Path, two_talker_mixture: Mixture
    ) -> None:
        mixture = two_talker_mixture.mixture.astype(np.float32)
        channels = np.stack([mixture[0], mixture[1], 0 * mixture[1], mixture[0]])
        audio.write(tmp_path / "x.wav", channels, RATE)
        result = separate(tmp_path / "x.wav", "-o", out, "-m", "auxiva", "-i", 2, "--json")
        notes = ["channel 2 carries no signal", "channel 3 is a copy of channel 0"]
        assert records(result)[0]["notes"] == notes
        assert "; ".join(notes) in result.stderr

    def test_gaps_that_follow_each_other_are_one(self) -> None:
        blocks = [{"start": k * RATE, "stop": (k + 2) * RATE, "tracks": [0]} for k in range(5)]
        for block, why in zip(blocks, ("silent", "silent", "", "silent", "short"), strict=True):
            block |= {"problem": why} if why else {}
        notes = Log(None, names=["source1"], blocks=blocks).notes(RATE)
        assert notes == [
            "not separated from 0.0 to 3.0 s: silent",
            "not separated from 3.0 to 5.0 s: silent",
            "not separated from 4.0 to 6.0 s: short",
        ]

    def test_channels_that_tell_nothing_for_a_while_are_named(self) -> None:
        log = Log(None, names=["source1"], blocks=[{}, {}, {}], remarks=Counter(quiet=1, dead=3))
        assert log.notes(RATE) == ["quiet (1 of 3 blocks)", "dead"]

    def test_blocks_of_more_iterations_have_a_mean_cost(self) -> None:
        costs = [[(0, 4.0), (10, 2.0)], [(0, 8.0), (10, 6.0), (20, 1.0)]]
        assert Log(None, costs=costs).cost == [(0, 6.0), (10, 4.0), (20, 1.5)]
        assert Log(None).cost == []

    def test_a_block_with_fewer_microphones_than_the_others(
        self, tmp_path: Path, out: Path, speech: np.ndarray
    ) -> None:
        """The others see principal components first, and all microphones then."""
        rng = np.random.default_rng(0)
        channels = (rng.standard_normal((5, 2)) @ speech[:2]).astype(np.float32)
        channels += 1e-3 * rng.standard_normal(channels.shape).astype(np.float32)
        channels[4, channels.shape[1] // 2 :] = 0
        audio.write(tmp_path / "x.wav", channels, RATE)
        options = ["-m", "fastmnmf2", "-O", "spare=2", "-i", 2, "--block", 1.1, "--json"]
        result = fca("separate", tmp_path / "x.wav", "-o", out, *options)
        assert result.exit_code == 0, result.stderr
        blocks = records(result)[0]["blocks"]
        assert len(blocks) > 2 and not any("problem" in block for block in blocks)

    def test_an_interrupted_run_leaves_earlier_results(
        self, wav: Path, out: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        separate(wav, "-o", out)
        before = {path.name: path.read_bytes() for path in (out / "talk").iterdir()}

        def full(*arguments: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(Writer, "write", full)
        result = separate(wav, "-o", out, "--overwrite", "--seed", 1)
        assert result.exit_code == 1
        assert "no space left" in result.stderr
        assert {path.name: path.read_bytes() for path in (out / "talk").iterdir()} == before

    def test_options_reach_the_separator(self, wav: Path, out: Path) -> None:
        result = separate(wav, "-o", out, "--json", "-O", "n_fft=512", "-O", "start=identity")
        assert records(result)[0]["settings"]["n_fft"] == 512
        assert records(result)[0]["settings"]["start"] == "identity"

    def test_flags_left_out_are_no_options_but_null_is_a_value(self) -> None:
        given = {"seed": 1, "weights": None}
        found = chosen(given, ["dof=null", "n_fft=512"], separator_types, separate_command)
        assert found == {"seed": 1, "dof": None, "n_fft": 512}
        assert chosen({"weights": None}, None, separator_types, separate_command) == {}

    def test_null_reaches_the_separator(self, wav: Path, out: Path) -> None:
        result = separate(wav, "-o", out, "-O", "hop=null", "--json")
        assert records(result)[0]["settings"]["hop"] is None

    def test_reverberation_is_taken_out(self, wav: Path, out: Path) -> None:
        separate(wav, "-o", out / "reverberant", "-O", "n_fft=1024")
        options = ["--reverberation", "ar", "-O", "n_fft=1024", "-O", "taps=2", "--json"]
        result = separate(wav, "-o", out / "early", *options)
        assert records(result)[0]["settings"]["reverberation"] == "ar"
        reverberant, early = (
            audio.read(out / kind / "talk" / "source1.wav")[0] for kind in ("reverberant", "early")
        )
        assert reverberant.shape == early.shape
        assert np.linalg.norm(reverberant - early) > 0.01 * np.linalg.norm(reverberant)

    def test_same_seed_same_samples(self, wav: Path, out: Path) -> None:
        for folder in ("a", "b"):
            options = ["--method", "fastmnmf1", "-i", 2, "--seed", 3]
            assert fca("separate", wav, "-o", out / folder, *options).exit_code == 0
        first, second = (audio.read(out / x / "talk" / "source1.wav")[0] for x in "ab")
        np.testing.assert_array_equal(first, second)


def test_methods_lists_every_row() -> None:
    result = fca("methods")
    assert result.exit_code == 0
    for row in METHODS.values():
        (line,) = (line for line in result.stdout.splitlines() if line.split()[1:2] == [row.name])
        assert row.spatial in line
        assert row.paper in line


def test_methods_lists_the_options_of_one() -> None:
    result = fca("methods", "deep-fca")
    assert result.exit_code == 0
    cells = [line.split()[1::2] for line in result.stdout.splitlines() if "│" in line]
    assert ["gate", "true"] in cells
    assert ["n_starts", "2"] in cells
    assert ["dof", "null"] in cells
    unknown = fca("methods", "magic")
    assert unknown.exit_code == 2
    assert "unknown method 'magic'" in unknown.stderr


def test_version() -> None:
    from fca import __version__

    assert fca("--version").stdout == f"fca {__version__}\n"


def test_help_does_not_import_anything_heavy() -> None:
    program = (
        "import sys\nfrom fca.cli import main\nsys.argv = ['fca', 'separate', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'matplotlib', 'numpy', 'scipy', 'pyroomacoustics'}\n"
        "heavy |= {'soundfile', 'soxr', 'jinja2', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "--reference-channel" in done.stdout
    assert done.stderr.strip() == "[]"


def test_where_a_recording_failed_is_shown_on_request(wav: Path, out: Path) -> None:
    code = "from fca.cli import main, results\nresults.Log.follow = lambda *_: [][1]\nmain()"
    command = [sys.executable, "-c", code, "separate", wav, "-o", out, "-m", "auxiva"]
    for debug in ("", "1"):
        done = subprocess.run(
            command, env={**os.environ, "FCA_DEBUG": debug}, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert f"failed  {wav}: IndexError: list index out of range" in done.stderr
        assert ("Traceback" in done.stderr) == bool(debug)


@pytest.mark.skipif(os.name != "posix", reason="schedulers that stop jobs by a signal")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_stop_leaves_nothing_half_written(wav: Path, out: Path, name: str) -> None:
    code = "from fca.cli import main; main()"
    options = ["separate", wav, "-o", out, "-m", "ilrma", "-i", "1000000"]
    with subprocess.Popen([sys.executable, "-c", code, *options], stderr=subprocess.PIPE) as run:
        while run.poll() is None and not out.exists():
            time.sleep(0.05)
        run.send_signal(signal.Signals[name])
        try:
            assert run.wait(timeout=60) == 128 + signal.Signals[name]
        finally:
            run.kill()
    assert not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.skipif(os.name != "posix", reason="terminals that close")
def test_a_run_that_is_to_outlast_its_terminal_does() -> None:
    """As nohup starts it."""
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nimport fca.cli\n"
        "fca.cli.app = lambda: os.kill(os.getpid(), signal.SIGHUP)\nfca.cli.main()\nprint('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
