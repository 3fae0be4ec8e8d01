"""The table of streaming, on scores that are made up."""

from __future__ import annotations

from recipes.streaming.evaluate import ENTRIES, table


def test_the_table_counts_swaps_and_averages() -> None:
    rows = [
        {
            "key": {"entry": name},
            "improvement": [1.0, 2.0 + item],
            "orders": [[0, 1], [1, 0] if item else [0, 1]],
            "cpu": 0.5,
        }
        for name in ENTRIES
        for item in (0, 1)
    ]
    header, _, *lines = table(rows).splitlines()
    assert header.count("of 2") == 2
    assert len(lines) == len(ENTRIES)
    assert all("| 1.00 ± " in line and "| 2.50 ± " in line for line in lines)
    assert all(line.endswith("| 1 | 0.50 |") for line in lines)
