"""Packages that are installed with an extra, imported where they are needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from fca.errors import InputError


def require(module: str, extra: str, need: str) -> ModuleType:
    """The module; without it, an :class:`~fca.errors.InputError` that begins with what needs it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"{need} the extra '{extra}' ({error})") from None
