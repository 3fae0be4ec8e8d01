"""Options that several commands share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[IN...]",
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
ReferenceChannel = Annotated[
    int,
    typer.Option(help="Microphone, from 0, whose view of the talkers is written."),
]
Iterations = Annotated[
    int | None,
    typer.Option("--iterations", "-i", help="Iterations.", show_default="the method's"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Dereverberate = Annotated[
    bool, typer.Option("--dereverberate", help="Take out late reverberation first (WPE).")
]
Format = Annotated[
    Literal["wav", "flac"],
    typer.Option(
        "--format", "-f", help="32-bit float WAV, or 24-bit FLAC (WAV where FLAC would clip)."
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


def parse_options(texts: list[str]) -> dict[str, Any]:
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


def chosen(flags: Mapping[str, Any], texts: list[str] | None) -> dict[str, Any]:
    """Flags that were given, and options NAME=VALUE, of which null is a value like others."""
    given = {name: value for name, value in flags.items() if value is not None}
    return given | parse_options(texts or [])
