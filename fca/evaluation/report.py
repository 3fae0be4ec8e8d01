"""Reports of an evaluation: Markdown, and one self-contained HTML page with plots and players."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fca import audio
from fca.errors import counted
from fca.evaluation.metrics import Summary
from fca.evaluation.pairing import Pair, Signals
from fca.evaluation.scores import summarise_rows
from fca.extras import require
from fca.plot import require_matplotlib

__all__ = ["LABELS", "Evaluation", "html", "markdown", "require_page", "table"]

Row = dict[str, Any]

LABELS = {
    "sdr": "SDR (dB)",
    "sir": "SIR (dB)",
    "sar": "SAR (dB)",
    "si_sdr": "SI-SDR (dB)",
    "pesq": "PESQ",
    "stoi": "STOI",
    "estoi": "eSTOI",
    "DER": "DER",
}
TEMPLATE = Path(__file__).with_name("report.html.j2")
PEAK = 0.9
"""Largest sample of a recording's loudest player; all its players have the same gain."""


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, and the scores.

    Attributes
    ----------
    facts : what the reader needs to know: reference, protocol, version, date
    rows : scores of each recording, from :func:`fca.evaluation.scores.score`
    failures : what could not be evaluated, and why
    """

    facts: Mapping[str, str]
    rows: Sequence[Row]
    failures: Sequence[tuple[str, str]] = ()
    definitions: Sequence[str] = field(
        default=(
            "Means over recordings (the mean over a recording's talkers counts once) ± half the "
            "95 % confidence interval of Student's t.",
            "Improvement: the score minus that of the mixture taken for every estimate. SAR has "
            "none, as a mixture holds hardly any artefacts.",
            "A silent reference has no score; a silent estimate of a talker who speaks scores −∞. "
            "Both are left out of the means and counted.",
            "SDR, SIR, SAR: BSS eval (Vincent et al. 2006) with distortion filters of 512 taps; "
            "estimates are matched by the permutation of largest mean SIR. SI-SDR: Le Roux et al. "
            "(2019). PESQ: MOS-LQO, wide band at 16 kHz. DER: no collar, overlapped speech counts.",
        )
    )

    def summaries(self) -> dict[str, dict[str, Summary]]:
        """Summary of each condition, that of all recordings first."""
        found = summarise_rows(self.rows)
        return found if len(found) > 2 else {"all": found["all"]}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table; the first column is text, the others are numbers."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown(evaluation: Evaluation) -> str:
    """The evaluation as a page of Markdown."""
    parts = ["# Evaluation\n"]
    parts += ["".join(f"- {name}: {value}\n" for name, value in evaluation.facts.items())]
    for name, summaries in evaluation.summaries().items():
        count = sum(name in ("all", row["condition"]) for row in evaluation.rows)
        body = table(["", "score", "improvement"], _summary_lines(summaries))
        parts.append(f"## {name} ({counted(count, 'recording')})\n\n{body}")
    header, lines = recording_lines(evaluation.rows)
    parts.append(f"## Recordings\n\n{table(header, lines)}")
    if evaluation.failures:
        body = "".join(f"- {what}: {why}\n" for what, why in evaluation.failures)
        parts.append(f"## Not evaluated\n\n{body}")
    parts.append("".join(f"{line}\n\n" for line in evaluation.definitions))
    return "\n".join(parts).rstrip() + "\n"


def recording_lines(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the table of recordings: one line per talker."""
    names = list(rows[0]["scores"]) if rows else []
    diarized = any("diarization" in row for row in rows)
    header = ["recording", "talker", *(LABELS[n] for n in names)] + ["DER"] * diarized
    lines = []
    for row in rows:
        der = [number(row["diarization"]["DER"])] if "diarization" in row else [""] * diarized
        for k in range(len(row["permutation"])):
            cells = [_with_rise(row, name, k) for name in names]
            lines.append([row["id"], str(k + 1), *cells, *(der if k == 0 else [""] * diarized)])
    return header, lines


def shown(rows: Sequence[Row]) -> str:
    """What recordings are compared by: improvements, or scores if a mixture is missing."""
    return "improvement" if all(row["improvement"] for row in rows) else "scores"


def number(value: float) -> str:
    """Two decimals; — where it is undefined."""
    if np.isnan(value):
        return "—"
    return f"{value:.2f}".replace("-", "−").replace("inf", "∞")


def _with_rise(row: Row, name: str, talker: int) -> str:
    rise = row["improvement"].get(name)
    text = number(row["scores"][name][talker])
    return text if rise is None else f"{text} ({_signed(rise[talker])})"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value >= 0 else number(value)


def _summary_lines(summaries: Mapping[str, Summary]) -> list[list[str]]:
    scores = {name: s for name, s in summaries.items() if not name.endswith(" improvement")}
    return [
        [LABELS[name], summary_cell(s), summary_cell(summaries.get(f"{name} improvement"))]
        for name, s in scores.items()
    ]


def summary_cell(summary: Summary | None) -> str:
    """Mean ± interval, and the number of recordings that are not in it."""
    if summary is None:
        return ""
    if summary.count == 0:
        return f"— ({summary.excluded} left out)"
    text = number(summary.mean)
    if summary.count > 1:
        text += f" ± {number(summary.interval)}"
    return f"{text} ({summary.excluded} left out)" if summary.excluded else text


def html(evaluation: Evaluation, heard: Sequence[tuple[Pair, Signals, Row]]) -> str:
    """The evaluation as one page of HTML that needs no other file.

    Parameters
    ----------
    heard : recordings that get pictures and players

    Raises
    ------
    InputError
        If Jinja or matplotlib is not installed.
    """
    require_page()
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    groups = {name: _summary_lines(summaries) for name, summaries in evaluation.summaries().items()}
    header, lines = recording_lines(evaluation.rows)
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        evaluation=evaluation,
        groups=groups,
        distribution=_distribution(evaluation.rows),
        header=header,
        lines=lines,
        players=[_players(*entry) for entry in heard],
    )


def require_page() -> None:
    """Raise :class:`InputError` if what the page is made with is not installed."""
    require("jinja2", "evaluate", "the page needs")
    require_matplotlib()


def _distribution(rows: Sequence[Row]) -> str:
    """SVG with a panel per metric: each recording a point, the mean with its interval."""
    from fca.plot import distribution

    kind = shown(rows)
    names = list(rows[0][kind]) if rows else []
    values = {LABELS[n]: [float(np.mean(row[kind][n])) for row in rows] for n in names}
    conditions = [row["condition"] for row in rows]
    buffer = io.StringIO()
    distribution(values, conditions, kind.removesuffix("s")).savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _players(pair: Pair, signals: Signals, row: Row) -> dict[str, Any]:
    """What the page shows of a recording: title, players, pictures."""
    order = row["permutation"]
    named: dict[str, NDArray[np.float32]] = {}
    if signals.mixture is not None:
        named["mixture"] = signals.mixture
    for k, estimate in enumerate(order):
        named[f"talker {k + 1}, reference"] = signals.references[k]
        named[f"talker {k + 1}, estimate"] = signals.estimates[estimate]
    gain = PEAK / max(1e-9, *(float(np.abs(wave).max()) for wave in named.values()))
    mixture = signals.references.sum(0) if signals.mixture is None else signals.mixture
    names = row["improvement"] or row["scores"]
    return {
        "title": pair.name,
        "scores": [(LABELS[n], number(float(np.mean(v)))) for n, v in names.items()],
        "kind": "improvement" if row["improvement"] else "score",
        "audio": [(n, _flac(gain * wave, signals.sample_rate)) for n, wave in named.items()],
        "pictures": [
            ("references", _png(mixture, signals.references, signals.sample_rate)),
            ("estimates", _png(mixture, signals.estimates[order], signals.sample_rate)),
        ],
    }


def _flac(wave: NDArray[np.float32], rate: int) -> str:
    return base64.b64encode(audio.encode_flac(wave, rate)).decode("ascii")


def _png(mixture: NDArray[np.float32], talkers: NDArray[np.float32], rate: int) -> str:
    from fca.plot import plot_separation

    buffer = io.BytesIO()
    plot_separation(mixture, talkers, rate).savefig(buffer, dpi=65, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
