"""Committed pages say what the numbers beside them say, and README what the pages say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.benchmark import pairs, summary
from recipes.meeting import count

ROOT = Path(__file__).parents[1]
BENCHMARK = ROOT / "recipes/benchmark/results"
MEETING = ROOT / "recipes/meeting/results"
IN_README = {
    "AuxIVA": "auxiva",
    "AuxIVA, window 2048, shift 256": "auxiva, 2048/256, 100 sweeps",
    "FastMNMF2": "fastmnmf2",
    "deep-fca-fast, one pass": "deep-fca-fast, one pass",
    "deep-fca-fast, two steps": "deep-fca-fast, 2 steps",
    "deep-fca-fast": "deep-fca-fast",
    "**deep-fca** (default)": "deep-fca",
    "ceiling: spectra of the true talkers by the prior": "JD, prior's PSD, 4096",
}
"""Rows of its main table, and what they are called in that of ``full``."""
CONDITIONS = ("two_talkers", "three_talkers", "icelandic", "measured_binaural")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows_of(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Condition and cells of every row of a quality table."""
    condition = ""
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("### "):
            condition = line.split()[1]
        elif line.startswith("| ") and condition and "---" not in line:
            yield condition, cells(line)


def number(cell: str) -> float:
    """The first number of a cell."""
    found = re.match(r"-?[0-9.]+|nan", cell)
    assert found, cell
    return float(found[0])


def gains(page: Path) -> dict[tuple[str, str], float]:
    """Mean SDR improvement of each condition and entry, from the JSON beside a page."""
    content = json.loads(page.with_suffix(".json").read_text("utf-8"))
    found: dict[tuple[str, str], list[float]] = {}
    for row in content["rows"]:
        gain = np.mean([float(value) for value in row["improvement"]["sdr"]])
        found.setdefault((row["condition"], row["entry"]), []).append(float(gain))
    return {key: float(np.mean(np.array(g)[np.isfinite(g)])) for key, g in found.items()}


@pytest.mark.parametrize(
    "page", sorted(BENCHMARK.glob("**/quality.md")), ids=lambda page: page.parent.name
)
def test_quality_tables_are_those_of_their_numbers(page: Path) -> None:
    known, seen = gains(page), 0
    for condition, row in rows_of(page):
        if (condition, row[0]) in known:
            assert number(row[1]) == pytest.approx(known[condition, row[0]], abs=0.006)
            seen += 1
    assert seen == len(known)


@pytest.mark.parametrize("folder", ["full", "small"])
def test_summaries_are_those_of_their_numbers(folder: str) -> None:
    made = summary.page([BENCHMARK / folder / "quality.json"], summary.METHOD, summary.CEILING)
    assert (BENCHMARK / folder / "summary.md").read_text("utf-8") == made


def test_paired_differences_are_those_of_their_numbers() -> None:
    folder = BENCHMARK / "reverberation"
    text = (folder / "pairs.md").read_text("utf-8")
    names = dict.fromkeys(re.findall(r"^\| (.+) over (.+?) \|", text, re.MULTILINE))
    assert pairs.page(folder / "quality.json", list(names)) == text


def test_the_main_table_of_the_readme_is_that_of_full() -> None:
    full = {(condition, row[0]): row for condition, row in rows_of(BENCHMARK / "full/quality.md")}
    text = (ROOT / "README.md").read_text("utf-8")
    table = text[text.index("| 2 talkers (100) |") :].split("\n\n")[0]
    lines = {cells(line)[0]: cells(line) for line in table.splitlines()[2:]}
    for ours, theirs in IN_README.items():
        *decibels, factor = lines[ours][1:]
        for condition, cell in zip(CONDITIONS, decibels, strict=True):
            wanted = [number(x) for x in full[condition, theirs][1].split(" ± ")]
            assert [number(x) for x in cell.split(" ± ")] == pytest.approx(wanted, abs=0.0501)
        assert factor == full["two_talkers", theirs][4]


def test_the_readme_says_how_many_times_as_fast_one_pass_is() -> None:
    """Than FastMNMF2 of pyroomacoustics: at its best and as often run, two and three talkers."""
    rows = json.loads((BENCHMARK / "time/quality.json").read_text("utf-8"))["rows"]

    def seconds(condition: str, entry: str) -> float:
        of = [r["seconds"] for r in rows if (r["condition"], r["entry"]) == (condition, entry)]
        return float(np.sum(of))

    best = "pyroomacoustics fastmnmf2"
    times = [
        seconds(condition, entry) / seconds(condition, "deep-fca-fast, one pass")
        for condition in ("two_talkers", "three_talkers")
        for entry in (best, f"{best}, 1024/256, 100 iterations")
    ]
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    found = re.search(r"(\d+) and (\d+) times one pass, with three talkers (\d+) and (\d+)", text)
    assert found and [float(n) for n in found.groups()] == pytest.approx(times, abs=0.501)


@pytest.mark.parametrize("page", sorted(MEETING.glob("count*.md")), ids=lambda page: page.stem)
def test_counts_are_those_of_their_numbers(page: Path) -> None:
    rows = json.loads(page.with_suffix(".json").read_text("utf-8"))["rows"]
    right = sum(row["talkers"] == row["found"] for row in rows)
    assert f"right for {right} of {len(rows)} recordings" in page.read_text("utf-8")
    assert count.table(rows) in page.read_text("utf-8")


MEETINGS = [MEETING / "meeting.md", *sorted((MEETING / "methods").glob("*.md"))]


@pytest.mark.parametrize("page", MEETINGS, ids=lambda page: page.stem)
def test_meetings_are_those_of_their_numbers(page: Path) -> None:
    content: dict[str, Any] = json.loads(page.with_suffix(".json").read_text("utf-8"))
    lines = [cells(line) for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
    for name in {piece["talker"] for piece in content["pieces"]}:
        (row,) = (line for line in lines if line[0] == name)
        own = [piece for piece in content["pieces"] if piece["talker"] == name]
        for cell, key in zip(row[3:], ("sdr", "improvement"), strict=True):
            assert number(cell) == pytest.approx(np.mean([p[key] for p in own]), abs=0.051)
    for collar, errors in content["der"].items():
        (row,) = (line for line in lines if line[0] == f"{float(collar):g}")
        assert number(row[1]) == pytest.approx(100 * errors["DER"], abs=0.051)
