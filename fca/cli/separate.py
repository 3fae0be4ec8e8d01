"""``fca separate``: recordings in, one file per talker out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fca.cli.options import (
    BlockSeconds,
    Dereverberate,
    Device,
    FilePerChannel,
    Format,
    Inputs,
    Iterations,
    Jobs,
    Json,
    Manifest,
    Out,
    Overwrite,
    Plot,
    Ray,
    ReferenceChannel,
    Seed,
    Shard,
    chosen,
)
from fca.cli.run import Corpus, Course, Job, contents
from fca.cli.usage import usage
from fca.cli.values import separator_types

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from fca.blocks import Block, Signals
    from fca.separator import Separator

AUTO = "auto"

MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", "-m", help="A name that 'fca methods' lists.", show_default="see there"
    ),
]
Sources = Annotated[
    str | None,
    typer.Option(
        "--sources",
        "-n",
        metavar="N",
        help="Number of talkers, or 'auto' to count them: at most 6 in a block, and no more than "
        "microphones.",
        show_default="2",
    ),
]
Guide = Annotated[
    Path | None,
    typer.Option(
        "--rttm",
        help="Who speaks when, as RTTM, of one recording or of several by their names: guides the "
        "separation into these speakers.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(help="Speaker of the RTTM file; only their file is written.", show_default=False),
]
Positions = Annotated[
    Path | None,
    typer.Option(
        "--array",
        help="File of the microphones' positions x, y[, z] (m), one a line in the order of the "
        "channels: the talkers' azimuths are told.",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="Network of a neural method: a folder or a model's name."),
]
Refine = Annotated[
    int | None,
    typer.Option(help="Steps of refinement on the recording, for methods with a speech model."),
]
Reverberation = Annotated[
    Literal["none", "ar", "ma", "arma"] | None,
    typer.Option(
        help="How sound that outlasts the window is modelled, and taken out: predicted from past "
        "frames (ar), as delayed copies of the talkers (ma), or both. -O taps, ma_taps and delay "
        "count frames; -O reverberant=true keeps it.",
        show_default="none",
    ),
]
OutputFilter = Annotated[
    Literal["wiener", "mvdr"],
    typer.Option(
        help="How talkers are taken out: wiener separates more, the beamformer mvdr distorts less, "
        "which speech recognition prefers."
    ),
]
Motion = Annotated[
    Literal["fixed", "slow", "fast"] | None,
    typer.Option(
        help="How fast talkers may move, for methods with full-rank covariances: mnmf, fca, "
        "mnmf-dp, neural-fca.",
        show_default="fixed",
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-O",
        metavar="NAME=VALUE",
        help="Further option of fca.Separator or of the method, such as n_starts=3, or for "
        "fastmnmf2 n_fft=2048 and n_bases=8; repeatable. 'fca methods NAME' lists those of a "
        "method; some need others, as taps=5 needs reverberation=ar.",
        show_default=False,
    ),
]
Images = Annotated[
    bool, typer.Option("--images", help="Write each talker at all microphones, too.")
]
Residual = Annotated[
    bool, typer.Option("--residual", help="Write the residual, too: the mixture minus all talkers.")
]


def separate(
    out: Out,
    inputs: Inputs = None,
    manifest: Manifest = None,
    shard: Shard = None,
    ray: Ray = None,
    file_per_channel: FilePerChannel = False,
    method: MethodName = None,
    sources: Sources = None,
    rttm: Guide = None,
    target: Target = None,
    array: Positions = None,
    reference_channel: ReferenceChannel = 0,
    iterations: Iterations = None,
    weights: Weights = None,
    refine: Refine = None,
    reverberation: Reverberation = None,
    output_filter: OutputFilter = "wiener",
    dereverberate: Dereverberate = False,
    motion: Motion = None,
    option: Options = None,
    device: Device = "auto",
    seed: Seed = 0,
    audio_format: Format = "wav",
    images: Images = False,
    residual: Residual = False,
    plot: Plot = False,
    as_json: Json = False,
    overwrite: Overwrite = False,
    block: BlockSeconds = None,
    jobs: Jobs = 1,
) -> None:
    """Separate recordings of 2 to 16 microphones into one file per talker.

    Every recording X gets a folder OUT/X with source1.wav, source2.wav, ... (loudest first; in a
    recording of several blocks, as they appear), as long as the recording and in its scale, and
    activity.rttm, which says who speaks when, and separation.json, written last, which says how
    they were made. With --rttm the files are named after the speakers, and activity.rttm is left
    out. With --array separation.json gives the azimuths of the talkers, in degrees from the x axis
    towards the y axis. Recordings that have their results are skipped; those of the same name are
    told apart by their folders. The exit status is 1 if a recording failed, 2 for an invalid option
    or argument.
    """
    flags = {
        "method": method,
        "n_sources": _number(sources),
        "reference_channel": reference_channel,
        "n_iter": iterations,
        "seed": seed,
        "weights": weights,
        "n_refine": refine,
        "reverberation": reverberation,
        "output_filter": output_filter,
        "dereverberate": dereverberate,
        "motion": motion,
    }

    def signals(block: Block) -> Signals:
        named = _wanted(block.names, block.sources, target)
        if residual:
            named["residual"] = block.residual
        if images:
            views = _wanted(block.names, block.images(), target)
            named |= {_image(name, rttm is not None): x for name, x in views.items()}
        return named

    if target is not None and rttm is None:
        raise typer.BadParameter("a target needs --rttm", param_hint="--target")
    if rttm is not None and sources is not None:
        raise typer.BadParameter("the RTTM file says how many talk", param_hint="--sources")
    if rttm is not None:
        _check_turns(rttm)
    positions = None if array is None else _positions(array)
    course = Course(
        block=block,
        jobs=jobs,
        count=sources == AUTO,
        diarize=rttm is None,
        rttm=rttm,
        target=target,
        array=positions,
        images=images,
        residual=residual,
    )
    corpus = Corpus(
        inputs=inputs,
        out=out,
        file_per_channel=file_per_channel,
        manifest=manifest,
        shard=shard,
        ray=ray,
    )
    job = Job(
        kind="separation",
        corpus=corpus,
        audio_format=audio_format,
        plot=plot,
        as_json=as_json,
        overwrite=overwrite,
        course=course,
    )
    written = {"images": images, "residual": residual, "rttm": rttm and str(rttm.resolve())}
    written |= {"target": target, "array": None if positions is None else positions.tolist()}
    written |= contents(turns=rttm, network=weights)
    job.run(_separator, chosen(flags, option, separator_types, separate), signals, written, device)


def _check_turns(path: Path) -> None:
    """Refuse an RTTM file that is of no use, whatever the recording."""
    from fca.activity import check_rttm

    with usage("--rttm"):
        check_rttm(path)


def _positions(path: Path) -> NDArray[np.float64]:
    from fca.direction import Directions
    from fca.positions import read_positions

    with usage("--array"):
        positions = read_positions(path)
        Directions(positions)
    return positions


def _wanted(names: list[str], rows: Tensor, target: str | None) -> dict[str, Tensor]:
    named = zip(names, rows, strict=True)
    return {name: row for name, row in named if target in (None, name)}


def _image(name: str, guided: bool) -> str:
    return f"{name}.image" if guided else name.replace("source", "image")


def _number(sources: str | None) -> int | str:
    if sources is None:
        return 2
    if sources == AUTO:
        return AUTO
    if not sources.removeprefix("-").isdecimal():
        raise typer.BadParameter(f"{sources!r} is neither a number nor {AUTO}")
    return int(sources)


def _separator(n_sources: int | str, **options: Any) -> Separator:
    from fca.blocks import MOST_TALKERS
    from fca.separator import Separator

    return Separator(n_sources=MOST_TALKERS if n_sources == AUTO else int(n_sources), **options)
