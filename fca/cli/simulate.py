"""``fca simulate``: folders of speech and noise in, mixtures with their references out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fca.cli.options import Json
from fca.cli.usage import usage
from fca.errors import InputError, counted

UNUSED = {
    "clean": ("snr", "noise"),
    "measured": ("rt60", "aperture", "distance", "array"),
    "array": ("aperture",),
}
"""For an option, those that have no effect together with it."""

Speech = Annotated[
    Path,
    typer.Argument(
        exists=True,
        file_okay=False,
        help="Folder with one folder per speaker; without such, each file is a speaker.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", file_okay=False, writable=True, help="Folder for the set."),
]
Count = Annotated[int, typer.Option("--count", "-c", min=1, help="Number of mixtures.")]
Talkers = Annotated[int, typer.Option("--talkers", "-n", min=1, help="Talkers of each.")]
Mics = Annotated[
    int | None,
    typer.Option(
        "--mics", "-m", min=1, help="Microphones of each.", show_default="the array's, or 4"
    ),
]
Rt60 = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Range of the reverberation time (s), up to 1.5, which takes 40 s and 4 GB a mixture.",
        show_default="0.2, 0.6",
    ),
]
Seconds = Annotated[
    tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of the length (s).")
]
Snr = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Range of the level of all talkers to the noise (dB).",
        show_default="30, 30",
    ),
]
Clean = Annotated[bool, typer.Option("--clean", help="No noise.")]
Level = Annotated[
    tuple[float, float],
    typer.Option(metavar="LOW HIGH", help="Range of each talker's level to the first one's (dB)."),
]
Interferer = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Range of the level of one more sound, of the noise, but from one place, to the first "
        "talker (dB).",
        show_default="none",
    ),
]
Aperture = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH", help="Range of the array's size (m).", show_default="0.05, 0.3"
    ),
]
Distance = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Range of the talkers' distance to the array (m).",
        show_default="0.7, 2.5",
    ),
]
Speed = Annotated[
    float, typer.Option(help="Degrees per second that the talkers walk around the array.")
]
Sway = Annotated[
    float, typer.Option(help="How far the talkers sway on the spot, to either side (m).")
]
ArrayFile = Annotated[
    Path | None,
    typer.Option(
        "--array",
        help="File of the microphones' positions x, y[, z] (m), one a line or as a JSON list of "
        "lists, turned at random.",
        show_default="a random array",
    ),
]
Noise = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        file_okay=False,
        help="Folder of noise, made diffuse.",
        show_default="white noise, diffuse",
    ),
]
Measured = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="Measured responses instead of simulated rooms: .npz with rir (directions, channels, "
        "taps), azimuth_deg, sample_rate and, unless binaural, mics (channels, 3).",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Option(help="What the mixtures are called.")]
Rate = Annotated[int, typer.Option(help="Sample rate (Hz), 1000 or more.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes.")]


def simulate(
    speech: Speech,
    *,
    out: Out,
    count: Count = 10,
    talkers: Talkers = 2,
    mics: Mics = None,
    rt60: Rt60 = None,
    seconds: Seconds = (6, 10),
    snr: Snr = None,
    clean: Clean = False,
    level: Level = (-5, 5),
    interferer: Interferer = None,
    aperture: Aperture = None,
    distance: Distance = None,
    speed: Speed = 0.0,
    sway: Sway = 0.0,
    array: ArrayFile = None,
    noise: Noise = None,
    measured: Measured = None,
    name: Name = "mixture",
    sample_rate: Rate = 16000,
    seed: Seed = 0,
    jobs: Jobs = 1,
    as_json: Json = False,
) -> None:
    """Make mixtures of talkers in reverberant rooms, with everything to score a separation by.

    Each mixture gets a folder OUT/NAME_0000 with mixture.wav, images.wav and early.wav (the talkers
    at all microphones, with all and with the early reverberation; one talker after the other),
    dry.wav (the talkers) and row.json; OUT/manifest.jsonl lists all that are in OUT with what was
    drawn. Run again, it makes what is missing; with another --name, it adds to the set. `fca
    separate 'OUT/*/mixture.wav' -o EST` separates the set and `fca evaluate EST OUT -o SCORES`
    scores it. The exit status is 1 if a mixture could not be made, 2 for an invalid option or
    argument.
    """
    from fca.files import make_folder
    from fca.simulate.sets import Condition, Corpora, build, check_name

    given = {
        "rt60": rt60,
        "snr": snr,
        "clean": clean,
        "aperture": aperture,
        "distance": distance,
        "array": array,
        "noise": noise,
        "measured": measured,
    }
    used = {option for option, value in given.items() if value}
    _check_used(used - {"noise"} if interferer else used)  # the interferer is from there, too
    positions = None if array is None else _positions(array)
    drawn: dict[str, Any] = {
        "mics": mics or (None if positions is None else len(positions)),
        "rt60": rt60,
        "snr_db": None if snr is None else _fixed(snr),
        "aperture": aperture,
        "distance": distance,
    }
    chosen = {name: value for name, value in drawn.items() if value is not None}
    if clean:
        chosen["snr_db"] = None
    told = (lambda row: typer.echo(json.dumps(row))) if as_json else None
    with usage():
        check_name(name)
        kind = Condition(
            count=count,
            talkers=talkers,
            seconds=seconds,
            level_db=level,
            interferer_db=interferer,
            array=positions,
            measured=measured is not None,
            speed=speed,
            sway=sway,
            **chosen,
        )
        corpora = Corpora(speech, noise, measured, sample_rate)
        make_folder(out)
    try:
        items = build({name: kind}, corpora, out, seed=seed, jobs=jobs, told=told, others=True)
    except (InputError, OSError, MemoryError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{counted(len(items), 'mixture')} in {out}", err=True)


def _fixed(range_: tuple[float, float]) -> float | tuple[float, float]:
    low, high = range_
    return low if low == high else range_


def _check_used(given: set[str]) -> None:
    """Refuse options that have no effect because of another one."""
    for option, unused in UNUSED.items():
        for name in unused:
            if {option, name} <= given:
                raise typer.BadParameter(f"has no effect with --{option}", param_hint=f"--{name}")


def _positions(path: Path) -> tuple[tuple[float, float, float], ...]:
    """Positions in a file, relative to their centre."""
    from fca.positions import read_positions

    with usage("--array"):
        found = read_positions(path)
    return tuple((x, y, z) for x, y, z in (found - found.mean(0)).tolist())
