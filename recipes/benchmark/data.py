"""Build an evaluation set from a folder of speech, and load it again.

A set is a folder with one sub-folder per mixture (float WAV) and `manifest.jsonl`, one JSON object
a line, holding all that was drawn. Building is seeded per mixture, so it can run in parallel, stop
and resume.

    python -m recipes.benchmark.data test --speech DIR --noise DIR --measured FILE.npz -o OUT
"""

from __future__ import annotations

import json
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fca import audio
from fca.errors import InputError
from fca.simulate import (
    Mixture,
    Scene,
    diffuse_noise,
    mix,
    random_scene,
    reverberation_time,
    room_responses,
)
from recipes import config

SETS = Path(__file__).with_name("sets.yaml")
PARTS = ("mixture", "images", "early", "dry")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """One kind of mixture.

    Attributes
    ----------
    count : number of mixtures
    talkers, mics : how many
    rt60, seconds : ranges to draw from
    snr_db : talkers together to diffuse noise; None for none
    speech : folders below `--speech` that hold one folder per speaker
    measured : use the measured responses instead of simulated rooms
    """

    count: int
    talkers: int = 2
    mics: int = 4
    rt60: tuple[float, float] = (0.2, 0.6)
    seconds: tuple[float, float] = (6, 10)
    snr_db: float | None = 30
    speech: tuple[str, ...] = (".",)
    measured: bool = False


@dataclass(frozen=True)
class Corpora:
    """Folders and files that the user brings; `measured` is described at `measured_responses`."""

    speech: Path
    noise: Path | None = None
    measured: Path | None = None
    sample_rate: int = 16000


@dataclass(frozen=True)
class Item:
    """One mixture of a set; its waveforms are read when asked for.

    The parts are `mixture` (channels, samples), `images` and `early` (talkers, channels, samples)
    and `dry` (talkers, samples).
    """

    folder: Path
    row: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """Name that is unique within the set."""
        return str(self.row["id"])

    @property
    def condition(self) -> str:
        """Name of the kind of mixture."""
        return str(self.row["condition"])

    @property
    def n_talkers(self) -> int:
        """Number of talkers."""
        return len(self.row["talkers"])

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return int(self.row["sample_rate"])

    def read(self, part: str) -> NDArray[np.float32]:
        """Read one of `PARTS`."""
        waveform = audio.read(self.folder / f"{part}.wav")[0]
        if part in ("images", "early"):
            return waveform.reshape(self.n_talkers, -1, waveform.shape[-1])
        return waveform

    def references(self, channel: int = 0) -> NDArray[np.float32]:
        """Reverberant images (talkers, samples) at one channel, the default reference."""
        return self.read("images")[:, channel]


def load(folder: str | Path) -> list[Item]:
    """All mixtures of a set in the manifest's order."""
    manifest = Path(folder) / "manifest.jsonl"
    if not manifest.is_file():
        raise InputError(f"{manifest}: no such file; build the set with recipes.benchmark.data")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    return [Item(Path(folder) / row["id"], row) for row in rows]


def conditions(name: str, path: Path = SETS) -> dict[str, Condition]:
    """Conditions of a set of the configuration, with its defaults filled in."""
    sets = config.load(path)
    defaults = sets.pop("defaults", {})
    if name not in sets:
        raise InputError(f"{path}: no set {name!r}; there are {sorted(sets)}")
    return {
        key: config.build(Condition, defaults | values, f"{name}.{key}.")
        for key, values in sets[name].items()
    }


def build(
    kinds: dict[str, Condition], corpora: Corpora, folder: Path, *, seed: int = 0, jobs: int = 1
) -> list[Item]:
    """Write every mixture that is not there yet, then the manifest."""
    if corpora.measured is None and any(kind.measured for kind in kinds.values()):
        raise InputError("a condition asks for measured responses: give --measured FILE.npz")
    tasks = [(name, kind, k) for name, kind in kinds.items() for k in range(kind.count)]
    make = partial(_build_one, corpora=corpora, folder=folder, seed=seed)
    if jobs == 1:
        rows = [make(task) for task in tasks]
    else:
        with ProcessPoolExecutor(jobs) as pool:
            rows = list(pool.map(make, tasks))
    _write_text(folder / "manifest.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return load(folder)


def measured_responses(path: Path, sample_rate: int) -> tuple[Array, Array]:
    """Responses (directions, channels, taps) and azimuths (degrees) of an .npz file.

    It holds `rir`, `azimuth_deg` and `sample_rate`.
    """
    with np.load(path, allow_pickle=False) as file:
        responses = np.asarray(file["rir"], dtype=np.float32)
        azimuths = np.asarray(file["azimuth_deg"], dtype=float)
        rate = int(file["sample_rate"])
    return audio.resample(responses, rate, sample_rate).astype(float), azimuths


def _build_one(
    task: tuple[str, Condition, int], *, corpora: Corpora, folder: Path, seed: int
) -> dict[str, Any]:
    name, kind, index = task
    item = folder / f"{name}_{index:04d}"
    asked = {key: value for key, value in asdict(kind).items() if key != "count"}
    recipe = {"seed": seed, "index": index, "asked": json.loads(json.dumps(asked))}
    row_file = item / "row.json"
    if row_file.is_file():
        done: dict[str, Any] = json.loads(row_file.read_text())
        if done["recipe"] != recipe:
            raise InputError(f"{item}: made with other settings; choose another output folder")
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
    }
    _write_text(row_file, json.dumps(row))
    return row


def _draw(
    kind: Condition, corpora: Corpora, rng: np.random.Generator
) -> tuple[Mixture, dict[str, Any]]:
    rate = corpora.sample_rate
    samples = round(rng.uniform(*kind.seconds) * rate)
    talkers, speech = _draw_talkers(kind, corpora, samples, rng)
    responses, mics, room = _draw_room(kind, corpora, rng)
    noise, noise_name = None, None
    if kind.snr_db is not None:
        sources, noise_name = _draw_noise(corpora, len(mics), samples, rng)
        noise = diffuse_noise(sources, mics, rate)
    mixture = mix(speech, responses, rng, snr_db=kind.snr_db, noise=noise, sample_rate=rate)
    t60 = float(np.mean([reverberation_time(r, rate) for r in responses[:, 0]]))
    drawn = {"talkers": talkers, "room": room, "measured_t60": t60, "noise": noise_name}
    return mixture, drawn | {"snr_db": kind.snr_db}


def _draw_room(
    kind: Condition, corpora: Corpora, rng: np.random.Generator
) -> tuple[Array, Array, dict[str, Any]]:
    """Responses (talkers, channels, taps), microphone positions, and what was drawn."""
    if not kind.measured:
        scene = random_scene(rng, n_talkers=kind.talkers, n_mics=kind.mics, rt60=kind.rt60)
        return _simulated(scene, corpora.sample_rate), np.array(scene.mics), asdict(scene)
    assert corpora.measured is not None
    responses, azimuths = measured_responses(corpora.measured, corpora.sample_rate)
    chosen = _draw_apart(azimuths, kind.talkers, rng)
    ears = np.array([[0.0, 0.09, 0.0], [0.0, -0.09, 0.0]])  # of a head, for the noise's coherence
    room = {"responses": corpora.measured.name, "azimuth_deg": azimuths[chosen].tolist()}
    return responses[chosen], ears, room


def _simulated(scene: Scene, rate: int) -> Array:
    return room_responses(scene, rate, max_order=None)


def _draw_apart(
    azimuths: Array, n: int, rng: np.random.Generator, least: float = 20
) -> NDArray[np.int64]:
    """Indices of `n` azimuths that differ by at least `least` degrees."""
    for _ in range(1000):
        chosen = rng.choice(len(azimuths), n, replace=False)
        gaps = np.abs((azimuths[chosen, None] - azimuths[chosen] + 180) % 360 - 180)
        if gaps[~np.eye(n, dtype=bool)].min(initial=360) >= least:
            return chosen
    raise InputError(f"{n} talkers do not fit {least} degrees apart into the measured directions")


def _speakers(kind: Condition, corpora: Corpora) -> dict[str, list[Path]]:
    """Speaker -> audio files; a speaker is a folder of one of the condition's speech folders."""
    found: dict[str, list[Path]] = {}
    for part in kind.speech:
        for folder in sorted(p for p in (corpora.speech / part).glob("*") if p.is_dir()):
            files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in audio.SUFFIXES)
            if files:
                found[f"{part}/{folder.name}"] = files
    if len(found) < kind.talkers:
        raise InputError(
            f"{corpora.speech}: {len(found)} speaker folders in {list(kind.speech)}, "
            f"{kind.talkers} needed"
        )
    return found


def _draw_talkers(
    kind: Condition, corpora: Corpora, samples: int, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], list[Array]]:
    speakers = _speakers(kind, corpora)
    names = rng.choice(sorted(speakers), kind.talkers, replace=False)
    rows, signals = [], []
    for name in names:
        files, signal = _draw_speech(speakers[name], corpora.sample_rate, samples, rng)
        start = int(rng.integers(0, len(signal) - samples + 1))
        shown = [str(file.relative_to(corpora.speech)) for file in files]
        rows.append({"speaker": str(name), "files": shown, "start": start})
        signals.append(signal[start : start + samples])
    return rows, signals


def _draw_speech(
    files: list[Path], rate: int, samples: int, rng: np.random.Generator
) -> tuple[list[Path], Array]:
    """Utterances of one speaker in random order, joined until they are long enough."""
    used: list[Path] = []
    signal = np.zeros(0)
    while len(signal) < samples:
        if len(used) % len(files) == 0:
            order = rng.permutation(len(files))
        used.append(files[order[len(used) % len(files)]])
        signal = np.concatenate([signal, _read_mono(used[-1], rate)])
    return used, signal


def _draw_noise(
    corpora: Corpora, channels: int, samples: int, rng: np.random.Generator
) -> tuple[Array, str]:
    """Independent excerpts (channels, samples) of one recording; white without recordings."""
    if corpora.noise is None:
        return rng.standard_normal((channels, samples)), "white"
    files = sorted(p for p in corpora.noise.rglob("*") if p.suffix.lower() in audio.SUFFIXES)
    if not files:
        raise InputError(f"{corpora.noise}: no audio files")
    file = files[rng.integers(len(files))]
    signal = _read_mono(file, corpora.sample_rate)
    signal = np.tile(signal, -(-samples // len(signal)) + 1)
    # equally spaced from a random place on: excerpts overlap as little as the recording allows
    starts = rng.integers(len(signal)) + np.arange(channels) * (len(signal) // channels)
    excerpts = np.stack([np.take(signal, s + np.arange(samples), mode="wrap") for s in starts])
    return excerpts, file.name


def _read_mono(path: Path, rate: int) -> Array:
    waveform, file_rate = audio.read(path)
    return np.asarray(audio.resample(waveform, file_rate, rate)[0], dtype=float)


def _write_parts(folder: Path, mixture: Mixture, rate: int) -> None:
    for part in PARTS:
        waveform = np.asarray(getattr(mixture, part), dtype=np.float32)
        audio.write(folder / f"{part}.wav", waveform.reshape(-1, waveform.shape[-1]), rate)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def main(
    name: Annotated[str, typer.Argument(help="a set of the configuration")],
    speech: Annotated[Path, typer.Option(help="folder of speech, one folder per speaker")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    noise: Annotated[Path | None, typer.Option(help="folder of noise; else white")] = None,
    measured: Annotated[Path | None, typer.Option(help="measured responses, .npz")] = None,
    sets: Annotated[Path, typer.Option(help="YAML with the sets")] = SETS,
    seed: int = 0,
    jobs: int = 1,
    sample_rate: int = 16000,
) -> None:
    """Build an evaluation set."""
    try:
        corpora = Corpora(speech, noise, measured, sample_rate)
        items = build(conditions(name, sets), corpora, output, seed=seed, jobs=jobs)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{len(items)} mixtures in {output}")


if __name__ == "__main__":
    typer.run(main)
