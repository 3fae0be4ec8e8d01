"""The stages of a recipe; each goes on where it stopped, and does not repeat what is done."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from fca.blocks import MOST_TALKERS
from fca.cli.inputs import Recording
from fca.cli.manifest import shard
from fca.cli.report import Report, separation_line
from fca.cli.results import Results
from fca.cli.run import Course
from fca.errors import InputError
from fca.files import write_json, write_text
from fca.separator import Separator
from fca.simulate.stored import Item, load
from recipes import config
from recipes.corpora import scores
from recipes.corpora.recipe import STAGES, Recipe

RECIPES = Path(config.__file__).parent


def run(recipe: Recipe) -> Path:
    """Go through the stages that are asked for; returns the folder of the results."""
    write_text(recipe.place("config.yaml"), yaml.safe_dump(_plain(recipe), sort_keys=False))
    for name in recipe.chosen:
        print(f"{STAGES.index(name) + 1}/{len(STAGES)} {name}")
        _RUN[name](recipe)
    return Path(recipe.output)


def prepare(recipe: Recipe) -> None:
    """Look whether the corpus is there and, to train on it, list its speech and simulate rooms."""
    from recipes.prior import data

    recipe.corpus.check()
    if not {"prior", "encoder"} & set(recipe.chosen):
        return
    _speech(recipe)
    for bank, settings in _banks(recipe).items():
        if not bank.is_file():
            write_json(bank.with_suffix(".json"), settings)
            data.main(bank, **settings)


def index(recipe: Recipe) -> None:
    """Make the set of what is separated."""
    recipe.corpus.index(recipe.place("set"), recipe.seed, recipe.jobs)
    print(f"{len(load(recipe.place('set')))} recordings in {recipe.place('set')}")


def train_prior(recipe: Recipe) -> None:
    """Train a speech prior on the clean speech of the corpus."""
    from recipes.prior import train

    experiment = _experiment(train.Experiment, recipe, recipe.prior, "prior")
    _once(experiment, train.run)


def train_encoder(recipe: Recipe) -> None:
    """Train a denoising encoder for the recipe's prior, or for the shipped one without."""
    from recipes.denoiser import train

    prior = recipe.place("prior", "prior")
    own = {"model": {"prior": str(prior)}} if (prior / "config.json").is_file() else {}
    _once(_experiment(train.Experiment, recipe, recipe.encoder, "encoder", own), train.run)


def separate(recipe: Recipe) -> None:
    """Separate every recording of the set by every method."""
    items = {item.id: item for item in load(recipe.place("set"))}
    recordings = [_recording(item) for item in items.values()]
    if recipe.shard is not None:
        recordings = shard(recordings, recipe.shard)
    methods = recipe.fitted_methods()
    print(f"methods: {'; '.join(methods)}")
    with Report(False, len(methods) * len(recordings)) as report:
        for name, options in methods.items():
            for recording in recordings:
                item = items[recording.name]
                work = functools.partial(_separate, recipe, name, options, item, recording, report)
                report.run(recording, work, separation_line)
    if report.n_failed:
        print(f"{report.n_failed} failed")


def evaluate(recipe: Recipe) -> None:
    """Score what is separated, and write the tables."""
    print(scores.evaluate(recipe))


def _separate(
    recipe: Recipe,
    name: str,
    options: dict[str, Any],
    item: Item,
    recording: Recording,
    report: Report,
) -> dict[str, Any]:
    """Results of one method on one recording, made or found finished."""
    n_talkers = item.row["talkers"] if "files" in item.row else item.n_talkers
    chosen = {
        "n_sources": n_talkers or MOST_TALKERS,
        "reference_channel": recipe.channel,
        "seed": recipe.seed,
        **options,
    }
    course = Course(block=recipe.block, count=n_talkers is None, diarize=True)
    settings = {**chosen, "block": recipe.block, "count": course.count}
    folder = recipe.place("separated", name)
    results = Results(
        kind="separation", folder=folder, settings=settings, signals=_sources, course=course
    )
    separator = Separator(**chosen, device=recipe.device)
    return results.make(recording, separator, report.advance)


def _sources(block: Any) -> dict[str, Any]:
    return dict(zip(block.names, block.sources, strict=True))


def _recording(item: Item) -> Recording:
    files = item.row.get("files", [str(item.file("mixture"))])
    return Recording(item.id, tuple(map(Path, files)))


def _speech(recipe: Recipe) -> tuple[Path, Path]:
    """Clean speech for training and for validation."""
    speech = recipe.corpus.clean_speech(recipe.place("speech"))
    if speech is None:
        raise InputError(
            "training needs clean speech: give data.speech and data.valid_speech, or leave out "
            "the stages prior and encoder"
        )
    return speech


def _banks(recipe: Recipe) -> dict[Path, dict[str, int]]:
    """Banks of room responses for training and for validation, and what they are made with.

    Raises
    ------
    InputError
        If one that is there was made with something else.
    """
    rooms = {"rooms.npz": recipe.rooms, "rooms-valid.npz": max(1, recipe.rooms // 10)}
    banks = {
        recipe.place(name): {"rooms": count, "seed": recipe.seed + number}
        for number, (name, count) in enumerate(rooms.items(), start=1)
    }
    for bank, settings in banks.items():
        _refuse_others(bank, bank.with_suffix(".json"), settings)
    return banks


def _experiment(
    kind: type[Any], recipe: Recipe, given: Any, name: str, more: dict[str, Any] | None = None
) -> Any:
    """A training on the clean speech of the corpus."""
    train, valid = map(str, _speech(recipe))
    changed = dict(given)
    settings = config.load(RECIPES / changed.pop("config"))
    rooms, valid_rooms = map(str, _banks(recipe))
    data = {"train": train, "valid": valid, "rooms": rooms, "valid_rooms": valid_rooms}
    own = {"data": data, "output": str(recipe.place(name)), "seed": recipe.seed}
    for values in (changed, own, more or {}):
        settings = config.merge(settings, values)
    return config.build(kind, settings, f"{name}.")


def _once(experiment: Any, train: Callable[[Any], Path]) -> None:
    """Train to the end, unless that is done.

    Raises
    ------
    InputError
        If it was begun with other settings.
    """
    settings = json.loads(json.dumps(asdict(experiment)))
    folder = Path(experiment.output)
    begun, done = folder / "begun.json", folder / "done.json"
    _refuse_others(folder, begun, settings)
    if done.is_file():
        print(f"{folder}: finished earlier")
        return
    write_json(begun, settings)
    train(experiment)
    write_json(done, settings)


def _refuse_others(made: Path, record: Path, settings: dict[str, Any]) -> None:
    """Refuse what is there, unless the record beside it says that it was made with the settings."""
    known = json.loads(record.read_text("utf-8")) if record.is_file() else None
    if made.exists() and known != settings:
        raise InputError(f"{made}: made with other settings; remove it, or choose another output")


def _plain(recipe: Recipe) -> dict[str, Any]:
    """Settings as YAML holds them, with which the recipe can be run again."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


_RUN: dict[str, Callable[[Recipe], None]] = dict(
    zip(STAGES, (prepare, index, train_prior, train_encoder, separate, evaluate), strict=True)
)
