"""``fca demo``: a local page to try the toolkit."""

from __future__ import annotations

from typing import Annotated

import typer

from fca.errors import InputError

Port = Annotated[
    int | None,
    typer.Option(min=1, max=65535, help="Port of the page.", show_default="a free one"),
]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open it in a browser.")]


def demo(port: Port = None, browser: Open = True) -> None:
    """Serve a page on this machine to drop a recording on and listen to its talkers.

    It cannot be reached from other machines, and sends nothing to any.
    """
    try:
        from fca.demo import build_page

        page = build_page()
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    try:
        _, address, _ = page.launch(
            server_name="127.0.0.1",
            server_port=port,
            inbrowser=browser,
            share=False,
            quiet=True,  # it would offer to share the page
            prevent_thread_lock=True,
        )
    except OSError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"the page is at {address}; Ctrl-C ends it")
    page.block_thread()
