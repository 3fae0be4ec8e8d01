"""Every YAML file of the recipes is one that its recipe can read in full.

Those that train take a step in the tests of their recipes, which run over whole folders.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from fca import pretrained
from fca.methods import METHODS
from recipes import config
from recipes.benchmark import common, data
from recipes.benchmark.ceilings import CEILINGS
from recipes.benchmark.scoring import Terms
from recipes.benchmark.speed import matches

RECIPES = Path(config.__file__).parent
PATHS = sorted(RECIPES.rglob("*.yaml"))
USERS = ["data.train=x", "data.valid=x", "output=x"]
"""What experiments leave to the user."""


def check_sets(path: Path) -> None:
    for name in set(config.load(path)) - {"defaults"}:
        kinds = data.conditions(name, path)
        assert all(kind.count > 0 for kind in kinds.values())


def check_tables(path: Path) -> None:
    pytest.importorskip("ssspy")
    from recipes.benchmark.peers import PEERS

    known = {"method": METHODS, "peer": PEERS, "ceiling": CEILINGS}
    content = config.load(path)
    assert set(content) <= {"quality", "speed"}
    for section in content.values():
        for entry in common.entries(section):
            if entry.kind == "network":
                assert (RECIPES.parent / entry.options["folder"] / pretrained.CONFIG).is_file()
            else:
                assert entry.method in known[entry.kind], entry
            if entry.kind == "method":
                check_method(entry)
    quality = content["quality"]
    Terms(reference=quality.get("reference", "images"), timeout=quality.get("timeout", 900))
    assert "speed" not in content or matches(content["speed"], [])


def check_method(entry: common.Entry) -> None:
    from fca.separator import Separator

    Separator(entry.method, 2, **entry.options)


def check_experiment(path: Path) -> None:
    pytest.importorskip("lightning")
    trainer = importlib.import_module(f"recipes.{path.relative_to(RECIPES).parts[0]}.train")
    asked = [name for name, value in config.load(path).items() if value == config.NEEDED]
    given = USERS + [f"{name}=x" for name in asked]
    experiment = config.build(trainer.Experiment, config.load(path, given))
    assert experiment.training.steps > 0


def check_recipe(path: Path) -> None:
    pytest.importorskip("lightning")
    from recipes.corpora.recipe import Recipe

    if path.stem == "base":
        return
    given = ["data.corpus=x", "output=x"] + ["data.rttms=x"] * (path.stem == "ami")
    recipe = config.build(Recipe, config.load(path, given))
    assert recipe.yardstick in recipe.methods
    for name, options in recipe.fitted_methods().items():
        method = options.pop("method")
        check_method(common.Entry(name, method, options=options))
    for training in (recipe.prior, recipe.encoder):
        assert (RECIPES / training["config"]).is_file()


def checker(path: Path) -> Callable[[Path], None]:
    """How a file is checked; a new kind of file needs a new line here."""
    if path.relative_to(RECIPES).parts[0] == "corpora":
        return check_recipe
    if "configs" in path.parts:
        return check_experiment
    if path.name == "sets.yaml":
        return check_sets
    return check_tables


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_file_is_read_in_full(path: Path) -> None:
    checker(path)(path)


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "sets.yaml").write_text("small: {two: {count: 1, reverberation: [0, 1]}}")
    with pytest.raises(ValueError, match=r"unknown setting small\.two\.reverberation"):
        data.conditions("small", tmp_path / "sets.yaml")
