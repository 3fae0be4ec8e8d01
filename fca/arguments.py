"""Arguments of source models: which there are, and networks in the place of their names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fca.building import SOURCES
from fca.neural.denoiser import Denoiser
from fca.pretrained import Pretrained, names
from fca.prior import SpeechPrior
from fca.source.neural import load_weights

READERS: dict[str, Callable[[str], Pretrained]] = {
    "denoiser": Denoiser.from_pretrained,
    "prior": SpeechPrior.from_pretrained,
}
"""What reads the networks that source models take by these names."""
NETWORKS = frozenset(("weights", *READERS))
"""Arguments of source models that are networks."""


def parameters(source: str) -> Mapping[str, inspect.Parameter]:
    """Arguments that a source model takes."""
    return inspect.signature(SOURCES[source]).parameters


def named(taker: Callable[..., Any]) -> list[str]:
    """Arguments that a function or class takes by their names."""
    return [
        name
        for name, parameter in inspect.signature(taker).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]


def read_networks(source: str, options: dict[str, Any]) -> int | None:
    """Replace the names of networks by the networks, so that they are read once for all recordings.

    Returns the STFT window that they are made for, None if there are no networks.
    """
    known = parameters(source)
    if "weights" in known:
        options["weights"] = load_weights(options.get("weights"))
        return int(options["weights"].config.n_fft)
    for kind, read in READERS.items():
        if kind in known and options.get("denoiser") is None:
            options.setdefault(kind, known[kind].default)
        name = options.get(kind)
        if isinstance(name, str):
            options[kind] = _shipped(kind, name) if name in names() else read(name)
    denoiser = options.get("denoiser")
    prior = options.get("prior") if denoiser is None else denoiser.prior
    return None if prior is None else int(prior.config.n_fft)


@functools.cache
def _shipped(kind: str, name: str) -> Pretrained:
    """A network that ships with the toolkit. Nothing changes it, so that one serves all methods."""
    return READERS[kind](name)
