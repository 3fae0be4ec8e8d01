"""Experiments as YAML files that inherit: `base: other.yaml` is read first, then overridden.

A setting that is `???` in a file has to be given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from fca.errors import InputError
from fca.files import read_text

T = TypeVar("T")

NEEDED = "???"
KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
    tuple: "a list",
    Sequence: "a list",
    Mapping: "a group of settings",
    dict: "a group of settings",
}
"""What types of settings are called."""


def load(path: str | Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """Settings of an experiment, with `a.b=value` overrides; values are YAML."""
    settings = _read(Path(path))
    for override in overrides or []:
        key, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"{override!r} is not an override: write key=value")
        nested: Any = _parse(value, override)
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
    if not isinstance(values, dict):
        raise InputError(f"{where.rstrip('.')} is a group of settings, not {values!r}")
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known, key=str)
    if unknown:
        raise InputError(f"unknown setting {where}{unknown[0]}; there are {sorted(known)}")
    types = get_type_hints(kind)
    arguments = {
        name: build(types[name], value, f"{where}{name}.")
        if is_dataclass(types[name])
        else _checked(types[name], value, f"{where}{name}")
        for name, value in values.items()
    }
    try:
        return kind(**arguments)
    except TypeError as error:
        raise InputError(f"settings {where or 'of the experiment'}: {error}") from None


def _checked(kind: Any, value: Any, name: str) -> Any:
    """The value, or the number that it stands for; an error if the setting cannot have it."""
    if value == NEEDED:
        raise InputError(f"{name} is needed: give {name}=...")
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    value = _number(kinds, value)
    for possible in kinds:
        if get_origin(possible) is tuple and isinstance(value, list | tuple):
            return _checked_list(get_args(possible), value, name)
        if _fits(possible, value):
            return value
    wanted = " or ".join(KINDS[get_origin(k) or k] for k in kinds)
    raise InputError(f"{name} is {wanted}, not {value!r}")


def _checked_list(kinds: Sequence[Any], values: Sequence[Any], name: str) -> list[Any]:
    """The same for a list with an entry of each kind, or with any number of the first."""
    if kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(values)
    if len(kinds) != len(values):
        raise InputError(f"{name} is a list of {len(kinds)}, not {list(values)}")
    each = enumerate(zip(kinds, values, strict=True))
    return [_checked(kind, value, f"{name}[{k}]") for k, (kind, value) in each]


def _number(kinds: Sequence[Any], value: Any) -> Any:
    """The value, as a number where one is wanted: YAML takes 1e-4, without a point, for text."""
    if isinstance(value, str) and str not in kinds and {int, float} & set(kinds):
        try:
            value = float(value)
        except ValueError:
            return value
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole and int in kinds and float not in kinds else value


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a kind; those that have no name in :data:`KINDS` take any."""
    plain = get_origin(kind) or kind
    if plain not in KINDS:
        return True
    if isinstance(value, bool | str):  # which are integers and sequences, too
        return type(value) is plain
    return isinstance(value, int | float if plain is float else plain)


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
    settings = _parse(read_text(path), str(path)) or {}
    if not isinstance(settings, dict):
        raise InputError(f"{path}: an experiment is a mapping of settings")
    base = settings.pop("base", None)
    return settings if base is None else merge(_read(path.parent / str(base)), settings)


def _parse(text: str, name: str) -> Any:
    """What YAML of a file or an override holds."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{name}: {' '.join(str(error).split())}") from None
