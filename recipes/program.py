"""The command line of a recipe's program."""

from __future__ import annotations

import functools
from collections.abc import Callable

import typer

from fca.errors import InputError


def run(main: Callable[..., object]) -> None:
    """Run `main` with the command line's arguments; an `InputError` is one line and status 1."""

    @functools.wraps(main)
    def program(**arguments: object) -> None:
        try:
            main(**arguments)
        except InputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None

    typer.run(program)
