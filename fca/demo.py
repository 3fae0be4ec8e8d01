"""A local page to try the toolkit on a recording. Needs gradio (``pip install 'fca[demo]'``)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fca import audio, plot
from fca.blocks import BlockSeparator, stitch
from fca.errors import InputError
from fca.inference.iterate import Progress
from fca.methods import DEFAULT_METHOD, METHODS
from fca.pieces import Reader
from fca.separator import Separator

if TYPE_CHECKING:
    from gradio import Blocks

MAX_SOURCES = 8
DRAWN_SECONDS = 60.0
INTRODUCTION = """# fca
Drop a recording of several microphones, one file with all channels or one file for each, say how
many talkers there are, and listen to each of them. Everything stays on this machine."""

WAITING = "The talkers will appear here."

Array = NDArray[np.float32]
Tell = Callable[[float, str], None]


def separate_files(
    files: Sequence[str | Path], method: str, n_sources: int, folder: Path, tell: Tell
) -> tuple[list[Path], Path, str]:
    """What the page does when its button is pressed.

    Parameters
    ----------
    files : sequence of path
        One recording.
    method : str
        Name of a row of the table.
    n_sources : int
        Talkers.
    folder : Path
        Where the results are written.
    tell : callable
        Told the share that is done, and of what.

    Returns
    -------
    list of Path
        Audio of each talker.
    Path
        Picture of the spectrograms and activities; of the first minute.
    str
        What was done, in a line.

    Raises
    ------
    InputError
        For a recording that cannot be separated.
    """
    if not files:
        raise InputError("drop a recording first")
    reader = Reader(list(files) if len(files) > 1 else files[0])
    sources, residual = _separate(reader, Separator(method, n_sources), tell)
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
    return paths, picture, summary


def build_page() -> Blocks:
    """The page, to be launched.

    Raises
    ------
    InputError
        If gradio or matplotlib is not installed.
    """
    plot.require_matplotlib()
    try:
        import gradio as gr
    except ImportError:
        raise InputError("the page needs gradio: pip install 'fca[demo]'") from None

    page: Blocks
    with gr.Blocks(title="fca", analytics_enabled=False) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            files = gr.File(label="Recording", file_count="multiple", file_types=["audio"])
            with gr.Column():
                method = gr.Dropdown(_methods(), value=DEFAULT_METHOD, label="Method")
                count = gr.Slider(1, MAX_SOURCES, value=2, step=1, label="Talkers")
                button = gr.Button("Separate", variant="primary", elem_id="separate")
        # High enough for the progress that shows on it.
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
        outputs = [status, picture, *players]
        button.click(_handler(gr), [files, method, count], outputs, show_progress_on=status)
    return page


def _handler(gr: Any) -> Callable[..., list[Any]]:
    progress_bar = gr.Progress()

    def separate(
        files: list[str] | None, method: str, count: float, progress: Any = progress_bar
    ) -> list[Any]:
        folder = Path(tempfile.mkdtemp(prefix="fca-demo-"))
        try:
            paths, picture, summary = separate_files(
                files or [], method, int(count), folder, lambda share, what: progress(share, what)
            )
        except (InputError, OSError, RuntimeError) as error:
            nothing = [gr.Audio(None, visible=False) for _ in range(MAX_SOURCES)]
            return [f"**Not separated:** {error}", gr.Image(None, visible=False), *nothing]
        shown = [gr.Audio(str(path), visible=True) for path in paths]
        hidden = [gr.Audio(None, visible=False) for _ in range(MAX_SOURCES - len(paths))]
        return [summary, gr.Image(str(picture), visible=True), *shown, *hidden]

    return separate


def _methods() -> list[str]:
    """Rows that need no weights of the user's."""
    return [row.name for row in METHODS.values() if row.source != "neural"]


def _separate(reader: Reader, separator: Separator, tell: Tell) -> tuple[Array, Array]:
    """Sources (N, samples) and what they leave of the mixture, (samples,)."""
    sources = np.zeros((separator.n_sources, reader.n_samples), np.float32)
    residual = np.zeros(reader.n_samples, np.float32)

    def follow(progress: Progress) -> None:
        tell(progress.iteration / progress.n_iter, "separating")

    blocks = BlockSeparator(separator)(reader, [follow])
    pieces = stitch(blocks, lambda b: {"sources": b.sources, "residual": b.residual})
    for start, piece in pieces:
        span = slice(start, start + piece["residual"].shape[-1])
        sources[:, span] = piece["sources"].cpu().numpy()
        residual[span] = piece["residual"].cpu().numpy()
    return sources, residual
