"""Options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fca.cli.usage import usage
from fca.cli.values import Types, check_models, read_value
from fca.errors import InputError

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[IN...]",
        help="Audio files, folders (searched with their subfolders, but for linked ones), quoted "
        "patterns such as 'rec/*.wav', or A.wav,B.wav,... for a recording with one file per "
        "microphone.",
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
ReferenceChannel = Annotated[
    int,
    typer.Option(help="Microphone, from 0, whose view of the talkers is written."),
]
Iterations = Annotated[
    int | None,
    typer.Option("--iterations", "-i", help="Iterations.", show_default="the method's"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of all random numbers.")]
Dereverberate = Annotated[
    bool, typer.Option("--dereverberate", help="Take out late reverberation first (WPE).")
]
Format = Annotated[
    Literal["wav", "wav16", "flac"],
    typer.Option(
        "--format",
        "-f",
        help="32-bit float WAV; 16-bit WAV, as Kaldi reads it; or 24-bit FLAC. What would clip is "
        "float WAV.",
    ),
]
Plot = Annotated[bool, typer.Option("--plot", help="Draw the spectrograms and activities (PNG).")]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print what was done to standard output, a JSON line each."),
]
Manifest = Annotated[
    Path | None,
    typer.Option(
        help="File that lists recordings: a Kaldi wav.scp, or a path a line.", show_default=False
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="i/n",
        help="Only the i-th of n shares of the recordings, i from 1, for job arrays such as "
        "Slurm's: --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT.",
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: its address, auto, or local for one in this process.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do again what is already there.")]
BlockSeconds = Annotated[
    float | None,
    typer.Option(
        "--block",
        metavar="SECONDS",
        help="Longest block: longer recordings are worked through in blocks that overlap, which "
        "bounds the memory.",
        show_default="30, and less beyond five microphones",
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        help="Blocks of a recording that are worked on at the same time, each in one thread; the "
        "memory grows with them.",
    ),
]


def chosen(
    flags: Mapping[str, Any],
    texts: list[str] | None,
    types: Callable[[Mapping[str, Any]], Types],
    command: Callable[..., None],
) -> dict[str, Any]:
    """All options that were given: flags, and NAME=VALUE texts read as their types.

    Parameters
    ----------
    flags : mapping
        Options of the command; None for those that were left out.
    texts : list of str, optional
        Options NAME=VALUE, which take precedence over flags of the same name.
    types : callable
        Gives the type of each option from all that was given. Options that it does not know stay
        text; the function that takes them refuses them.
    command : callable
        The command that is run. Its own options that are not among the flags cannot be given as
        NAME=VALUE.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    pairs = dict(_pair(text) for text in texts or [])
    with usage():
        check_models(given)
        known = types(given | pairs)
        for name in pairs.keys() & _named(command) - known.keys() - flags.keys():
            raise InputError(f"{name} is an option of its own: --{name.replace('_', '-')}")
        values = {name: read_value(name, pairs[name], known.get(name, str)) for name in pairs}
    return given | values


def _named(command: Callable[..., None]) -> set[str]:
    return set(inspect.signature(command).parameters)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--option")
    return name, value
