"""The recipes of the standard corpora, each through all stages on a tiny corpus of its layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import DATA, RATE, MixtureMaker

from fca import audio
from fca.activity import Segment, write_rttm
from fca.simulate.stored import MANIFEST, load
from recipes import config
from recipes.corpora.__main__ import main
from recipes.corpora.layout import Source, thin, write_set
from recipes.corpora.recipe import STAGES
from recipes.corpora.scores import separation_tables

pytest.importorskip("lightning")
pytest.importorskip("pyroomacoustics")
CONFIGS = Path(config.__file__).parent / "corpora" / "configs"
SPEAKERS = sorted(file.stem for file in DATA.glob("*.flac"))
TINY = [
    "rooms=1",
    "metrics=[sdr,si_sdr]",
    "device=cpu",
    "methods.IVA-Gauss={n_fft: 512, hop: 128, n_iter: 2}",
    "methods.fastmnmf2=null",
    "methods.deep-fca=null",
    "methods.deep-fca, trained here={n_fft: 256, n_refine: 0}",
    "prior.model={width: 16, n_fft: 256, hop: 64, latent_dim: 4}",
    "encoder.model={width: 16, dilations: [1]}",
    *(
        f"{name}.{setting}"
        for name in ("prior", "encoder")
        for setting in (
            "data={seconds: 0.5, batch_size: 2, valid_items: 2}",
            "training={steps: 1, steps_per_epoch: 1, accelerator: cpu}",
        )
    ),
]
Corpus = tuple[str, list[str], int]
"""Name of a configuration, settings of the tiny corpus, and its number of recordings."""


def write(path: Path, waveform: np.ndarray, rate: int = RATE) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, audio.resample(np.float32(waveform), RATE, rate), rate)
    return str(path)


def librispeech(root: Path, make_mixture: MixtureMaker) -> Corpus:
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        for speaker in SPEAKERS:
            place = root / part / speaker / "1"
            place.mkdir(parents=True)
            (place / f"{speaker}-1-0000.flac").symlink_to(DATA / f"{speaker}.flac")
    small = "{count: 1, seconds: [1, 1], rt60: [0.2, 0.2]}"
    kinds = ("two_talkers", "three_talkers")
    return "librispeech", [f"data.conditions.{kind}={small}" for kind in kinds], 2


def wsj0_mix(root: Path, make_mixture: MixtureMaker, talkers: int) -> Corpus:
    for k in range(2):
        mixture = make_mixture(talkers, 4, seconds=1.0, seed=k)
        name = "_".join(f"{speaker}a010{k}_0.5" for speaker in SPEAKERS[:talkers]) + ".wav"
        place = root / f"{talkers}speakers_reverb" / "wav16k" / "min" / "tt"
        write(place / "mix" / name, mixture.mixture)
        for n, image in enumerate(mixture.images, start=1):
            write(place / f"s{n}" / name, image)
    speech = [f"data.speech={DATA}", f"data.valid_speech={DATA}", "data.channels=3"]
    return f"wsj0-{talkers}mix", speech, 2


def sms_wsj(root: Path, make_mixture: MixtureMaker) -> Corpus:
    """A database that was moved after it was written: its paths are those of another machine."""
    examples = {}
    for k in range(2):
        mixture, name = make_mixture(2, 6, seconds=1.5, seed=k), f"{k}_4k6c0303_4k4c0319"
        parts = {"early": mixture.early, "tail": mixture.images - mixture.early}
        parts["speech_source"] = mixture.dry[:, None]
        write(root / "observation" / "test" / f"{name}.wav", mixture.mixture, 8000)
        for part, talkers in parts.items():
            for n, wave in enumerate(talkers):
                write(root / part / "test" / f"{name}_{n}.wav", wave, 8000)

        def files(part: str, name: str = name) -> list[str]:
            return [f"/elsewhere/sms_wsj/{part}/test/{name}_{n}.wav" for n in (0, 1)]

        examples[name] = {
            "speaker_id": ["4k6", "4k4"],
            "audio_path": {
                "observation": f"/elsewhere/sms_wsj/observation/test/{name}.wav",
                "speech_source": files("speech_source"),
                "speech_reverberation_early": files("early"),
                "speech_reverberation_tail": files("tail"),
            },
        }
    parts = ("train_si284", "cv_dev93", "test_eval92")
    (root / "sms_wsj.json").write_text(json.dumps({"datasets": dict.fromkeys(parts, examples)}))
    return "sms-wsj", [], 2


def ami(root: Path, make_mixture: MixtureMaker) -> Corpus:
    recording = make_mixture(2, 3, seconds=2.0).mixture
    for channel, wave in enumerate(recording, start=1):
        write(root / "EN1" / "audio" / f"EN1.Array1-{channel:02d}.wav", wave)
    segments = [Segment("A", 0, 2), Segment("B", 0, 2)]
    (root / "rttms" / "test").mkdir(parents=True)
    write_rttm(root / "rttms" / "test" / "EN1.rttm", segments, "EN1")
    settings = [f"data.rttms={root / 'rttms'}", "data.meetings=[EN1]", "data.channels=3"]
    settings += ["data.talkers=2", f"data.speech={DATA}", f"data.valid_speech={DATA}"]
    return "ami", [*settings, f"stages={','.join(STAGES)}"], 1


CORPORA: dict[str, Callable[[Path, MixtureMaker], Corpus]] = {
    "librispeech": librispeech,
    "wsj0-2mix": lambda root, make: wsj0_mix(root, make, 2),
    "wsj0-3mix": lambda root, make: wsj0_mix(root, make, 3),
    "sms-wsj": sms_wsj,
    "ami": ami,
}


def arguments(root: Path, out: Path, corpus: Corpus) -> list[str]:
    path = CONFIGS / f"{corpus[0]}.yaml"
    return [str(path), f"data.corpus={root}", f"output={out}", *TINY, *corpus[1]]


def state(out: Path) -> dict[str, int]:
    """When the files that take time were written: sound, networks, room responses, scores."""
    kinds = (".wav", ".safetensors", ".npz", ".ckpt", ".jsonl")
    found = (p for p in out.rglob("*") if p.suffix in kinds and p.name != MANIFEST)
    return {str(path): path.stat().st_mtime_ns for path in found}


def test_what_mixtures_have_no_score_of_is_left_out() -> None:
    row = {"key": {"method": "ours", "item": "x"}, "condition": "all"}
    row |= {"scores": {"sdr": [3.0], "sar": [9.0]}, "improvement": {"sdr": [2.0]}}
    lines = separation_tables([row], None).splitlines()
    assert lines[-2:] == ["| mixture | 1.00 |  |", "| ours | 3.00 | 9.00 |"]


def test_every_configuration_is_gone_through() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} - {"base"} == set(CORPORA)


@pytest.mark.parametrize("name", CORPORA)
def test_all_stages_from_a_corpus_to_its_scores(
    name: str, tmp_path: Path, make_mixture: MixtureMaker
) -> None:
    root, out = tmp_path / "corpus", tmp_path / "out"
    corpus = CORPORA[name](root, make_mixture)
    wanted = arguments(root, out, corpus)
    assert main(wanted) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert len(rows) == 2 * corpus[2]  # by two methods
    assert {row["key"]["method"] for row in rows} == {"IVA-Gauss", "deep-fca, trained here"}
    text = (out / "results.md").read_text()
    if name == "ami":
        assert all(0 <= row["diarization"]["DER"] < 2 for row in rows)
        assert "| DER |" in text
    else:
        scores = [score for row in rows for score in row["scores"]["si_sdr"]]
        assert np.isfinite(scores).all()
        assert text.count("| mixture |") == len({row["condition"] for row in rows})
        assert "SI-SDR over IVA-Gauss" in text
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert saved["prior"]["model"]["width"] == 16
    before = state(out)
    assert main(wanted) == 0
    assert state(out) == before


class TestSmsWsj:
    @pytest.fixture
    def root(self, tmp_path: Path, make_mixture: MixtureMaker) -> Path:
        sms_wsj(tmp_path / "corpus", make_mixture)
        return tmp_path / "corpus"

    def test_the_set_is_the_corpus(self, root: Path, tmp_path: Path) -> None:
        wanted = arguments(root, tmp_path / "out", ("sms-wsj", ["stages=index"], 2))
        assert main([*wanted, "data.channels=[4,1]"]) == 0
        assert not (tmp_path / "out" / "rooms.npz").exists()
        for item in load(tmp_path / "out" / "set"):
            observation = audio.read(root / "observation" / "test" / f"{item.id}.wav")[0]
            assert np.array_equal(item.read("mixture"), observation[[4, 1]])
            assert item.sample_rate == 8000
            assert item.read("dry").shape == (2, observation.shape[1])
            np.testing.assert_allclose(item.read("images").sum(0), observation[[4, 1]], atol=1e-4)
            assert np.array_equal(
                item.read("early")[1, 0],
                audio.read(root / "early" / "test" / f"{item.id}_1.wav")[0][4],
            )

    def test_dry_speech_of_all_microphones_is_that_of_the_first(self, tmp_path: Path) -> None:
        file, waves = tmp_path / "x.wav", np.arange(12, dtype=np.float32).reshape(3, 4) / 12
        write(file, waves)
        source = Source("x", "two_talkers", ["a", "b"], file, [], dry=2 * [[file]])
        write_set(tmp_path / "set", [(0, source)], [2, 1], {})
        (item,) = load(tmp_path / "set")
        np.testing.assert_allclose(item.read("dry"), waves[[2, 2]], atol=1e-6)

    def test_other_settings_need_another_folder(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        wanted = arguments(root, tmp_path / "out", ("sms-wsj", ["stages=index"], 2))
        assert main([*wanted, "data.items=1"]) == 0
        assert len(load(tmp_path / "out" / "set")) == 1
        assert main([*wanted, "data.channels=6"]) == 1
        assert "made with other settings" in capsys.readouterr().err

    def test_a_database_without_images_is_refused(
        self, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        database = json.loads((root / "sms_wsj.json").read_text())
        for example in database["datasets"]["test_eval92"].values():
            del example["audio_path"]["speech_reverberation_tail"]
        (root / "sms_wsj.json").write_text(json.dumps(database))
        assert main(arguments(root, tmp_path / "out", ("sms-wsj", [], 2))) == 1
        assert "write_all=True" in capsys.readouterr().err


def test_without_training_the_shipped_models_separate(
    tmp_path: Path, make_mixture: MixtureMaker
) -> None:
    root, out = tmp_path / "corpus", tmp_path / "out"
    wanted = arguments(root, out, wsj0_mix(root, make_mixture, 2))
    settings = ["stages=evaluate,separate,prepare,index", "data.speech=null"]
    settings += ["data.valid_speech=null", "methods.deep-fca={n_refine: 0}", "shard=2/2"]
    assert main([*wanted, *settings]) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert [row["key"]["method"] for row in rows] == ["IVA-Gauss", "deep-fca"]
    assert {row["key"]["item"] for row in rows} == {load(out / "set")[1].id}
    assert not (out / "prior").exists()


def test_talkers_of_meetings_are_counted_where_their_number_is_not_given(
    tmp_path: Path, make_mixture: MixtureMaker
) -> None:
    name, settings, count = ami(tmp_path / "corpus", make_mixture)
    settings += ["stages=index,separate,evaluate", "data.talkers=null"]
    out = tmp_path / "out"
    assert main(arguments(tmp_path / "corpus", out, (name, settings, count))) == 0
    record = json.loads((out / "separated/IVA-Gauss/EN1/separation.json").read_text())
    assert record["settings"]["count"] and record["n_sources"] <= 3


@pytest.mark.parametrize("name", CORPORA)
def test_a_folder_that_is_not_the_corpus_gives_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("missing", "."):
        given = [str(CONFIGS / f"{name}.yaml"), f"data.corpus={tmp_path / folder}"]
        extra = [f"data.rttms={tmp_path}"] if name == "ami" else []
        assert main([*given, f"output={tmp_path / 'out'}", *extra]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"error: {tmp_path}")
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["stages=separate,listen"], "no stage 'listen'"),
        (["data.chanels=2"], "unknown setting data.chanels"),
        (["layout=chime"], "no layout 'chime'"),
        (["stages=index", "data.channels=9"], "has 4 channels, not [0, 1, 2"),
        (["stages=evaluate"], "no such file; make the set"),
        (["stages=prior"], "give data.speech and data.valid_speech"),
        (["data.speech=x"], "give data.speech and data.valid_speech, or neither"),
        (["methods.a/b={}"], "'a/b' cannot name a folder"),
    ],
)
def test_bad_settings_give_one_line(
    settings: list[str],
    message: str,
    tmp_path: Path,
    make_mixture: MixtureMaker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wsj0_mix(tmp_path / "corpus", make_mixture, 2)
    assert main(arguments(tmp_path / "corpus", tmp_path / "out", ("wsj0-2mix", settings, 2))) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.fixture
def training(tmp_path: Path, make_mixture: MixtureMaker) -> list[str]:
    """A recipe that trains a prior, into `out`."""
    corpus = wsj0_mix(tmp_path / "corpus", make_mixture, 2)
    return [*arguments(tmp_path / "corpus", tmp_path / "out", corpus), "stages=prepare,prior"]


def test_rooms_and_trainings_of_other_settings_are_refused(
    training: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(training) == 0
    capsys.readouterr()
    before = state(out)
    for setting, part in (
        ("rooms=2", "rooms.npz"),
        ("seed=1", "rooms.npz"),
        ("prior.training.learning_rate=0.01", "prior"),
    ):
        for stages in ("stages=prepare,prior", "stages=prior"):
            assert main([*training, setting, stages]) == 1
            error = capsys.readouterr().err
            assert error.startswith(f"error: {out / part}: made with other settings")
            assert error.count("\n") == 1
            assert state(out) == before
    (out / "rooms.json").unlink()  # a bank of unknown settings is not taken for that asked for
    assert main(training) == 1
    assert f"{out / 'rooms.npz'}: made with other settings" in capsys.readouterr().err


def test_a_training_that_was_stopped_goes_on_with_its_own_settings_alone(
    training: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from recipes.prior import train

    def stopped(experiment: train.Experiment) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            main(training)
    place = tmp_path / "out" / "prior"
    assert main([*training, "prior.training.learning_rate=0.01"]) == 1
    assert f"{place}: made with other settings" in capsys.readouterr().err
    assert not (place / "prior").exists()
    assert main(training) == 0
    assert (place / "done.json").read_text() == (place / "begun.json").read_text()


@pytest.mark.parametrize(
    ("count", "items", "places"),
    [(4, None, [0, 1, 2, 3]), (10, 4, [0, 2, 5, 7]), (5, 4, [0, 1, 2, 3]), (3, 9, [0, 1, 2])],
)
def test_some_of_a_corpus_are_from_all_of_it(
    count: int, items: int | None, places: list[int]
) -> None:
    found = thin([str(k) for k in range(count)], items)
    assert found == [(k, str(k)) for k in places]
    assert [place for place, _ in thin(range(1332), 700)][-1] > 1325
