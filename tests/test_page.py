"""The page, in a browser where there is one."""

from __future__ import annotations

import atexit
import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import RATE, MixtureMaker
from typer.testing import CliRunner

from fca import audio
from fca.cli import app
from fca.demo import build_page, separate_files
from fca.errors import InputError
from recipes.demo.page import Visitor, chromium, served


@pytest.fixture
def wav(tmp_path: Path, make_mixture: MixtureMaker) -> Path:
    recording = make_mixture(2, 2, seconds=1.0).mixture.astype(np.float32)
    audio.write(tmp_path / "talk.wav", recording, RATE)
    return tmp_path / "talk.wav"


class TestWhatTheButtonDoes:
    def test_talkers_picture_and_summary(self, tmp_path: Path, wav: Path) -> None:
        told: list[tuple[float, str]] = []
        out = tmp_path / "out"
        out.mkdir()
        done = separate_files([wav], "auxiva", 2, out, lambda *news: told.append(news))
        recording, _ = audio.read(wav)
        assert all(audio.read(path)[0].shape == (1, RATE) for path in done.talkers)
        assert done.picture.read_bytes().startswith(b"\x89PNG")
        assert done.directions is None
        assert done.summary.startswith("2 talkers from 2 channels, 1.0 s")
        assert told[-1] == (1.0, "drawing")
        assert [share for share, _ in told] == sorted(share for share, _ in told)
        total = sum(audio.read(path)[0][0] for path in done.talkers)
        # As many outputs as microphones leave nothing but the mean.
        np.testing.assert_allclose(total, recording[0] - recording[0].mean(), atol=1e-5)

    def test_files_of_one_channel_are_one_recording(self, tmp_path: Path, wav: Path) -> None:
        recording, _ = audio.read(wav)
        files = [tmp_path / f"{n}.wav" for n in range(2)]
        for file, channel in zip(files, recording, strict=True):
            audio.write(file, channel, RATE)
        done = separate_files(files, "auxiva", 2, tmp_path, lambda *_: None)
        assert "from 2 channels" in done.summary

    def test_places_of_the_microphones_tell_directions(self, tmp_path: Path, wav: Path) -> None:
        line = "0, 0; 0.1, 0"
        done = separate_files([wav], "auxiva", 2, tmp_path, lambda *_: None, line)
        assert done.directions is not None
        assert done.directions.read_bytes().startswith(b"\x89PNG")
        azimuths = re.findall(r"(\d+)°", done.summary)
        assert len(azimuths) == 2
        assert all(0 <= int(azimuth) <= 180 for azimuth in azimuths)
        assert "may be mirrored" in done.summary

    @pytest.mark.parametrize(
        ("positions", "message"),
        [("0 0\n1 0\n0 1", "3 microphones, but 2 channels"), ("here", "no position")],
    )
    def test_positions_that_do_not_fit(
        self, tmp_path: Path, wav: Path, positions: str, message: str
    ) -> None:
        with pytest.raises(InputError, match=message):
            separate_files([wav], "auxiva", 2, tmp_path, lambda *_: None, positions)

    def test_what_cannot_be_separated(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="drop a recording"):
            separate_files([], "auxiva", 2, tmp_path, lambda *_: None)


def test_one_folder_serves_all_clicks(
    tmp_path: Path, wav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(atexit, "register", ended := Mock())
    (button,) = build_page().fns.values()
    for count in (1, 2):
        status, *_ = button.fn([str(wav)], "overiva", count, "")
        assert f"{count} talkers from 2 channels" in status
    (folder,) = tmp_path.glob("fca-demo-*")
    assert (folder / "source2.wav").is_file()
    ended.call_args.args[0]()
    assert not folder.exists()


def test_its_address_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gradio")
    monkeypatch.setattr("gradio.Blocks.block_thread", lambda page: page.close(verbose=False))
    result = CliRunner().invoke(app, ["demo", "--no-open"])
    assert re.fullmatch(r"the page is at http://127\.0\.0\.1:\d+/; Ctrl-C ends it\n", result.stdout)


def test_without_gradio_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(app, ["demo", "--no-open"])
    assert result.exit_code == 1
    assert "needs the extra 'demo'" in result.stderr


@pytest.fixture
def browser() -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        try:
            chrome = stack.enter_context(chromium())
        except InputError as error:
            pytest.skip(str(error))
        yield chrome


def test_as_a_new_user_would(browser: Any, wav: Path) -> None:
    """An unfinished start gets a message; a recording gets a player for each talker."""
    pytest.importorskip("gradio")
    with served() as address:
        visitor = Visitor(browser, address)
        visitor.press()
        visitor.until(lambda: "drop a recording first" in visitor.text("body"))
        visitor.drop(wav)
        visitor.all("#positions textarea")[0].send_keys("0, 0; 0.1, 0")
        visitor.press()
        visitor.until(lambda: "2 talkers from 2 channels" in visitor.text("#status"))
        assert "Azimuths: " in visitor.text("#status")
        visitor.until(lambda: len(visitor.all("#talker2 audio")) == 1)
        assert not visitor.all("#talker3 audio")
        visitor.until(lambda: visitor.width("#picture") > 500)
        visitor.until(lambda: visitor.width("#directions") > 300)
