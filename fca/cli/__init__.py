"""The command line, ``fca``: one module per command.

PyTorch and everything that needs it are imported only when a command runs, so that ``fca --help``
answers at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Annotated

import typer

from fca.cli.demo import demo
from fca.cli.enhance import enhance
from fca.cli.evaluate import evaluate
from fca.cli.methods import methods
from fca.cli.separate import separate
from fca.cli.simulate import simulate
from fca.cli.stream import stream

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(separate)
app.command()(enhance)
app.command()(stream)
app.command()(simulate)
app.command()(evaluate)
app.command()(demo)
app.command()(methods)


def _print_version(wanted: bool) -> None:
    if wanted:
        from fca import __version__

        typer.echo(f"fca {__version__}")
        raise typer.Exit


@app.callback()
def _fca(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Separate the talkers of multichannel recordings; take speech out of noise; score it."""


def main() -> None:
    """Run the command line; an error of the file system, such as a full disk, is told in one line.

    A scheduler's request to stop (SIGTERM), or a terminal that closes (SIGHUP), ends it as Ctrl-C
    does: nothing half written stays. If the environment variable FCA_DEBUG is set, it is logged
    where in the code a recording failed.
    """
    if os.environ.get("FCA_DEBUG"):
        logging.basicConfig()
        logging.getLogger("fca").setLevel(logging.DEBUG)
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # by nohup, say
            signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    try:
        app()
    except OSError as error:
        _drop_output()
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(f"error: {where}{error.strerror or error}", err=True)
        sys.exit(1)


def _drop_output() -> None:
    """Discard what standard output still holds, as Python would otherwise complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
