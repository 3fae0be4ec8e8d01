"""Scores of streams, and their table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import RATE, MixtureMaker

from recipes.streaming.evaluate import ENTRIES, score, table


class Stored:
    """A mixture as a set has it."""

    sample_rate, n_talkers = RATE, 2

    def __init__(self, make_mixture: MixtureMaker) -> None:
        self.mixture = make_mixture(2, 2, snr_db=40)

    def read(self, part: str) -> np.ndarray:
        assert part == "mixture"
        return self.mixture.mixture.astype(np.float32)

    def references(self) -> np.ndarray:
        return self.mixture.images[:, 0]


def test_every_part_of_a_stream_is_scored(make_mixture: MixtureMaker) -> None:
    item: Any = Stored(make_mixture)
    whole = score(ENTRIES["AuxIVA, same window"], item, 2)
    stream = score(ENTRIES["streaming, 224 ms"], item, 2)
    for row in (whole, stream):
        assert len(row["improvement"]) == len(row["orders"]) == 2
        assert np.isfinite(row["improvement"]).all()
        assert row["cpu"] > 0
    assert min(whole["improvement"]) > 3
    assert whole["improvement"][0] > stream["improvement"][0], "it begins with nothing"
    perfect = score(lambda *_: item.references(), item, 2)
    assert min(perfect["improvement"]) > 60
    assert perfect["orders"] == pytest.approx(np.array([[0, 1], [0, 1]]))


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
