"""Files that appear when they are complete, and messages for those that cannot be read."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fca.errors import InputError
from fca.files import make_temporary, read_bytes, read_text, replacing, write_text
from fca.pieces import Writer


class TestReplacing:
    def test_the_file_appears_when_it_is_complete(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_text("before")
        with replacing(path) as temporary:
            temporary.write_text("after")
            assert temporary.parent == tmp_path
            assert path.read_text() == "before"
        assert path.read_text() == "after"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failure_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        path.write_text("before")
        with pytest.raises(OSError, match="full"), replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")
        assert path.read_text() == "before"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_failure_before_anything_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError), replacing(tmp_path / "x.txt"):
            raise KeyError
        assert not list(tmp_path.iterdir())

    def test_processes_do_not_write_to_the_same_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.txt"
        code = f"from pathlib import Path; from fca.files import *; w = Path({str(path)!r})\n"
        code += "with replacing(w) as temporary: temporary.write_text('theirs')"
        with replacing(path) as temporary:
            temporary.write_text("ours")
            subprocess.run([sys.executable, "-c", code], check=True)
            assert path.read_text() == "theirs"
        assert path.read_text() == "ours"

    def test_it_is_on_the_disk_before_it_has_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A machine that fails must not leave a name without content."""
        path, kept = tmp_path / "x.txt", []
        fsync, replace = os.fsync, Path.replace

        def keep(descriptor: int) -> None:
            kept.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            fsync(descriptor)

        def move(source: Path, target: Path) -> Path:
            kept.append("name")
            return replace(source, target)

        monkeypatch.setattr(os, "fsync", keep)
        monkeypatch.setattr(Path, "replace", move)
        with replacing(path) as temporary:
            temporary.write_text("x")
        assert kept == ["file", "name", "folder"]
        kept.clear()
        with Writer(tmp_path / "x.wav", 16000, 1, 100) as writer:
            writer.write(0, np.zeros(100, np.float32))
        assert kept == ["file", "name", "folder"]

    @pytest.mark.parametrize(("number", "borne"), [(errno.EINVAL, True), (errno.EIO, False)])
    def test_file_systems_that_cannot_be_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, borne: bool
    ) -> None:
        def fail(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail)
        with contextlib.nullcontext() if borne else pytest.raises(OSError, match="Errno"):
            write_text(tmp_path / "x.txt", "x")
        assert (tmp_path / "x.txt").exists() == borne
        assert not list(tmp_path.glob(".*"))

    def test_processes_with_the_same_number_do_not_either(self, tmp_path: Path) -> None:
        """In two containers, say, or on two machines; here it is one process."""
        path = tmp_path / "x.txt"
        with replacing(path) as ours:
            ours.write_text("ours")
            with replacing(path) as theirs:
                theirs.write_text("theirs")
            assert path.read_text() == "theirs"
        assert path.read_text() == "ours"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_name_that_is_taken_is_not_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tokens = iter(["aa", "aa", "bb"])
        monkeypatch.setattr(secrets, "token_hex", lambda size: next(tokens))
        made = [make_temporary(tmp_path / "x.wav").name for _ in range(2)]
        assert made == [".x.wav.aa.tmp", ".x.wav.bb.tmp"]

    def test_a_missing_folder_is_told_by_the_name_of_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "none" / "x.txt"
        with pytest.raises(OSError, match=r"x\.txt: cannot be written \(No such"), replacing(path):
            pass


class TestText:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "x.txt"
        write_text(path, "größer\n")
        assert read_text(path) == "größer\n"
        assert read_bytes(path) == "größer\n".encode()

    def test_a_byte_order_mark_does_not_count(self, tmp_path: Path) -> None:
        (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfa")
        assert read_text(tmp_path / "x.txt") == "a"

    def test_what_cannot_be_read_is_said_in_a_line(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.txt: No such file or directory$"):
            read_text(tmp_path / "none.txt")
        with pytest.raises(InputError, match=r": Is a directory$"):
            read_text(tmp_path)
        (tmp_path / "x.txt").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match=r"x\.txt: not text in UTF-8$"):
            read_text(tmp_path / "x.txt")
