"""Who speaks when: RTTM files."""

from __future__ import annotations

from pathlib import Path

import pytest

from fca.activity import Segment, read_rttm, write_rttm
from fca.errors import InputError

SEGMENTS = [Segment("ann", 0.0, 1.5), Segment("bob", 1.25, 2.0), Segment("ann", 4.0, 0.125)]


class TestRTTM:
    def test_what_is_written_is_read_back(self, tmp_path: Path) -> None:
        write_rttm(tmp_path / "x.rttm", reversed(SEGMENTS), "talk")
        assert read_rttm(tmp_path / "x.rttm") == SEGMENTS
        assert [path.name for path in tmp_path.iterdir()] == ["x.rttm"]
        first = (tmp_path / "x.rttm").read_text().splitlines()[0]
        assert first == "SPEAKER talk 1 0.000 1.500 <NA> <NA> ann <NA> <NA>"

    def test_other_lines_are_passed_over(self, tmp_path: Path) -> None:
        path = tmp_path / "x.rttm"
        path.write_text(";; comment\nSPKR-INFO x 1 <NA> <NA> <NA> unknown ann <NA>\n\n")
        with pytest.raises(InputError, match="begins with SPEAKER"):
            read_rttm(path)
        with path.open("a") as file:
            file.write("SPEAKER x 1 0.5 1.0 <NA> <NA> ann <NA> <NA>\n")
        assert read_rttm(path) == [Segment("ann", 0.5, 1.0)]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("SPEAKER x 1 0.5", "line 1: not 'SPEAKER"),
            ("SPEAKER x 1 zero 1.0 <NA> <NA> ann", "line 1: not 'SPEAKER"),
            ("SPEAKER x 1 -1 1.0 <NA> <NA> ann", "line 1: not a stretch"),
            ("SPEAKER x 1 0 nan <NA> <NA> ann", "line 1: not a stretch"),
        ],
    )
    def test_bad_lines_are_named(self, tmp_path: Path, line: str, message: str) -> None:
        (tmp_path / "x.rttm").write_text(line)
        with pytest.raises(InputError, match=message):
            read_rttm(tmp_path / "x.rttm")

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="No such file"):
            read_rttm(tmp_path / "none.rttm")
        (tmp_path / "x.rttm").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="not text"):
            read_rttm(tmp_path / "x.rttm")
