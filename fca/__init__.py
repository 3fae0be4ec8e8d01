"""Unsupervised multichannel source separation.

>>> import fca
>>> result = fca.separate("meeting.wav", n_sources=2)  # doctest: +SKIP

Every method is a spatial model, a source model and an inference; :data:`fca.methods.METHODS` is the
table. Submodules are loaded when they are first used, so that importing the package costs almost
nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fca.enhancer import Enhancement, Enhancer, enhance
    from fca.errors import InputError
    from fca.methods import METHODS, Method
    from fca.module import SeparatorModule
    from fca.separation import Separation
    from fca.separator import Separator, separate
    from fca.streaming import OnlineSeparator

_HOME = {
    "Enhancement": "fca.enhancer",
    "Enhancer": "fca.enhancer",
    "InputError": "fca.errors",
    "METHODS": "fca.methods",
    "Method": "fca.methods",
    "OnlineSeparator": "fca.streaming",
    "Separation": "fca.separation",
    "Separator": "fca.separator",
    "SeparatorModule": "fca.module",
    "enhance": "fca.enhancer",
    "separate": "fca.separator",
}
__all__ = [
    "METHODS",
    "Enhancement",
    "Enhancer",
    "InputError",
    "Method",
    "OnlineSeparator",
    "Separation",
    "Separator",
    "SeparatorModule",
    "enhance",
    "separate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fca' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
