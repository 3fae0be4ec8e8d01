"""``fca separate``: recordings in, one file per talker out."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fca.errors import InputError
from fca.plot import require_matplotlib

if TYPE_CHECKING:
    from fca.separator import Separator

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help="Audio files, folders (searched with their subfolders), quoted patterns such as "
        "'rec/*.wav', or A.wav,B.wav,... for a recording with one file per microphone.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", help="Folder for the results, one subfolder per recording."),
]
FilePerChannel = Annotated[
    bool,
    typer.Option(
        "--file-per-channel",
        help="Each file is one microphone: names that differ only in the number at their end "
        "(X.CH1.wav, X.CH2.wav; X-1.wav, X-2.wav) form one recording.",
    ),
]
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", "-m", help="A name that 'fca methods' lists.", show_default="see there"
    ),
]
Sources = Annotated[int, typer.Option("--sources", "-n", help="Number of talkers.")]
ReferenceChannel = Annotated[
    int,
    typer.Option(help="Microphone, from 0, whose view of the talkers is written."),
]
Iterations = Annotated[
    int | None,
    typer.Option("--iterations", "-i", help="Iterations.", show_default="the method's"),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-O",
        metavar="NAME=VALUE",
        help="Further option of fca.Separator or of the method, such as n_fft=2048, n_bases=8 or "
        "n_starts=3; repeatable.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Format = Annotated[
    Literal["wav", "flac"],
    typer.Option(
        "--format", "-f", help="32-bit float WAV, or 24-bit FLAC (WAV where FLAC would clip)."
    ),
]
Images = Annotated[
    bool, typer.Option("--images", help="Write each talker at all microphones, too.")
]
Residual = Annotated[
    bool, typer.Option("--residual", help="Write what the talkers leave of the mixture, too.")
]
Plot = Annotated[bool, typer.Option("--plot", help="Draw the spectrograms and activities (PNG).")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print what was done to standard output, a JSON line each."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Separate again what is already there.")
]


def separate(
    inputs: Inputs,
    out: Out,
    file_per_channel: FilePerChannel = False,
    method: MethodName = None,
    sources: Sources = 2,
    reference_channel: ReferenceChannel = 0,
    iterations: Iterations = None,
    option: Options = None,
    device: Device = "auto",
    seed: Seed = 0,
    audio_format: Format = "wav",
    images: Images = False,
    residual: Residual = False,
    plot: Plot = False,
    as_json: Json = False,
    overwrite: Overwrite = False,
) -> None:
    """Separate recordings of 2 to 16 microphones into one file per talker.

    Every recording X gets a folder OUT/X with source1.wav, source2.wav, ... (loudest first), as
    long as the recording and in its scale, and separation.json, written last, which says how they
    were made. Recordings that have theirs are skipped; those of one name are told apart by their
    folders. The exit status is 1 if a recording failed, 2 if the command makes no sense.
    """
    from fca.cli.inputs import collect
    from fca.cli.report import Report
    from fca.cli.results import Results

    chosen = {
        "method": method,
        "n_sources": sources,
        "reference_channel": reference_channel,
        "n_iter": iterations,
        "seed": seed,
        **_parse_options(option or []),
    }
    try:
        recordings, problems = collect(inputs, out, file_per_channel)
        separator = _separator(device=device, **chosen)
        if plot:
            require_matplotlib()
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    settings = {**chosen, "method": separator.method.name, "n_iter": separator.method.n_iter}
    results = Results(out, settings, f".{audio_format}", images, residual, plot, overwrite)
    with Report(as_json, len(recordings)) as report:
        for what, why in problems:
            report.fail(what, why)
        for recording in recordings:
            report.run(recording, partial(results.make, recording, separator, report.advance))
    raise typer.Exit(1 if report.n_failed else 0)


def _parse_options(texts: list[str]) -> dict[str, Any]:
    """Options NAME=VALUE, with values as in JSON and otherwise as they stand."""
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


def _separator(**options: Any) -> Separator:
    from fca.separator import Separator

    try:
        return Separator(**{name: value for name, value in options.items() if value is not None})
    except TypeError as error:
        raise InputError(str(error)) from None
