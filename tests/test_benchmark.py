"""The benchmark end to end on a tiny set: build, resume, load, score, time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fca.errors import InputError
from fca.separator import Separator
from recipes import config
from recipes.benchmark import common, data, quality, speed

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
    with pytest.raises(InputError, match="speaker folders"):
        nobody = data.Corpora(tmp_path, None, corpora.measured)
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
    chosen = common.settings("quality", None, True, overrides)
    competitors = common.entries(chosen, names)
    assert [entry.name for entry in competitors] == names
    assert all(entry.options["n_iter"] == 5 for entry in competitors)
    items = data.load(built)[2:]
    log = common.Log(tmp_path / "scores.jsonl")
    rows = [
        log.add(quality._key(e, i, 0), quality.score(e, i, 0)) for e in competitors for i in items
    ]
    assert all(np.isfinite(row["improvement"]["sdr"]).all() for row in rows)
    resumed = quality.run(competitors, items, common.Log(log.path), seed=0, jobs=1, threads=1)
    assert resumed == rows
    text = quality.table(rows, competitors)
    assert "### measured_binaural (1 mixtures)" in text
    assert all(f"| {name} |" in text for name in names)
    with pytest.raises(InputError, match="no entry"):
        common.entries(chosen, ["auxiliary"])


@pytest.mark.parametrize("recipe", ["reverberation", "motion"])
def test_other_recipes_use_the_benchmark(recipe: str, built: Path, tmp_path: Path) -> None:
    """Their sets can be read, their entries are methods, and the first one can be scored."""
    pytest.importorskip("nara_wpe")
    folder = Path(quality.__file__).parent.parent / recipe
    (name,) = set(config.load(folder / "sets.yaml")) - {"defaults"}
    assert all(kind.count == 3 for kind in data.conditions(name, folder / "sets.yaml").values())
    chosen = common.settings("quality", folder / "quality.yaml", False, [])
    competitors = common.entries(chosen)
    assert len(competitors) == len(chosen["variants"])
    for entry in competitors:
        options = dict(entry.options)
        assert Separator(entry.method, 2, **options).method.n_iter == entry.options["n_iter"]
    reference = chosen.get("reference", "images")
    short = replace(competitors[-1], options={**competitors[-1].options, "n_iter": 1})
    row = quality.score(short, data.load(built)[0], 0, reference)
    assert np.isfinite(row["improvement"]["sdr"]).all()


def test_speed_compares_like_with_like() -> None:
    pytest.importorskip("ssspy")
    chosen = common.settings("speed", None, True, [])
    found = speed.matches(chosen, ["ilrma"])
    assert [match.ours.name for match in found] == ["ilrma"]
    size = speed.Size(channels=2, seconds=0.5, threads=1, n_iter=2, n_fft=1024)
    sized = found[0].sized(size)
    assert {entry.name for entry in sized} == {"ilrma", "pyroomacoustics ilrma", "ssspy ILRMA"}
    assert all(entry.options["n_iter"] == 2 for entry in sized)
    assert all(entry.options["n_fft"] == 1024 for entry in sized)
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
