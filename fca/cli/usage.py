"""Usage errors: a command was asked for something that makes no sense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from fca.errors import InputError


@contextmanager
def usage(option: str | None = None) -> Iterator[None]:
    """Turn an :class:`InputError` inside into a usage error of the option: one line, status 2."""
    try:
        yield
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
