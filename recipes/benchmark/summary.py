"""All conditions of a run in one table, furthest from a ceiling first.

    python -m recipes.benchmark.summary RESULTS/quality.json -o RESULTS/summary.md

Of several runs on one set, the conditions of later ones take the place of those of earlier ones.

For every entry: mean SDR improvement over all mixtures, the least, how many came out worse than
they went in, and the mean above the low cut; then in how many conditions one entry is near the
ceiling, the means of each condition, and how far it stays below, of the whole band and above the
low cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fca.errors import InputError
from fca.evaluation.metrics import summarise
from fca.files import write_text
from recipes import program
from recipes.benchmark.common import markdown
from recipes.benchmark.scoring import LOW_CUT, LOW_CUT_HZ
from recipes.benchmark.tables import read

CEILING = "JD, prior's PSD, 4096"
METHOD = "deep-fca"
NEAR = 1.5
"""Distance from the ceiling, in dB, that counts as near."""
ABOVE = f"above {LOW_CUT_HZ:g} Hz"


@dataclass(frozen=True)
class Gains:
    """SDR improvements (dB) of a run, a number for each mixture.

    Attributes
    ----------
    entries, conditions : names, in the order of the results
    of : by entry and condition
    """

    entries: list[str]
    conditions: list[str]
    of: dict[tuple[str, str], list[float]]

    @classmethod
    def read(cls, results: dict[str, Any], metric: str = "sdr") -> Gains:
        """From what `quality.json` holds; of mixtures with such a metric."""
        rows = results["rows"]
        present = {row["entry"] for row in rows}
        entries = [name for name in results["entries"] if name in present]
        of: dict[tuple[str, str], list[float]] = {}
        for row in rows:
            if metric not in row["improvement"]:
                continue
            gain = float(np.mean([float(value) for value in row["improvement"][metric]]))
            of.setdefault((row["entry"], row["condition"]), []).append(gain)
        return cls(entries, list(dict.fromkeys(row["condition"] for row in rows)), of)

    def all(self, entry: str) -> NDArray[np.float64]:
        """Of the mixtures of all conditions."""
        return np.concatenate([self.of.get((entry, c), []) for c in self.conditions])

    def mean(self, entry: str, condition: str) -> float:
        """Mean over the mixtures of a condition; NaN for entries that were not there."""
        return summarise(self.of.get((entry, condition), [])).mean

    def gap(self, condition: str, method: str, ceiling: str) -> float:
        """How far an entry stays below another."""
        return self.mean(ceiling, condition) - self.mean(method, condition)


def overall(gains: Gains, above: Gains) -> str:
    """One line per entry, over the mixtures of all conditions."""
    lines = []
    for entry in gains.entries:
        values = gains.all(entry)
        worse = int((values < 0).sum())
        numbers = [f"{summarise([*values]).mean:.2f}", f"{values.min():.2f}", str(worse)]
        numbers += [f"{summarise([*above.all(entry)]).mean:.2f}"] if above.of else []
        lines.append([entry, str(len(values)), *numbers])
    header = ["", "mixtures", "mean", "least", "worse than the mixture"]
    return markdown([*header, *[ABOVE] * bool(above.of)], lines)


def by_condition(gains: Gains, above: Gains, method: str, ceiling: str) -> str:
    """One line per condition: means of all entries, and the gap, then that above the low cut."""
    ordered = sorted(gains.conditions, key=lambda c: -gains.gap(c, method, ceiling))
    lines = [
        [
            condition,
            str(len(gains.of.get((method, condition), []))),
            *(_decibels(gains.mean(entry, condition)) for entry in gains.entries),
            _decibels(gains.gap(condition, method, ceiling)),
            *([_decibels(above.gap(condition, method, ceiling))] if above.of else []),
        ]
        for condition in ordered
    ]
    header = ["", "mixtures", *gains.entries, f"{method} below {ceiling}"]
    return markdown([*header, *[ABOVE] * bool(above.of)], lines)


def _decibels(value: float) -> str:
    """Nothing for what was not measured."""
    return "" if np.isnan(value) else f"{value:.2f}"


def near(gains: Gains, method: str, ceiling: str) -> str:
    """In how many conditions a method is near the ceiling, and its distance on the whole."""
    gaps = np.array([gains.gap(condition, method, ceiling) for condition in gains.conditions])
    mean = float(gains.all(ceiling).mean() - gains.all(method).mean())
    count = int((gaps <= NEAR).sum())
    return f"within {NEAR:g} dB in {count} of {len(gaps)} conditions, {mean:.2f} dB on the whole"


def merged(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Runs in one; conditions are those of the last run that has them."""
    last = {row["condition"]: number for number, run in enumerate(runs) for row in run["rows"]}
    return {
        "entries": {name: entry for run in runs for name, entry in run["entries"].items()},
        "rows": [r for n, run in enumerate(runs) for r in run["rows"] if last[r["condition"]] == n],
    }


def page(results: Sequence[Path], method: str, ceiling: str) -> str:
    """The summary of a `quality.json`, or of several of one set.

    Raises
    ------
    InputError
        If one cannot be read, they are not of one set and seed, or there are no such entries.
    """
    runs = [read(path) for path in results]
    facts = [run["surroundings"] for run in runs]
    names = {(each["set"], each["seed"]) for each in facts}
    if len(names) > 1:
        raise InputError(f"runs of several sets or seeds: {sorted(names)}")
    content = merged(runs)
    gains, above = Gains.read(content), Gains.read(content, LOW_CUT)
    for name in (method, ceiling):
        if name not in gains.entries:
            raise InputError(f"{results[-1]}: no entry {name!r}; there are {gains.entries}")
    code = ", then ".join(f"{each['date']}, code {each['code']}" for each in facts)
    distance = near(gains, method, ceiling)
    if above.of:
        distance += f"; {ABOVE} {near(above, method, ceiling)}"
    return (
        f"# SDR improvement on `{facts[0]['set']}`\n\nIn dB, mean over talkers and mixtures; "
        f"seed {facts[0]['seed']}, {code}.\n\n{overall(gains, above)}\n"
        f"{method} below {ceiling}: {distance}.\n\n"
        f"{by_condition(gains, above, method, ceiling)}"
    )


def main(
    results: Annotated[list[Path], typer.Argument(help="quality.json, one or more")],
    output: Annotated[Path, typer.Option("--output", "-o", help="page to write")],
    method: Annotated[str, typer.Option(help="entry that is compared")] = METHOD,
    ceiling: Annotated[str, typer.Option(help="entry that it is compared with")] = CEILING,
) -> None:
    """All conditions of one or more runs in one table."""
    write_text(output, page(results, method, ceiling))


if __name__ == "__main__":
    program.run(main)
