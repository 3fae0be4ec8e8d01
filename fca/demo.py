"""A local page to try the toolkit on a recording. Needs gradio (the extra ``demo``)."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fca import audio, plot
from fca.blocks import Block, BlockSeparator, Signals, stitch
from fca.direction import IN_LINE, Directions
from fca.errors import InputError
from fca.extras import require
from fca.inference.iterate import Progress
from fca.methods import DEFAULT_METHOD, METHODS
from fca.pieces import Reader
from fca.positions import parse_positions
from fca.separator import Separator

if TYPE_CHECKING:
    import gradio

MAX_SOURCES = 8
DRAWN_SECONDS = 60.0
KEPT_SECONDS = 24 * 3600
"""How long the page keeps copies of recordings and talkers; none outlives it."""
INTRODUCTION = """# fca
Drop a recording of several microphones, one file with all channels or one file for each, say how
many talkers there are, and listen to each of them. Everything stays on this machine."""

WAITING = "The talkers will appear here."

Array = NDArray[np.float32]
Tell = Callable[[float, str], None]


@dataclass(frozen=True)
class Outcome:
    """What the page shows.

    Attributes
    ----------
    talkers : list of Path
        Audio file of each talker.
    picture : Path
        Picture of the spectrograms and activities in the first minute.
    directions : Path or None
        Picture of the directions of the talkers, if the positions of the microphones are known.
    summary : str
        What was done, in one line.
    """

    talkers: list[Path]
    picture: Path
    directions: Path | None
    summary: str


def separate_files(
    files: Sequence[str | Path],
    method: str,
    n_sources: int,
    folder: Path,
    tell: Tell,
    positions: str = "",
) -> Outcome:
    """What the page does when its button is pressed: separate, and write files to show.

    Parameters
    ----------
    files : sequence of path
        Files of one recording: one with all channels, or one per microphone.
    method : str
        Name of a row of the table.
    n_sources : int
        Number of talkers.
    folder : Path
        Folder for the results.
    tell : callable
        Called with the share that is done, and what is being done.
    positions : str
        Positions of the microphones, as :func:`fca.positions.parse_positions` takes them; may be
        empty.

    Raises
    ------
    InputError
        For a recording that cannot be separated, or positions that do not fit its channels.
    """
    if not files:
        raise InputError("drop a recording first")
    reader = Reader(list(files) if len(files) > 1 else files[0])
    directions = Directions(parse_positions(positions)) if positions.strip() else None
    if directions is not None:
        directions.check(reader.n_channels)
    sources, residual = _separate(reader, Separator(method, n_sources), directions, tell)
    tell(1.0, "drawing")
    rate = reader.sample_rate
    shown = slice(round(DRAWN_SECONDS * rate))
    picture = folder / "separation.png"
    mixture = sources.sum(0) + residual
    plot.save(plot.plot_separation(mixture[shown], sources[:, shown], rate), picture)
    paths = [folder / f"source{n}.wav" for n in range(1, n_sources + 1)]
    for path, source in zip(paths, sources, strict=True):
        audio.write(path, source, rate)
    duration = reader.n_samples / rate
    summary = (
        f"{n_sources} talkers from {reader.n_channels} channels, {duration:.1f} s, by {method}."
    )
    if directions is None:
        return Outcome(paths, picture, None, summary)
    around = folder / "directions.png"
    names = [f"talker {n}" for n in range(1, n_sources + 1)]
    shape = directions.azimuths, directions.response, directions.found
    plot.save(plot.plot_directions(*shape, names), around)
    return Outcome(paths, picture, around, f"{summary} {_azimuths(directions)}")


def _azimuths(directions: Directions) -> str:
    """The azimuths of the talkers, in one line."""
    found = ", ".join("nowhere" if a is None else f"{a:.0f}°" for a in directions.found)
    return f"Azimuths: {found}." + f" {IN_LINE.capitalize()}." * directions.in_line


def build_page() -> gradio.Blocks:
    """The page, to be launched.

    Raises
    ------
    InputError
        If gradio or matplotlib is not installed.
    """
    plot.require_matplotlib()
    gr = require("gradio", "demo", "the page needs")
    page: gradio.Blocks
    kept = (3600, KEPT_SECONDS)  # looked through every hour
    with gr.Blocks(title="fca", analytics_enabled=False, delete_cache=kept) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            files = gr.File(label="Recording", file_count="multiple", file_types=["audio"])
            with gr.Column():
                method = gr.Dropdown(_methods(), value=DEFAULT_METHOD, label="Method")
                count = gr.Slider(1, MAX_SOURCES, value=2, step=1, label="Talkers")
                positions = gr.Textbox(
                    label="Positions of the microphones, if known: x, y[, z] in metres, one a line",
                    lines=2,
                    max_lines=16,
                    elem_id="positions",
                )
                button = gr.Button("Separate", variant="primary", elem_id="separate")
        # High enough for the progress that is shown on it.
        status = gr.Markdown(WAITING, elem_id="status", min_height=70)
        players = [
            gr.Audio(
                label=f"Talker {n + 1}",
                visible=False,
                elem_id=f"talker{n + 1}",
                interactive=False,
                buttons=["download"],
            )
            for n in range(MAX_SOURCES)
        ]
        picture = gr.Image(
            label="Spectrograms and activity",
            show_label=False,
            visible=False,
            elem_id="picture",
            buttons=["download", "fullscreen"],
        )
        directions = gr.Image(
            label="Directions",
            show_label=False,
            visible=False,
            elem_id="directions",
            width=500,
            buttons=["download", "fullscreen"],
        )
        inputs = [files, method, count, positions]
        outputs = [status, picture, directions, *players]
        # One at a time, as all write to the same folder.
        handler = _handler(gr)
        button.click(handler, inputs, outputs, show_progress_on=status, concurrency_limit=1)
    return page


def _handler(gr: Any) -> Callable[..., list[Any]]:
    progress_bar = gr.Progress()
    scratch = tempfile.TemporaryDirectory(prefix="fca-demo-")
    atexit.register(scratch.cleanup)
    folder = Path(scratch.name)  # gradio copies what it shows, so that the next click can write

    def players(paths: list[Path]) -> list[Any]:
        shown = [gr.Audio(str(path), visible=True) for path in paths]
        return shown + [gr.Audio(None, visible=False) for _ in range(MAX_SOURCES - len(paths))]

    def image(path: Path | None) -> Any:
        return gr.Image(path and str(path), visible=path is not None)

    def separate(
        files: list[str] | None,
        method: str,
        count: float,
        positions: str,
        progress: Any = progress_bar,
    ) -> list[Any]:
        def tell(share: float, what: str) -> None:
            progress(share, what)

        try:
            done = separate_files(files or [], method, int(count), folder, tell, positions)
        except (InputError, OSError, RuntimeError) as error:
            return [f"**Not separated:** {error}", image(None), image(None), *players([])]
        shown = [image(done.picture), image(done.directions)]
        return [done.summary, *shown, *players(done.talkers)]

    return separate


def _methods() -> list[str]:
    """Methods that need no weights from the user."""
    return [row.name for row in METHODS.values() if not row.needs_weights]


def _separate(
    reader: Reader, separator: Separator, directions: Directions | None, tell: Tell
) -> tuple[Array, Array]:
    """Sources (N, samples) and the residual, (samples,)."""
    sources = np.zeros((separator.n_sources, reader.n_samples), np.float32)
    residual = np.zeros(reader.n_samples, np.float32)

    def follow(progress: Progress) -> None:
        tell(progress.share, "separating")

    def signals(block: Block) -> Signals:
        if directions is not None:
            directions.add(block)
        return {"sources": block.sources, "residual": block.residual}

    pieces = stitch(BlockSeparator(separator)(reader, [follow]), signals)
    for start, piece in pieces:
        span = slice(start, start + piece["residual"].shape[-1])
        sources[:, span] = piece["sources"].cpu().numpy()
        residual[span] = piece["residual"].cpu().numpy()
    return sources, residual
