"""Errors of usage: what a command was asked for makes no sense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fca.errors import InputError


@contextmanager
def usage(option: str | None = None) -> Iterator[None]:
    """An :class:`InputError` inside is one of usage, of an option if named: a line, status 2."""
    try:
        yield
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
