"""Options that the examples share."""

from __future__ import annotations

from typing import Annotated

import typer

MethodName = Annotated[str, typer.Option(help="see: fca methods")]
Iterations = Annotated[int | None, typer.Option(help="iterations")]
Window = Annotated[int | None, typer.Option(help="window in samples")]
