"""Sets of simulated mixtures from folders of speech and noise: drawn, written, continued.

The seed of every mixture comes from its own name, so that a set can be made in parallel, stopped
and resumed.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fca import __version__, audio
from fca.errors import InputError, at_least_one
from fca.files import make_folder, write_text
from fca.simulate.corpora import Corpora, draw_noise, draw_responses, draw_talkers
from fca.simulate.diffuse import diffuse_noise
from fca.simulate.images import Array, Range, convolve, scaled_noise
from fca.simulate.mixtures import Mixture, mix, mix_moving
from fca.simulate.motion import path_responses, swaying_paths, walk
from fca.simulate.rooms import random_scene, reverberation_time, room_responses
from fca.simulate.stored import MANIFEST, PARTS, ROW, Item, load

__all__ = ["Condition", "Corpora", "build", "check_name"]

Row = dict[str, Any]

MAX_RT60 = 1.5
"""Longest reverberation time (s) that is simulated: memory and computation grow with its third
power, to some 4 GB and 40 s for a mixture."""
MAX_SWAY = 0.1
"""Farthest that talkers sway (m), as responses from every centimetre of the way take time and
memory."""
MAX_DB = 150
"""Bound of levels and SNRs (dB); what is weaker is lost in the rounding of the samples."""


@dataclass(frozen=True)
class Condition:
    """One kind of mixture.

    Attributes
    ----------
    count : number of mixtures
    talkers, mics : how many
    rt60, seconds : ranges to draw from; simulated rooms ring for up to 1.5 s
    snr_db : level of all talkers to the diffuse noise, a number or a range; None for no noise
    level_db : range of each talker's level relative to the first one's; like `snr_db` within
        -150 to 150 dB
    interferer_db : range of the level, relative to the first talker, of one more sound: noise from
        one place; None for none
    aperture, distance : ranges of the array's size and of the talkers' distance to it (m)
    array : positions (x, y, z) of the microphones relative to their centre (m), turned at random;
        drawn if None
    speech : folders below the corpus that hold one folder per speaker
    measured : use the measured responses instead of simulated rooms
    speed : how fast the talkers walk around the array (degrees per second)
    sway : how far the talkers sway on the spot, to either side (m); at most 0.1
    """

    count: int
    talkers: int = 2
    mics: int = 4
    rt60: Range = (0.2, 0.6)
    seconds: Range = (6, 10)
    snr_db: float | Range | None = 30
    level_db: Range = (-5, 5)
    interferer_db: Range | None = None
    aperture: Range = (0.05, 0.3)
    distance: Range = (0.7, 2.5)
    array: tuple[tuple[float, float, float], ...] | None = None
    speech: tuple[str, ...] = (".",)
    measured: bool = False
    speed: float = 0.0
    sway: float = 0.0

    def __post_init__(self) -> None:
        for name in ("count", "talkers", "mics"):
            at_least_one(name, getattr(self, name))
        for name in ("rt60", "seconds", "level_db", "aperture", "distance"):
            _check_range(name, *getattr(self, name))
        if self.snr_db is not None:
            _check_range("snr_db", *_range(self.snr_db))
        if self.interferer_db is not None:
            _check_range("interferer_db", *self.interferer_db)
            if self.speed or self.sway:
                raise InputError("an interferer goes with talkers who stand still only")
        if self.rt60[1] > MAX_RT60 and not self.measured:
            raise InputError(f"rt60: rooms are simulated up to {MAX_RT60} s, not {self.rt60[1]:g}")
        if not math.isfinite(self.speed):
            raise InputError(f"speed must be a number of degrees per second, not {self.speed}")
        if self.speed and (self.measured or self.array is not None):
            raise InputError("talkers walk in simulated rooms around random arrays only")
        if not 0 <= self.sway <= MAX_SWAY:
            raise InputError(f"sway is from 0 to {MAX_SWAY} m, not {self.sway}")
        if self.sway and (self.measured or self.speed):
            raise InputError("talkers sway in simulated rooms and where they do not walk only")
        if self.array is not None and len(self.array) != self.mics:
            raise InputError(f"the array has {len(self.array)} microphones, not {self.mics}")

    def describe(self) -> Row:
        """The settings of one mixture, as JSON holds them."""
        described: Row = json.loads(json.dumps(asdict(self)))
        del described["count"]
        return described


def build(
    kinds: Mapping[str, Condition],
    corpora: Corpora,
    folder: Path,
    *,
    seed: int = 0,
    jobs: int = 1,
    told: Callable[[Row], None] | None = None,
    others: bool = False,
) -> list[Item]:
    """Write every mixture that is not there yet, then the manifest.

    Parameters
    ----------
    kinds : name of a condition -> the condition
    corpora : where speech, noise and responses are
    jobs : processes
    told : called with the row of each mixture once it is there
    others : list the mixtures that are in the folder already, too, whatever they are called

    Returns
    -------
    list of Item
        What the manifest lists.

    Raises
    ------
    InputError
        If a name cannot name a folder, the corpora lack something, or the folder lies in them,
        holds mixtures of other settings or cannot be made; or if a process is killed.
    """
    for name in kinds:
        check_name(name)
    if seed < 0:
        raise InputError(f"the seed must be at least 0, not {seed}")
    if corpora.measured is None and any(kind.measured for kind in kinds.values()):
        raise InputError("a condition asks for measured responses: give --measured FILE.npz")
    tasks = [(name, kind, k) for name, kind in kinds.items() for k in range(kind.count)]
    corpora.check_apart(folder)
    make_folder(folder)
    make = partial(_build_one, corpora=corpora, folder=folder, seed=seed)
    rows = []
    try:
        with ProcessPoolExecutor(jobs) as pool:
            for row in map(make, tasks) if jobs == 1 else pool.map(make, tasks):
                rows.append(row)
                if told:
                    told(row)
    except BrokenProcessPool:
        raise InputError("a process was killed, perhaps for memory: take fewer jobs") from None
    listed = _with_others(rows, folder) if others else rows
    write_text(folder / MANIFEST, "".join(json.dumps(row) + "\n" for row in listed))
    return load(folder)


def check_name(name: str) -> None:
    """Raise :class:`InputError` if a condition's name cannot name folders directly in a set."""
    if Path(name).name != name or name.startswith("."):
        raise InputError(f"the name {name!r} must be without folders and not begin with a dot")


def _range(value: float | Range) -> Range:
    """The range itself; for a single number, that of it alone."""
    if isinstance(value, list | tuple):
        low, high = value
        return low, high
    return value, value


def _check_range(name: str, low: float, high: float) -> None:
    """Raise :class:`InputError` unless values can be drawn from ``low`` to ``high``."""
    in_db = name.endswith("_db")
    if not -math.inf < low <= high < math.inf or (not in_db and low <= 0):
        raise InputError(f"{name}: from {low} to {high} is no range to draw from")
    if in_db and max(-low, high) > MAX_DB:
        raise InputError(f"{name}: from {low:g} to {high:g} is not within {MAX_DB} dB of 0")


def _with_others(rows: list[Row], folder: Path) -> list[Row]:
    """These rows and those of the folder's other mixtures, sorted in by condition."""
    known = {row["id"]: row for row in rows}
    for place in sorted(path.parent for path in folder.glob(f"*/{ROW}")):
        if place.name not in known and (row := _row_of(place)):
            known[place.name] = row
    conditions = list(dict.fromkeys(row["condition"] for row in known.values()))
    return sorted(known.values(), key=lambda row: conditions.index(row["condition"]))


def _row_of(place: Path) -> Row | None:
    """Row of a mixture in a set; None if the folder holds none."""
    try:
        row = json.loads((place / ROW).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    listed = isinstance(row, dict) and row.get("id") == place.name and "condition" in row
    return row if listed else None


def _build_one(
    task: tuple[str, Condition, int], *, corpora: Corpora, folder: Path, seed: int
) -> Row:
    name, kind, index = task
    item = folder / f"{name}_{index:04d}"
    recipe = {"seed": seed, "index": index, "asked": kind.describe(), "corpora": corpora.describe()}
    row_file = item / ROW
    if row_file.is_file():
        done = _row_of(item)
        before = None if done is None else done.get("recipe")
        if done is None or before != recipe:
            raise InputError(
                f"{item}: made with other settings{_differences(before, recipe)}; choose another "
                f"name or output folder"
            )
        return done
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), index])
    mixture, drawn = _draw(kind, corpora, rng)
    item.mkdir(parents=True, exist_ok=True)
    _write_parts(item, mixture, corpora.sample_rate)
    row = {
        "id": item.name,
        "condition": name,
        "sample_rate": corpora.sample_rate,
        "samples": mixture.dry.shape[-1],
        "channels": len(mixture.noise),
        **drawn,
        "recipe": recipe,
        "version": __version__,
    }
    write_text(row_file, json.dumps(row))
    return row


def _differences(before: object, now: Row) -> str:
    """Names of the settings that differ, in brackets; nothing if it is not known what they were."""
    if not isinstance(before, dict):
        return ""
    then, ours = (
        {"seed": r.get("seed"), **(r.get("asked") or {}), **(r.get("corpora") or {})}
        for r in (before, now)
    )
    names = [name for name in ours if then.get(name) != ours[name]]
    return f" ({', '.join(names)})" if names else ""


def _draw(kind: Condition, corpora: Corpora, rng: np.random.Generator) -> tuple[Mixture, Row]:
    rate = corpora.sample_rate
    samples = round(rng.uniform(*kind.seconds) * rate)
    if samples < 1:
        raise InputError("seconds: shorter than a sample")
    talkers, speech = draw_talkers(corpora, kind.speech, kind.talkers, samples, rng)
    n_places = kind.talkers + (kind.interferer_db is not None)
    responses, mics, room = _draw_room(replace(kind, talkers=n_places), corpora, samples, rng)
    snr_db = rng.uniform(*kind.snr_db) if isinstance(kind.snr_db, list | tuple) else kind.snr_db
    noise, noise_name = None, None
    if snr_db is not None:
        sources, noise_name = draw_noise(corpora, len(mics), samples, rng)
        noise = diffuse_noise(sources, mics, rate)
    mixer = mix_moving if kind.speed or kind.sway else mix
    mixture = mixer(
        speech,
        responses[: kind.talkers],
        rng,
        level_db=kind.level_db,
        snr_db=snr_db,
        noise=noise,
        sample_rate=rate,
    )
    at_first = responses.reshape(n_places, -1, responses.shape[-1])[:, 0]
    t60 = _mean_t60(at_first, rate)
    drawn: Row = {"talkers": talkers, "room": room, "measured_t60": t60, "noise": noise_name}
    drawn |= {"snr_db": snr_db, "level_db": _levels(mixture)}
    if kind.interferer_db is not None:
        mixture, beside = _interfered(mixture, responses[-1:], kind.interferer_db, corpora, rng)
        drawn |= beside
    return mixture, drawn


def _mean_t60(responses: Array, rate: int) -> float | None:
    """Mean reverberation time (s) of responses (N, taps); None where some do not decay."""
    try:
        return float(np.mean([reverberation_time(response, rate) for response in responses]))
    except InputError:
        return None


def _interfered(
    mixture: Mixture, response: Array, level_db: Range, corpora: Corpora, rng: np.random.Generator
) -> tuple[Mixture, Row]:
    """The mixture with a sound from one place, (1, channels, taps), in its noise."""
    sound, name = draw_noise(corpora, 1, mixture.dry.shape[-1], rng)
    if not sound.any():
        raise InputError("the interferer is silent")
    level = rng.uniform(*level_db)
    image = convolve(sound[:, None], response, sound.shape[-1])[0]
    image = scaled_noise(mixture.images[:1], -level, image, rng)
    drawn = {"interferer": name, "interferer_db": level}
    return replace(mixture, noise=mixture.noise + image), drawn


def _draw_room(
    kind: Condition, corpora: Corpora, samples: int, rng: np.random.Generator
) -> tuple[Array, Array, Row]:
    """Responses (talkers, channels, taps), microphone positions, and what was drawn.

    Of talkers who move there is one response for each of several places, on the second axis.
    """
    if kind.measured:
        return draw_responses(corpora, kind.talkers, kind.mics, rng)
    draw = partial(
        random_scene,
        rng,
        n_talkers=kind.talkers,
        n_mics=kind.mics,
        rt60=kind.rt60,
        aperture=kind.aperture,
        distance=kind.distance,
        array=kind.array,
    )
    seconds = samples / corpora.sample_rate
    if kind.speed:
        scene, paths = walk(draw, kind.speed * seconds)
        responses = path_responses(scene, paths, corpora.sample_rate)
    elif kind.sway:
        scene = draw()
        paths = swaying_paths(scene, kind.sway, seconds, rng)
        responses = path_responses(scene, paths, corpora.sample_rate)
    else:
        scene = draw()
        responses = room_responses(scene, corpora.sample_rate, max_order=None)
    return responses, np.array(scene.mics), asdict(scene)


def _levels(mixture: Mixture) -> list[float]:
    """Levels of the images relative to the first one's, in dB."""
    power = np.mean(mixture.images**2, axis=(1, 2))
    return [round(float(level), 3) for level in 10 * np.log10(power / power[0])]


def _write_parts(folder: Path, mixture: Mixture, rate: int) -> None:
    for part in PARTS:
        waveform = np.asarray(getattr(mixture, part), dtype=np.float32)
        audio.write(folder / f"{part}.wav", waveform.reshape(-1, waveform.shape[-1]), rate)
