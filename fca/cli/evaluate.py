"""``fca evaluate``: estimates and references in, scores and a page out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fca.cli.options import Json
from fca.cli.usage import usage
from fca.errors import InputError

if TYPE_CHECKING:
    from fca.evaluation.pairing import Pair
    from fca.evaluation.report import Evaluation

Row = dict[str, Any]

Estimates = Annotated[
    Path,
    typer.Argument(
        help="A file with one talker a channel, a folder with one file a talker, or a folder of "
        "these, such as the results of `fca separate`. Or, alone, a list (.jsonl) of estimates "
        "and references.",
        show_default=False,
    ),
]
References = Annotated[
    Path | None,
    typer.Argument(
        help="The same of the references, or a set made by `fca simulate`.", show_default=False
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        file_okay=False,
        writable=True,
        help="Folder for evaluation.md, .json and .html.",
    ),
]
Reference = Annotated[
    Literal["image", "early", "dry"],
    typer.Option(help="What the talkers are compared with; of a set, it is taken from there."),
]
Channel = Annotated[
    int,
    typer.Option(
        help="Microphone, from 0, of the mixtures and of references at all microphones: those of "
        "a set, and files of one talker each with several channels."
    ),
]
Mixture = Annotated[
    Path | None,
    typer.Option(
        help="Mixture, or folder of mixtures named as the references. One called mixture.* beside "
        "the references is found, and so are those of a set or a list.",
        show_default=False,
    ),
]
Metric = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-m",
        help="sdr, sir, sar, si_sdr, pesq, stoi or estoi; repeatable. All but sar are given with "
        "their improvement, too.",
        show_default="all but pesq",
    ),
]
Protocol = Annotated[
    Literal["fast_bss_eval", "mir_eval"],
    typer.Option(help="BSS eval: fast, or the slow one of published tables; 0.01 dB apart."),
]
Players = Annotated[
    int, typer.Option(min=0, help="Recordings with players on the page, the worst ones.")
]


def evaluate(
    estimates: Estimates,
    references: References = None,
    *,
    out: Out,
    reference: Reference = "image",
    channel: Channel = 0,
    mixture: Mixture = None,
    metric: Metric = None,
    protocol: Protocol = "fast_bss_eval",
    players: Players = 6,
    as_json: Json = False,
) -> None:
    """Score separated talkers against references, and their improvement over the mixture.

    Writes OUT/evaluation.md, evaluation.json and evaluation.html, a page with plots and players
    that needs no other file. Where the folders of the estimates and of the references of a
    recording both hold an .rttm file, the diarization error rate is reported, too, if
    pyannote.metrics is installed. The exit status is 1 if a recording could not be evaluated, 2 for
    an invalid option or argument.
    """
    from fca.cli.report import Report
    from fca.evaluation.pairing import find_pairs
    from fca.files import make_folder

    names = tuple(metric or ("sdr", "sir", "sar", "si_sdr", "stoi", "estoi"))
    with usage():
        _check(estimates, names, protocol)
        pairs, problems = find_pairs(
            estimates, references, reference=reference, channel=channel, mixtures=mixture
        )
        make_folder(out)
    pairs, notes = _without_diarization(pairs)
    rows: list[tuple[Pair, Row]] = []

    with Report(as_json, len(pairs)) as report:
        for what, why in problems:
            report.fail(what, why)
        for pair in pairs:
            report.run(pair, partial(_score, pair, names, protocol, rows), _line)
        failures = report.failures
    if rows:
        facts = _facts(reference, references or estimates, protocol, len(rows)) | notes
        try:
            _write(out, facts, rows, failures, players)
        except (InputError, OSError) as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        typer.echo(f"{out / 'evaluation.html'}", err=True)
    raise typer.Exit(1 if failures else 0)


def _score(
    pair: Pair, metrics: tuple[str, ...], protocol: str, rows: list[tuple[Pair, Row]]
) -> Row:
    from fca.evaluation.scores import finite_json, score

    row = score(pair, pair.read(), metrics, protocol)
    rows.append((pair, row))
    strict: Row = finite_json(row)
    return {"status": "done", **strict}


def _line(pair: Pair, row: Row) -> str:
    kind = "improvement" if row["improvement"] else "scores"
    cells = [
        f"{name} {' '.join('undefined' if v is None else f'{float(v):.1f}' for v in values)}"
        for name, values in row[kind].items()
    ]
    return f"done    {pair.label}: {kind}: {', '.join(cells)}"


def _facts(reference: str, source: Path, protocol: str, count: int) -> dict[str, str]:
    import datetime

    from fca import __version__
    from fca.evaluation.pairing import REFERENCES

    return {
        "recordings": str(count),
        "reference": f"{reference}: {REFERENCES[reference]}, from {source}",
        "BSS eval by": protocol,
        "made": f"{datetime.date.today().isoformat()} by fca {__version__}",
    }


def _write(
    out: Path,
    facts: dict[str, str],
    rows: list[tuple[Pair, Row]],
    failures: list[tuple[str, str]],
    players: int,
) -> None:
    """Write the three files."""
    from fca.evaluation.report import Evaluation, html, markdown, shown
    from fca.evaluation.scores import finite_json
    from fca.files import write_json, write_text

    evaluation = Evaluation(facts, [row for _, row in rows], failures)
    write_text(out / "evaluation.md", markdown(evaluation))
    write_json(out / "evaluation.json", finite_json(_as_json(evaluation)))
    kind = shown(evaluation.rows)
    worst = sorted(rows, key=lambda entry: _merit(entry[1][kind]))[:players]
    heard = [(pair, pair.read(), row) for pair, row in worst]
    write_text(out / "evaluation.html", html(evaluation, heard))


def _as_json(evaluation: Evaluation) -> Row:
    from dataclasses import asdict

    summaries = {
        condition: {name: asdict(summary) for name, summary in found.items()}
        for condition, found in evaluation.summaries().items()
    }
    return {
        "facts": dict(evaluation.facts),
        "definitions": list(evaluation.definitions),
        "summary": summaries,
        "recordings": list(evaluation.rows),
        "failures": [{"id": what, "reason": why} for what, why in evaluation.failures],
    }


def _merit(scores: dict[str, list[float]]) -> float:
    """How good a recording is by its first metric; undefined counts as best."""
    first = next(iter(scores.values()))
    mean = sum(first) / len(first)
    return mean if mean == mean else float("inf")


def _check(estimates: Path, names: tuple[str, ...], protocol: str) -> None:
    """Refuse what would otherwise fail for every recording, or after all of them."""
    from fca.evaluation.metrics import check_metrics
    from fca.evaluation.report import require_page

    if not estimates.exists():
        raise InputError(f"{estimates}: no such file or folder")
    check_metrics(names, protocol)
    require_page()


def _without_diarization(pairs: list[Pair]) -> tuple[list[Pair], dict[str, str]]:
    """Pairs without their activities if these cannot be scored, and a note that says so."""
    from dataclasses import replace

    from fca.evaluation.diarization import require_pyannote

    if not any(pair.activities for pair in pairs):
        return pairs, {}
    try:
        require_pyannote()
    except InputError as error:
        typer.echo(f"note: {error}", err=True)
        return [replace(pair, activities=None) for pair in pairs], {"DER": f"left out: {error}"}
    return pairs, {}
