"""``fca methods``: the table of methods."""

from __future__ import annotations


def methods() -> None:
    """List the methods: each is a spatial model, a source model and an inference."""
    from rich.console import Console
    from rich.table import Column, Table

    from fca.methods import DEFAULT_METHOD, METHODS

    table = Table(Column("method", no_wrap=True), "spatial model", "source model", "inference")
    table.add_column("iterations", justify="right")
    table.add_column("paper")
    for row in METHODS.values():
        name = f"{row.name} (default)" if row.name == DEFAULT_METHOD else row.name
        table.add_row(name, row.spatial, row.source, row.inference, str(row.n_iter), row.paper)
    console = Console()
    if not console.is_terminal:  # piped or redirected: one line a row
        console = Console(width=160)
    console.print(table)
