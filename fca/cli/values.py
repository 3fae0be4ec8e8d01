"""Options NAME=VALUE of the command line.

Each value is read as the type that the function or class which takes the option declares for it.
"""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from fca.errors import InputError

Types = dict[str, Any]
"""Type annotations of the options that can be given, by name."""

_LARGEST = 2**32 - 1
_MODELS = ("weights", "prior", "denoiser")


def separator_types(given: Mapping[str, Any]) -> Types:
    """Types of the options of :class:`fca.Separator`, given those that were chosen."""
    from fca.methods import DEFAULT_METHOD, get_method
    from fca.separator import Separator

    row = get_method(given.get("method", DEFAULT_METHOD))
    return _types(given.get("source", row.source), Separator)


def enhancer_types(given: Mapping[str, Any]) -> Types:
    """Types of the options of :class:`fca.Enhancer`; what its prior decides is not taken."""
    from fca.enhancer import DEFAULT_INFERENCE, Enhancer, get_inference
    from fca.separator import Separator

    row = get_inference(given.get("inference", DEFAULT_INFERENCE))
    known = _types(given.get("source", row.source), Separator, Enhancer)
    return known | dict.fromkeys(("method", "n_sources", "n_fft", "hop"), object)


def online_types(given: Mapping[str, Any]) -> Types:
    """Types of the options of :class:`fca.streaming.OnlineSeparator`, whose sources are NMF."""
    from fca.streaming import OnlineSeparator

    return {**_types("sliding nmf", OnlineSeparator), "source": object}


def read_value(name: str, text: str, kind: Any) -> Any:
    """The value that a text stands for.

    Parameters
    ----------
    name : str
        Name of the option.
    text : str
        What the user wrote.
    kind : type
        Type annotation: int, float, bool or str, each with or without None. Whole numbers are
        counts and seeds, and so they cannot be negative.

    Raises
    ------
    InputError
        If the text does not fit the type, or the option is of another type.
    """
    kinds = typing.get_args(kind) or (kind,)
    if NoneType in kinds and text.lower() in ("null", "none"):
        return None
    if str in kinds:
        return _model(name, text) if name in _MODELS else text
    for wanted, (read, expected) in _READERS.items():
        if wanted in kinds:
            return _read(name, text, read, expected)
    raise InputError(f"{name}: cannot be chosen")


def _read(name: str, text: str, read: Callable[[str], Any], expected: str) -> Any:
    try:
        return read(text)
    except OverflowError:
        raise InputError(
            f"{name}: {expected} from 0 to {_LARGEST} is expected, got {text!r}"
        ) from None
    except ValueError:
        raise InputError(f"{name}: {expected} is expected, got {text!r}") from None


def _whole(text: str) -> int:
    if not re.fullmatch("[+-]?[0-9]+", text):
        raise ValueError(text)
    if not re.fullmatch("[+]?0*[0-9]{1,10}", text) or int(text) > _LARGEST:
        raise OverflowError(text)
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_READERS: dict[type, tuple[Callable[[str], Any], str]] = {
    bool: (_truth, "true or false"),
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
}


def _model(name: str, text: str) -> str:
    """Name of a model; a path to a folder must exist, as it is not looked up on the hub."""
    if re.match(r"/|~|\.\.?/", text) and not Path(text).is_dir():
        raise InputError(f"{name}: no such folder: {text}")
    return text


def check_models(flags: Mapping[str, Any]) -> None:
    """Refuse paths of models that do not exist.

    Raises
    ------
    InputError
        If a folder does not exist.
    """
    for name in _MODELS:
        _model(name, flags.get(name) or "")


def _types(source: str, *takers: Callable[..., Any]) -> Types:
    """Types of a method's fields, its source model's arguments, and the takers' own arguments."""
    from fca.building import SOURCES
    from fca.method import Method
    from fca.mixing import Mixing

    known = {**typing.get_type_hints(Mixing), **typing.get_type_hints(Method)}
    models = [SOURCES[source]] if source in SOURCES else []
    for taker in (*models, *takers):
        known |= _arguments(taker)
    known.pop("device", None)  # an option of the command; results do not depend on it
    known["self"] = object  # no option, but Python would take it for the separator
    return known


def _arguments(taker: Callable[..., Any]) -> Types:
    from fca.arguments import named

    function = taker.__init__ if inspect.isclass(taker) else taker
    hints = typing.get_type_hints(function)
    return {name: hints[name] for name in named(taker) if name in hints}
