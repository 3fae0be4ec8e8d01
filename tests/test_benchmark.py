"""The benchmark end to end on a tiny set: build, resume, load, score, time."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from fca.errors import InputError
from fca.methods import get_method
from fca.neural import NeuralConfig, NeuralFCA
from fca.separator import Separator
from recipes import config
from recipes.benchmark import (
    __main__,
    ceilings,
    common,
    data,
    quality,
    scoring,
    speed,
    tables,
)

SPEECH = Path(__file__).parent / "data"
RATE = 16000


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> data.Corpora:
    """The shipped utterances as a corpus of four speakers, and two-microphone responses."""
    root = tmp_path_factory.mktemp("corpus")
    for file in SPEECH.glob("*.flac"):
        (root / "speech" / file.stem / "chapter").mkdir(parents=True)
        shutil.copy(file, root / "speech" / file.stem / "chapter")
    rng = np.random.default_rng(0)
    decay = np.exp(-np.arange(1600) / 300)
    np.savez(
        root / "rooms.npz",
        rir=(rng.standard_normal((12, 2, 1600)) * decay).astype(np.float32),
        azimuth_deg=np.arange(12) * 30.0,
        sample_rate=RATE,
    )
    return data.Corpora(root / "speech", None, root / "rooms.npz")


@pytest.fixture(scope="module")
def built(corpora: data.Corpora, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    data.build(data.conditions("tiny"), corpora, folder, seed=1)
    return folder


def test_set_is_complete_and_adds_up(built: Path) -> None:
    items = data.load(built)
    assert [item.condition for item in items] == ["two_talkers"] * 2 + ["measured_binaural"]
    for item in items:
        mixture, images = item.read("mixture"), item.read("images")
        assert images.shape == (2, len(mixture), item.row["samples"])
        assert item.read("early").shape == images.shape
        assert item.read("dry").shape == (2, mixture.shape[-1])
        noise = mixture - images.sum(axis=0)
        snr = 10 * np.log10(np.mean(images.sum(axis=0) ** 2) / np.mean(noise**2))
        assert snr == pytest.approx(30, abs=0.1)  # rounding to float32
        assert len({talker["speaker"] for talker in item.row["talkers"]}) == 2
    np.testing.assert_array_equal(items[0].references(1), items[0].read("images")[:, 1])


def test_building_is_seeded_and_resumes(built: Path, corpora: data.Corpora, tmp_path: Path) -> None:
    kinds = data.conditions("tiny")
    first, *_ = data.build(kinds, corpora, tmp_path, seed=1)
    again = data.load(built)[0]
    np.testing.assert_array_equal(first.read("mixture"), again.read("mixture"))
    assert first.row == again.row
    stamp = (first.folder / "mixture.wav").stat().st_mtime_ns
    data.build(kinds, corpora, tmp_path, seed=1)
    assert (first.folder / "mixture.wav").stat().st_mtime_ns == stamp
    with pytest.raises(InputError, match="other settings"):
        data.build(kinds, corpora, tmp_path, seed=2)


def test_set_says_what_it_lacks(corpora: data.Corpora, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no set 'huge'"):
        data.conditions("huge")
    with pytest.raises(InputError, match="give --measured"):
        data.build(data.conditions("tiny"), data.Corpora(corpora.speech), tmp_path)
    with pytest.raises(InputError, match=r"empty: 0 speakers, \d+ needed"):
        (tmp_path / "empty").mkdir()
        nobody = data.Corpora(tmp_path / "empty", None, corpora.measured)
        data.build(data.conditions("tiny"), nobody, tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        data.load(tmp_path)


def test_quality_table_of_a_method_and_a_peer(built: Path, tmp_path: Path) -> None:
    pytest.importorskip("fast_bss_eval")
    pytest.importorskip("ssspy")
    names = ["auxiva", "pyroomacoustics auxiva"]
    short = "{n_iter: 5, n_fft: 512, hop: 128}"
    overrides = [f"quality.variants.{names[0]}={short}", f"quality.peers.{names[1]}={short}"]
    # In single precision the peer may break off on a clip of two seconds.
    overrides.append(f"quality.peers.{names[1]}.dtype=complex128")
    chosen = common.settings("quality", None, False, overrides)
    competitors = common.entries(chosen, names)
    assert [(entry.name, entry.kind) for entry in competitors] == [
        (names[0], "method"),
        (names[1], "peer"),
    ]
    assert all(entry.options["n_iter"] == 5 for entry in competitors)
    items = data.load(built)[2:]
    log = common.Log(tmp_path / "scores.jsonl")
    terms = scoring.Terms()
    alone = {**asdict(terms), "threads": 1, "jobs": 1, "code": common.code_version()}
    rows = [
        log.add(quality._key(e, i, alone), scoring.score(e, i, terms))
        for i in items
        for e in competitors
    ]
    for metric in (*scoring.METRICS, scoring.LOW_CUT):
        assert all(np.isfinite(row["improvement"][metric]).all() for row in rows)
    assert all(row["seconds"] > 0 for row in rows)
    resumed = quality.run(competitors, items, common.Log(log.path), terms)
    assert resumed == rows
    for other in ({"code": "other"}, {"threads": 2}, {"jobs": 2}, {"timeout": 1}):
        assert log.find(quality._key(competitors[0], items[0], alone | other)) is None
    log.path.write_text(log.path.read_text() + '{"key": {"entry": "died in')
    assert list(common.Log(log.path).rows.values()) == rows, "a line that was not finished is lost"
    assert common.Log(log.path).rows.keys() == log.rows.keys()
    text = tables.table(rows, competitors, yardstick=names[0])
    assert "### measured_binaural (1 mixtures)" in text
    assert all(f"| {name} |" in text for name in names)
    gain = np.mean(rows[1]["improvement"]["si_sdr"]) - np.mean(rows[0]["improvement"]["si_sdr"])
    assert f"| {gain:.2f} ± nan |" in text
    assert tables.failures(rows) == ""
    with pytest.raises(InputError, match="no entry"):
        common.entries(chosen, ["auxiliary"])


def test_items_of_a_configuration(built: Path) -> None:
    items = data.load(built)
    assert [i.id for i in quality.select(items, {"items": 1})] == [items[0].id, items[2].id]
    chosen = {"items": 9, "conditions": ["two_talkers"]}
    assert quality.select(items, chosen) == items[:2]
    with pytest.raises(InputError, match="no mixtures"):
        quality.select(items, {"items": 9, "conditions": ["four_talkers"]})


class Dying(common.Entry):
    """An entry whose process dies."""

    def separate_item(self, item: data.Item, seed: int) -> np.ndarray:
        os._exit(1)


class Weak(common.Entry):
    """An entry that raises, or never ends."""

    def separate_item(self, item: data.Item, seed: int) -> np.ndarray:
        while self.method == "endless":
            pass
        raise FloatingPointError("singular\nmatrix")


def test_who_breaks_off_loses_the_mixture_and_the_rest_goes_on(built: Path, tmp_path: Path) -> None:
    item = data.load(built)[0]
    weak = scoring.score(Weak("weak", "raises", "ceiling"), item, scoring.Terms())
    assert weak["error"] == "FloatingPointError: singular matrix"
    endless = scoring.score(
        Weak("endless", "endless", "ceiling"), item, scoring.Terms(timeout=0.05)
    )
    assert endless["error"].startswith("TimeoutError")
    competitors = [
        Dying("dying", "dies", "ceiling"),
        common.Entry("mask", "ideal ratio mask", "ceiling"),
    ]
    log = common.Log(tmp_path / "scores.jsonl")
    rows = quality.run(competitors, [item], log, scoring.Terms())
    assert [row.get("error") for row in rows] == ["the process died", None]
    assert rows[0]["improvement"]["sdr"] == ["-inf", "-inf"]
    text = tables.table(rows, competitors)
    assert "| dying | nan ± nan (1 left out) |" in text
    assert "- dying, two_talkers_0000: the process died" in tables.failures(rows)


def test_ceilings_know_the_talkers(built: Path) -> None:
    item = data.load(built)[0]
    quick = {
        "mask": common.Entry("mask", "ideal ratio mask", "ceiling", {"n_fft": 512}),
        "diagonal": common.Entry("diagonal", "wiener", "ceiling", {"n_fft": 512}),
        "full": common.Entry("full", "wiener", "ceiling", {"n_fft": 512, "spatial": "full rank"}),
    }
    for entry in quick.values():
        row = scoring.score(entry, item, scoring.Terms())
        assert row["seconds"] is None  # a ceiling's time says nothing
        assert np.mean(row["improvement"]["sdr"]) > 8, entry.name
    with pytest.raises(InputError, match="no spatial model"):
        ceilings.wiener(item, spatial="rank-1")
    chosen = common.settings("quality", None, False, [])
    configured = common.entries(chosen)
    assert {entry.name for entry in configured if entry.kind == "ceiling"} == set(
        chosen["ceilings"]
    )
    assert chosen["yardstick"] in {entry.name for entry in configured}


def test_the_low_cut_takes_rumble_and_leaves_speech() -> None:
    time = np.arange(RATE) / RATE
    rumble, voice = np.sin(2 * np.pi * 40 * time), np.sin(2 * np.pi * 120 * time)
    filtered = scoring.low_cut(np.stack([rumble, voice + rumble]), RATE)
    np.testing.assert_allclose(filtered, [np.zeros(RATE), voice], atol=1e-9)


def test_one_command_makes_mixtures_table_and_figure(tmp_path: Path) -> None:
    arguments = ["-o", str(tmp_path), "--quick", "--set", "quality.items=1"]
    arguments += ["--set", "quality.conditions=[two_talkers]", "--only", "ideal ratio mask"]
    app = typer.Typer()
    app.command()(__main__.main)
    for _ in range(2):  # the second run finds everything done
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert "| ideal ratio mask |" in (tmp_path / "quality.md").read_text()
    content = json.loads((tmp_path / "quality.json").read_text())
    assert len(content["rows"]) == len((tmp_path / "scores.jsonl").read_text().splitlines()) == 1
    assert content["surroundings"]["code"] == common.code_version()
    assert (tmp_path / "figure.svg").is_file()


def test_the_full_set_is_as_large_as_it_says() -> None:
    kinds = data.conditions("full")
    assert kinds["two_talkers"].count >= 100
    assert kinds["three_talkers"].count >= 50
    assert {kind.mics for kind in kinds.values()} == {2, 3, 4, 6, 8}
    assert kinds["three_talkers_unequal_levels"].talkers == 3
    assert list(kinds["three_talkers_unequal_levels"].level_db) == [-10, 10]


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("reverberation", "quality"), ("motion", "quality"), ("motion", "sway")],
)
def test_other_recipes_use_the_benchmark(
    recipe: str, settings: str, built: Path, tmp_path: Path
) -> None:
    """Their sets can be read, their entries are methods, and the last one can be scored."""
    pytest.importorskip("nara_wpe")
    folder = Path(quality.__file__).parent.parent / recipe
    names = set(config.load(folder / "sets.yaml")) - {"defaults"}
    assert names
    for name in names:
        kinds = data.conditions(name, folder / "sets.yaml").values()
        assert all(kind.count >= 2 for kind in kinds)
    chosen = common.settings("quality", folder / f"{settings}.yaml", False, [])
    competitors = [entry for entry in common.entries(chosen) if entry.kind == "method"]
    assert len(competitors) == len(chosen["variants"])
    for entry in competitors:
        method = Separator(entry.method, 2, **dict(entry.options)).method
        assert method.n_iter == entry.options.get("n_iter", get_method(entry.method).n_iter)
    reference = chosen.get("reference", "images")
    short = replace(competitors[-1], options={**competitors[-1].options, "n_iter": 1})
    row = scoring.score(short, data.load(built)[0], scoring.Terms(reference=reference))
    assert np.isfinite(row["improvement"]["sdr"]).all()


def test_speed_compares_like_with_like() -> None:
    pytest.importorskip("ssspy")
    chosen = common.settings("speed", None, True, [])
    found = speed.matches(chosen, ["ilrma"])
    assert [match.ours.name for match in found] == ["ilrma"]
    size = speed.Size(channels=2, seconds=2.0, threads=1, n_iter=2, n_fft=1024)
    sized = found[0].sized(size)
    assert {entry.name for entry in sized} == {"ilrma", "pyroomacoustics ilrma", "ssspy ILRMA"}
    assert all(entry.options["n_iter"] == 2 for entry in sized)
    assert all(entry.options["n_fft"] == 1024 for entry in sized)
    assert speed.fits(size, {}) and speed.fits(size, {"channels": 2, "seconds": 2.0})
    assert not speed.fits(size, {"seconds": 1.9})
    cost = speed.measure(sized[0], size, timeout=120)
    assert cost is not None
    assert cost.seconds > 0
    costs = {"ilrma": {"seconds": 1.0, "memory": 5.0}, "peer": {"seconds": 3.0, "memory": 7.0}}
    key = {"method": "ilrma", "size": {"channels": 2, "seconds": 5, "threads": 1}}
    assert "| 2 × 5 s, 1 | 1.00 s, 5 MB | 3.00 s, 7 MB | **3.0** |" in speed.table(
        [{"key": key, "costs": costs}]
    )


def test_every_peer_separates(built: Path) -> None:
    pytest.importorskip("ssspy")
    from recipes.benchmark.peers import PEERS

    mixture = data.load(built)[2].read("mixture")[:, :RATE]
    for peer in PEERS.values():
        sources = peer.separate(mixture, 2, n_iter=2)
        assert sources.shape == (2, mixture.shape[-1]), peer.name
        assert np.isfinite(sources).all(), peer.name


def test_a_network_trained_on_mixtures_competes_where_it_fits(built: Path, tmp_path: Path) -> None:
    sizes = NeuralConfig(True, 4, 2, n_fft=256, latent_dim=4, n_blocks=2, n_layers=2)
    sizes = replace(sizes, width=8, hidden=8, decoder_width=8)
    NeuralFCA(sizes).save_pretrained(tmp_path)
    override = f"quality.variants.neural-fastfca.weights={tmp_path}"
    without, chosen = (common.settings("quality", None, False, o) for o in ([], [override]))
    assert not [e for e in common.entries(without) if e.method == "neural-fastfca"]
    (entry,) = [e for e in common.entries(chosen) if e.method == "neural-fastfca"]
    assert entry.name == "neural-fastfca"
    assert entry.weights() == json.loads((tmp_path / "config.json").read_text())["sha256"]
    items = data.load(built)
    assert [entry.fits(item) for item in items] == [True, True, False]  # the last has two channels
    assert entry.separate_item(items[0], seed=0).shape == (2, items[0].row["samples"])
    assert all(e.fits(items[2]) for e in common.entries(chosen, ["auxiva", "deep-fca"]))
