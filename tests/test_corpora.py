"""Corpora: manifests, shares of job arrays, and a Ray cluster whose workers die."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, MixtureMaker
from typer.testing import CliRunner, Result

from fca import audio
from fca.cli import app
from fca.cli.cluster import work_through
from fca.cli.inputs import Recording
from fca.cli.manifest import read_manifest, shard
from fca.errors import InputError

FAST = ["--method", "auxiva", "--iterations", "2", "-O", "n_fft=512", "--json"]


def separate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["separate", *map(str, arguments), *FAST])


def statuses(result: Result) -> list[str]:
    return [json.loads(line)["status"] for line in result.stdout.splitlines()]


@pytest.fixture
def corpus(tmp_path: Path, make_mixture: MixtureMaker) -> Path:
    """A wav.scp of five short recordings."""
    recording = make_mixture(2, 2, seconds=0.5).mixture.astype(np.float32)
    for k in range(5):
        audio.write(tmp_path / f"{k}.wav", recording, RATE)
    lines = [f"utt{k} {tmp_path / f'{k}.wav'}\n" for k in range(5)]
    (tmp_path / "wav.scp").write_text("".join(lines))
    return tmp_path / "wav.scp"


class TestManifest:
    def test_tables_and_lists(self, tmp_path: Path, corpus: Path) -> None:
        assert [r.name for r in read_manifest(corpus)] == [f"utt{k}" for k in range(5)]
        (tmp_path / "list.txt").write_text("# rooms\na b.wav\n\nx/l.wav,x/r.wav\n")
        found = read_manifest(tmp_path / "list.txt")
        assert [r.name for r in found] == ["a b", "l"]
        assert found[1].files == (Path("x/l.wav"), Path("x/r.wav"))

    def test_bad_manifests(self, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("# nothing\n")
        with pytest.raises(InputError, match="lists no recordings"):
            read_manifest(tmp_path / "empty.txt")
        with pytest.raises(InputError, match="No such file"):
            read_manifest(tmp_path / "none.txt")
        assert separate("--manifest", tmp_path / "none.txt", "-o", tmp_path / "out").exit_code == 2

    def test_results_are_called_by_the_ids(self, tmp_path: Path, corpus: Path) -> None:
        result = separate("--manifest", corpus, tmp_path / "0.wav", "-o", tmp_path / "out")
        assert statuses(result) == ["done"] * 5  # 0.wav is utt0
        assert (tmp_path / "out" / "utt4" / "source2.wav").is_file()


class TestShard:
    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_shares_are_a_partition(self, count: int) -> None:
        recordings = [Recording(str(k), (Path(f"{k}.wav"),)) for k in range(5)]
        shares = [shard(recordings, f"{k + 1}/{count}") for k in range(count)]
        assert sorted(r.name for share in shares for r in share) == list("01234")

    @pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2"])
    def test_what_is_no_share(self, text: str) -> None:
        with pytest.raises(InputError, match="i/n"):
            shard([], text)

    def test_on_the_command_line(self, tmp_path: Path, corpus: Path) -> None:
        out = tmp_path / "out"
        for index, expected in ((1, 3), (2, 2)):
            result = separate("--manifest", corpus, "-o", out, "--shard", f"{index}/2")
            assert statuses(result) == ["done"] * expected
        assert statuses(separate("--manifest", corpus, "-o", out)) == ["skipped"] * 5


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a local cluster with two workers."""
    ray = pytest.importorskip("ray")
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    # Without its dashboard Ray starts in the time that it allows itself on a busy machine, too.
    monkeypatch.setattr("ray._private.utils.get_dashboard_dependency_error", ImportError)
    arguments = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 10**8}
    machine = cluster_utils.Cluster(initialize_head=True, head_node_args=arguments)
    yield machine.address
    ray.shutdown()
    machine.shutdown()


def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(
    tmp_path: Path, corpus: Path, cluster: str
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    log.mkdir()

    def dies_once(recording: Recording) -> dict[str, object]:
        """Writes its result and dies before it can say so, the first time; then finds it."""
        done = log / f"{recording.name}.done"
        if done.exists():
            return {"status": "skipped", "name": recording.name}
        done.write_text(str(os.getpid()))
        if recording.name == "utt2":
            os._exit(1)
        return {"status": "done", "name": recording.name}

    recordings = read_manifest(corpus)
    found = {r.name: outcome() for r, outcome in work_through(cluster, recordings, dies_once)}
    assert {name: record["status"] for name, record in found.items()} == {
        f"utt{k}": "skipped" if k == 2 else "done" for k in range(5)
    }
    # The command itself on the same cluster; one recording is damaged.
    (tmp_path / "3.wav").write_bytes(b"RIFF")
    first = separate("--manifest", corpus, "-o", out, "--ray", cluster)
    assert sorted(statuses(first)) == ["done"] * 4 + ["failed"]
    assert first.exit_code == 1
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    again = separate("--manifest", corpus, "-o", out, "--ray", cluster)
    assert sorted(statuses(again)) == ["failed"] + ["skipped"] * 4
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


def test_a_cluster_that_is_not_there(tmp_path: Path, corpus: Path) -> None:
    pytest.importorskip("ray")
    result = separate("--manifest", corpus, "-o", tmp_path / "out", "--ray", "nowhere:1:2")
    assert result.exit_code == 2
