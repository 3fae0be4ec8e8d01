"""What the benchmark makes of its results: the figure, and the summary of all conditions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fca.errors import InputError
from recipes.benchmark import figure, pairs, scoring, summary


def test_figure_has_a_labelled_point_per_method(tmp_path: Path) -> None:
    rows = [
        {
            "entry": name,
            "condition": "two_talkers",
            "item": str(k),
            "duration": 2.0,
            "seconds": seconds,
            "improvement": {"sdr": [gain, gain + k]},
        }
        for name, seconds, gain in (("a", 1.0, 10), ("b", 8.0, 10), ("mask", None, 13))
        for k in range(3)
    ]
    rows.append({**rows[0], "entry": "lost", "improvement": {"sdr": ["-inf", "-inf"]}})
    kinds = {"a": "method", "b": "peer", "mask": "ceiling", "lost": "peer"}
    facts = {"set": "x", "date": "today", "processor": "any", "seed": 0, "threads": 1}
    results = {
        "surroundings": facts,
        "entries": {name: {"kind": kind} for name, kind in kinds.items()},
        "rows": rows,
    }
    (tmp_path / "quality.json").write_text(json.dumps(results))
    found = figure.points(results, "two_talkers")
    assert [(p.name, p.factor) for p in found[:2]] == [("a", 0.5), ("b", 4.0)]
    assert [p.name for p in found] == ["a", "b", "mask"]
    outputs = [tmp_path / "f.svg", tmp_path / "f.png"]
    figure.make(tmp_path / "quality.json", outputs)
    text = outputs[0].read_text()
    assert all(f">{name}</text>" in text for name in ("a", "b", "mask"))
    assert outputs[1].read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no condition"):
        figure.make(tmp_path / "quality.json", outputs, "four_talkers")
    with pytest.raises(InputError, match="no results"):
        figure.make(tmp_path / "nowhere.json", outputs)
    results["rows"][0].pop("condition")
    (tmp_path / "quality.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match="without condition"):
        figure.make(tmp_path / "quality.json", outputs)


def test_summary_has_the_largest_gap_first(tmp_path: Path) -> None:
    gains = {
        ("deep", "near"): [9.0, 11.0],
        ("deep", "far"): [-1.0, 5.0],
        ("top", "near"): [12.0, 12.0],
        ("top", "far"): [10.0, 10.0],
    }
    rows = [
        {"entry": entry, "condition": condition, "improvement": {"sdr": [gain - 1, gain + 1]}}
        for (entry, condition), values in gains.items()
        for gain in values
    ]
    assert summarised(rows, tmp_path) == [
        "| deep | 4 | 6.00 | -1.00 | 1 |",
        "| top | 4 | 11.00 | 10.00 | 0 |",
        "| far | 2 | 2.00 | 10.00 | 8.00 |",
        "| near | 2 | 10.00 | 12.00 | 2.00 |",
    ]
    for row in rows:
        row["improvement"][scoring.LOW_CUT] = [9.0 if row["entry"] == "deep" else 9.5]
    assert summarised(rows, tmp_path) == [
        "| deep | 4 | 6.00 | -1.00 | 1 | 9.00 |",
        "| top | 4 | 11.00 | 10.00 | 0 | 9.50 |",
        "| far | 2 | 2.00 | 10.00 | 8.00 | 0.50 |",
        "| near | 2 | 10.00 | 12.00 | 2.00 | 0.50 |",
    ]
    with pytest.raises(InputError, match="no entry 'other'"):
        summary.page([tmp_path / "quality.json"], "deep", "other")
    with pytest.raises(InputError, match="no results"):
        summary.page([tmp_path / "nowhere.json"], "deep", "top")


def test_in_a_summary_of_several_runs_later_conditions_take_the_place(tmp_path: Path) -> None:
    def write(name: str, gains: dict[str, float], set_: str = "x") -> Path:
        rows = [
            {"entry": entry, "condition": condition, "improvement": {"sdr": [gain]}}
            for condition, gain in gains.items()
            for entry, gain in [("deep", gain), ("top", 10.0)]
        ]
        return run_of(rows, tmp_path / name, set_)

    first = write("first.json", {"near": 9.0, "far": 1.0, "other": 8.5})
    second = write("second.json", {"far": 5.0})
    text = summary.page([first, second], "deep", "top")
    assert "| deep | 3 | 7.50 | 5.00 | 0 |" in text
    assert "| far | 1 | 5.00 | 10.00 | 5.00 |" in text
    assert "within 1.5 dB in 2 of 3 conditions, 2.50 dB on the whole." in text
    with pytest.raises(InputError, match="several sets"):
        summary.page([first, write("third.json", {"far": 5.0}, "y")], "deep", "top")


def run_of(rows: list[dict], path: Path, set_: str = "x") -> Path:
    """A `quality.json` with some rows."""
    facts = {"set": set_, "date": "today", "seed": 0, "code": "abc"}
    content = {"surroundings": facts, "entries": {"deep": {}, "top": {}}, "rows": rows}
    path.write_text(json.dumps(content))
    return path


def summarised(rows: list[dict], folder: Path) -> list[str]:
    """The rows of the summary's two tables."""
    results = run_of(rows, folder / "quality.json")
    summary.main([results], folder / "summary.md", "deep", "top")
    lines = (folder / "summary.md").read_text().splitlines()
    return [line for line in lines if line.startswith("| ") and line[2] not in " -"]


def test_pairs_are_compared_on_the_same_mixtures(tmp_path: Path) -> None:
    gains = {"near-4ch": {"a": [3.0, 5.0, 9.0], "b": [1.0, 4.0]}, "far-2ch": {"a": [1], "b": [2]}}
    rows = [
        {
            "entry": entry,
            "condition": condition,
            "item": f"{condition} {k}",
            "seconds": 2.0 if entry == "a" else 1.0,
            "improvement": {"sdr": [gain, gain]},
        }
        for condition, each in gains.items()
        for entry, values in each.items()
        for k, gain in enumerate(values)
    ]
    facts = {"set": "x", "seed": 0, "date": "today", "code": "1"}
    results, page = tmp_path / "quality.json", tmp_path / "pairs.md"
    content = {"surroundings": facts, "entries": {"a": {}, "b": {}}, "rows": rows}
    results.write_text(json.dumps(content))
    pairs.main(results, page, ["a > b"])
    lines = page.read_text().splitlines()
    assert lines.count("| a over b | 1.5 ± 6.4 | 2 of 2 | 2.0 |") == 2  # all of 4ch, and near-4ch
    assert [line for line in lines if line.startswith("###")] == [
        "### all 4ch",
        "### all 2ch",
        "### near-4ch",
        "### far-2ch",
    ]
    with pytest.raises(InputError, match="no entry 'c'"):
        pairs.main(results, page, ["a > c"])
    with pytest.raises(InputError, match="two names with >"):
        pairs.main(results, page, ["a"])
