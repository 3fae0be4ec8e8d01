"""What the tables share: the configuration, the entries that compete, the surroundings."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fca.errors import InputError
from fca.files import write_json, write_text
from fca.report import table as markdown
from recipes.config import load

__all__ = [
    "Entry",
    "Log",
    "describe",
    "entries",
    "markdown",
    "settings",
    "surroundings",
    "thread_environment",
    "write_json",
    "write_text",
]

CONFIG = Path(__file__).with_name("config.yaml")
QUICK = Path(__file__).with_name("quick.yaml")
PACKAGES = (
    "fca",
    "torch",
    "numpy",
    "pyroomacoustics",
    "ssspy",
    "fast_bss_eval",
    "nara_wpe",
)

Waveform = NDArray[np.floating[Any]]
Settings = dict[str, Any]

UserConfig = Annotated[Path | None, typer.Option(help="YAML of your own")]
Quick = Annotated[bool, typer.Option("--quick", help="the small version")]
Override = Annotated[list[str] | None, typer.Option("--set", help="key=value in the YAML")]
Only = Annotated[list[str] | None, typer.Option(help="only this entry; repeat for more")]


@dataclass(frozen=True)
class Entry:
    """One competitor: a method of this toolkit, or a peer's, with its options.

    Attributes
    ----------
    name : as it stands in the tables
    method : a row of :data:`fca.methods.METHODS`, or of `peers.PEERS` if `peer`
    peer : whether another toolkit runs
    options : keyword arguments of the separation
    """

    name: str
    method: str
    peer: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def separate(self, mixture: Waveform, rate: int, n_sources: int, seed: int) -> Waveform:
        """Sources (n_sources, samples) at the first channel of a mixture (channels, samples)."""
        if self.peer:
            from recipes.benchmark.peers import PEERS

            peer = PEERS[self.method]
            return peer.separate(mixture, n_sources, seed=seed, **self.options)
        from fca.separator import Separator

        separator = Separator(self.method, n_sources, seed=seed, **self.options)
        sources: Waveform = separator(mixture, rate).sources.numpy()
        return sources


def settings(section: str, config: Path | None, quick: bool, overrides: list[str]) -> Settings:
    """One section of a configuration: the full one, the quick one, or the user's own."""
    path = config or (QUICK if quick else CONFIG)
    chosen: Settings = load(path, overrides)[section]
    return chosen


def entries(config: Mapping[str, Any], only: Sequence[str] = ()) -> list[Entry]:
    """Every method of the toolkit, its configured variants, and the configured peers.

    Raises
    ------
    InputError
        If `only` names an entry that does not exist.
    """
    from fca.methods import METHODS

    left_out = config.get("leave_out", ())
    ours: dict[str, Any] = {
        name: {}
        for name, row in METHODS.items()
        if left_out != "all" and name not in left_out and not row.needs_weights
    }
    ours |= config.get("variants") or {}
    found = [
        Entry(name, options.pop("method", name), False, options)
        for name, options in ((name, dict(options or {})) for name, options in ours.items())
    ]
    peers = config.get("peers") or {}
    found += [Entry(name, name, True, options or {}) for name, options in peers.items()]
    unknown = set(only) - {entry.name for entry in found}
    if unknown:
        raise InputError(f"no entry {sorted(unknown)}; there are {[e.name for e in found]}")
    return [entry for entry in found if not only or entry.name in only]


class Log:
    """Results of a run as JSON lines, kept as they come, so that a rerun continues.

    Parameters
    ----------
    path : file to continue or to begin
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.is_file() else []
        rows = [json.loads(line) for line in lines]
        self.path = path
        self.rows: dict[str, Settings] = {self._name(row["key"]): row for row in rows}

    def find(self, key: Settings) -> Settings | None:
        """Result that was kept under a key."""
        return self.rows.get(self._name(key))

    def add(self, key: Settings, result: Settings) -> Settings:
        """Keep a result; returns it with its key."""
        row = {"key": key, **result}
        self.rows[self._name(key)] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row

    @staticmethod
    def _name(key: Settings) -> str:
        return json.dumps(key, sort_keys=True)


def thread_environment(threads: int) -> dict[str, str]:
    """Environment in which a process uses so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict(os.environ) | dict.fromkeys(names, str(threads))


def surroundings() -> dict[str, Any]:
    """Date, machine and versions that a result belongs to."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def describe(facts: Mapping[str, Any]) -> str:
    """`surroundings` as one line of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['date']}, {facts['processor']} ({facts['cores']} cores), "
        f"Python {facts['python']}; {versions}."
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "source"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
