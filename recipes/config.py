"""Experiments as YAML files that inherit: `base: other.yaml` is read first, then overridden."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from fca.errors import InputError
from fca.files import read_text

T = TypeVar("T")


def load(path: str | Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """Settings of an experiment, with `a.b=value` overrides; values are YAML."""
    settings = _read(Path(path))
    for override in overrides or []:
        key, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"{override!r} is not an override: write key=value")
        nested: Any = yaml.safe_load(value)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        settings = merge(settings, nested)
    return settings


def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Settings with others in their place, mapping by mapping."""
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(old.get(key), dict)
        merged[key] = merge(old[key], value) if both else value
    return merged


def build(kind: type[T], values: dict[str, Any], where: str = "") -> T:
    """Dataclass from nested settings; a key it does not have is an error that names it."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"unknown setting {where}{unknown[0]}; there are {sorted(known)}")
    types = get_type_hints(kind)
    arguments = {
        name: build(types[name], value, f"{where}{name}.")
        if is_dataclass(types[name])
        else _number(types[name], value, f"{where}{name}")
        for name, value in values.items()
    }
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InputError(f"settings {where or 'of the experiment'}: {error}") from None


def _number(kind: Any, value: Any, name: str) -> Any:
    """The value, or the number that it stands for: YAML takes 1e-4, without a point, for text."""
    kinds = get_args(kind) or (kind,)
    if not isinstance(value, str) or float not in kinds or str in kinds:
        return value
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{name} is a number, not {value!r}") from None


def command(
    kind: type[T], run: Callable[[T], Path], arguments: list[str], usage: str | None
) -> int:
    """Run the experiment of a command line, a YAML file and overrides; returns the exit status."""
    if not arguments or "--help" in arguments:
        print(usage)
        return 0 if arguments else 2
    try:
        print(f"exported {run(build(kind, load(arguments[0], arguments[1:])))}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path)
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{path}: an experiment is a mapping of settings")
    base = settings.pop("base", None)
    return settings if base is None else merge(_read(path.parent / base), settings)
