"""One entry on one mixture: the time it takes and how well it comes out, whatever happens."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fca.errors import InputError
from fca.evaluation.metrics import evaluate
from fca.simulate.stored import Item
from recipes.benchmark.common import Entry, Settings

Array = NDArray[np.floating[Any]]

METRICS = {"sdr": "SDRi", "sir": "SIRi", "si_sdr": "SI-SDRi"}
LOW_CUT_HZ = 80.0
"""A usual low cut of recorders. Below is no speech, but at times loud rumble that came with it,
which an array can hardly tell from that of another talker."""
LOW_CUT = "sdr_low_cut"
"""SDR improvement of what is above."""
REFERENCES = {"images": "reverberant images", "early": "early images (50 ms)"}
WARM_UP_SECONDS = 1.0

_warm: set[str] = set()


@dataclass(frozen=True)
class Terms:
    """What holds for all entries.

    Attributes
    ----------
    seed : of all random numbers
    reference : a key of `REFERENCES`, the part of an item that talkers are compared with
    timeout : seconds after which an entry has lost a mixture
    """

    seed: int = 0
    reference: str = "images"
    timeout: float = 900

    def __post_init__(self) -> None:
        if self.reference not in REFERENCES:
            raise InputError(f"no reference {self.reference!r}; there are {list(REFERENCES)}")


def score(entry: Entry, item: Item, terms: Terms) -> Settings:
    """Separate one mixture and score it against the reference at channel 0.

    A source that came out NaN or infinite counts as silent. An entry that raises or takes too long
    has lost the mixture: every score is minus infinity, with the reason.
    """
    warm_up(entry, item, terms)
    began = time.perf_counter()
    try:
        with time_limit(terms.timeout):
            estimates = entry.separate_item(item, terms.seed)
    except Exception as error:  # a table must not depend on the weakest of thirty competitors
        return lost(entry, item, f"{type(error).__name__}: {error}")
    seconds = time.perf_counter() - began
    finite = np.isfinite(estimates).all(axis=-1, keepdims=True)
    return {
        "entry": entry.name,
        "condition": item.condition,
        "duration": estimates.shape[-1] / item.sample_rate,
        "seconds": None if entry.kind == "ceiling" else seconds,
        "improvement": improvement(item, np.where(finite, estimates, 0), terms.reference),
    }


def improvement(item: Item, estimates: Array, reference: str) -> dict[str, list[float]]:
    """What each talker gains by every metric, and by the SDR above the low cut."""
    rate = item.sample_rate
    signals = item.read(reference)[:, 0], estimates, item.read("mixture")[0]
    heard, found, mixture = (low_cut(signal, rate) for signal in signals)
    whole = evaluate(*signals[:2], rate, mixture=signals[2], metrics=list(METRICS))
    above = evaluate(heard, found, rate, mixture=mixture, metrics=["sdr"])
    gains = whole.improvement | {LOW_CUT: above.improvement["sdr"]}
    return {name: values.tolist() for name, values in gains.items()}


def low_cut(waves: Array, sample_rate: int) -> Array:
    """Waveforms (..., samples) without what is below :data:`LOW_CUT_HZ`."""
    samples = waves.shape[-1]
    spectrum = np.fft.rfft(waves)
    spectrum[..., np.fft.rfftfreq(samples, 1 / sample_rate) < LOW_CUT_HZ] = 0
    filtered: Array = np.fft.irfft(spectrum, samples)
    return filtered


def lost(entry: Entry, item: Item, reason: str) -> Settings:
    """Result of an entry that broke off."""
    return {
        "entry": entry.name,
        "condition": item.condition,
        "duration": item.row["samples"] / item.sample_rate,
        "seconds": None,
        "improvement": dict.fromkeys([*METRICS, LOW_CUT], [float("-inf")] * item.n_talkers),
        "error": " ".join(reason.split())[:200],
    }


def warm_up(entry: Entry, item: Item, terms: Terms) -> None:
    """Let an entry import and plan what it needs, once per process, before time is taken.

    No shorter limit than that of a mixture: an import that is broken off cannot be made again.
    """
    if entry.kind == "ceiling" or entry.name in _warm:
        return
    _warm.add(entry.name)
    beginning = item.read("mixture")[:, : round(WARM_UP_SECONDS * item.sample_rate)]
    with suppress(Exception), time_limit(terms.timeout):
        entry.separate(beginning, item.sample_rate, item.n_talkers, terms.seed)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the block after so many seconds; only between Python instructions."""

    def stop(number: int, frame: FrameType | None) -> Any:
        raise TimeoutError(f"longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
