"""``fca methods``: the table of methods, and the options of each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fca.cli.usage import usage

if TYPE_CHECKING:
    from rich.table import Table

Name = Annotated[
    str | None,
    typer.Argument(help="A method: list its options for -O, and their values.", show_default=False),
]


def methods(name: Name = None) -> None:
    """List the methods: each is a spatial model, a source model and an inference."""
    from rich.console import Console

    table = _table() if name is None else _options(name)
    console = Console()
    if not console.is_terminal:  # piped or redirected: one line a row
        console = Console(width=220)
    console.print(table)


def _table() -> Table:
    from rich.table import Column, Table

    from fca.methods import DEFAULT_METHOD, METHODS

    columns = ("spatial model", "source model", "fits", "start", "inference")
    table = Table(Column("method", no_wrap=True), *columns)
    table.add_column("iterations", justify="right")
    table.add_column("paper")
    for row in METHODS.values():
        name = f"{row.name} (default)" if row.name == DEFAULT_METHOD else row.name
        choices = (row.spatial, row.source_model, row.fits, row.beginning, row.inference)
        table.add_row(name, *choices, str(row.n_iter), row.paper)
    return table


def _options(name: str) -> Table:
    from rich.table import Table

    from fca.methods import get_method

    with usage("NAME"):
        row = get_method(name)
    table = Table("option", "value", title=f"{row.name}: {row.paper}")
    for option, value in row.choices.items():
        table.add_row(option, _text(value))
    table.caption = "Options that need others, such as taps, are left out."
    return table


def _text(value: object) -> str:
    """A value in the form that ``-O NAME=VALUE`` takes."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
