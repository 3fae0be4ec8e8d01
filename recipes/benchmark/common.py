"""What the tables share: the configuration, the entries that compete, the surroundings."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fca.errors import InputError
from fca.evaluation.report import table as markdown
from fca.evaluation.scores import finite_json
from fca.files import write_json, write_text
from fca.simulate.stored import Item
from recipes.config import load

if TYPE_CHECKING:
    from fca.neural import NeuralFCA

__all__ = [
    "Entry",
    "Log",
    "code_version",
    "describe",
    "entries",
    "markdown",
    "settings",
    "surroundings",
    "thread_environment",
    "write_json",
    "write_text",
]

ROOT = Path(__file__).parents[2]
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
    "asteroid",
)

Waveform = NDArray[np.floating[Any]]
Settings = dict[str, Any]

UserConfig = Annotated[Path | None, typer.Option(help="YAML of your own")]
Quick = Annotated[bool, typer.Option("--quick", help="the small version")]
Override = Annotated[list[str] | None, typer.Option("--set", help="key=value in the YAML")]
Only = Annotated[list[str] | None, typer.Option(help="only this entry; repeat for more")]


KINDS = ("method", "peer", "ceiling", "network")


@dataclass(frozen=True)
class Entry:
    """One competitor with its options.

    Attributes
    ----------
    name : as it stands in the tables
    method : a row of :data:`fca.methods.METHODS`, of `peers.PEERS` or of `ceilings.CEILINGS`
    kind : "method" of this toolkit, "peer" of another, "ceiling" that knows the talkers, or
        "network" that was trained with them
    options : keyword arguments of the separation
    """

    name: str
    method: str
    kind: str = "method"
    options: Mapping[str, Any] = field(default_factory=dict)

    def separate(self, mixture: Waveform, rate: int, n_sources: int, seed: int) -> Waveform:
        """Sources (n_sources, samples) at the first channel of a mixture (channels, samples)."""
        if self.kind == "peer":
            from recipes.benchmark.peers import PEERS

            peer = PEERS[self.method]
            return peer.separate(mixture, n_sources, seed=seed, **self.options)
        if self.kind == "network":
            from recipes.supervised import model

            assert self.folder is not None
            return model.separate(mixture, rate, n_sources, folder=self.folder)
        from fca.separator import Separator

        options = dict(self.options)
        if self.folder is not None:
            options["weights"] = _neural_fca(self.folder)
        separator = Separator(self.method, n_sources, seed=seed, **options)
        sources: Waveform = separator(mixture, rate).sources.numpy()
        return sources

    def separate_item(self, item: Item, seed: int) -> Waveform:
        """Sources of a mixture of a set, whose talkers ceilings may look at."""
        if self.kind == "ceiling":
            from recipes.benchmark.ceilings import CEILINGS

            return CEILINGS[self.method](item, **self.options)
        return self.separate(item.read("mixture"), item.sample_rate, item.n_talkers, seed)

    def fits(self, item: Item) -> bool:
        """Whether the entry is made for such mixtures; networks are for a number of talkers."""
        if self.folder is None:
            return True
        if self.kind == "network":
            from recipes.supervised import model

            return model.fits(self.folder, item)
        made_for = _neural_fca(self.folder).config
        return (made_for.n_talkers, made_for.n_channels) == (item.n_talkers, item.row["channels"])

    @property
    def folder(self) -> str | None:
        """That of its weights, for entries whose weights do not ship with the package.

        One that is not here may be in the repository.
        """
        name: str | None = self.options.get("folder" if self.kind == "network" else "weights")
        ours = ROOT / name if name is not None and not Path(name).exists() else None
        return str(ours) if ours is not None and ours.exists() else name

    def weights(self) -> str | None:
        """Checksum of the weights that lie in a folder of the user's."""
        if self.folder is None:
            return None
        from fca.pretrained import CONFIG as SIZES

        return str(json.loads((Path(self.folder) / SIZES).read_text())["sha256"])


@functools.lru_cache(maxsize=2)
def _neural_fca(folder: str) -> NeuralFCA:
    """Network of a folder, read once and not for every mixture."""
    from fca.neural import NeuralFCA

    return NeuralFCA.from_pretrained(folder)


def settings(section: str, config: Path | None, quick: bool, overrides: list[str]) -> Settings:
    """One section of a configuration: the full one, the quick one, or the user's own."""
    path = config or (QUICK if quick else CONFIG)
    chosen: Settings = load(path, overrides)[section]
    return chosen


def entries(config: Mapping[str, Any], only: Sequence[str] = ()) -> list[Entry]:
    """Every method of the toolkit, and the configured variants, peers, ceilings and networks.

    The last without asteroid are none. What needs weights is left out without a folder of them.

    Raises
    ------
    InputError
        If `only` names an entry that does not exist.
    """
    from fca.methods import METHODS
    from recipes.supervised import model

    left_out = config.get("leave_out", ())
    ours: dict[str, Any] = {
        name: {}
        for name, row in METHODS.items()
        if left_out != "all" and name not in left_out and not row.needs_weights
    }
    ours |= config.get("variants") or {}
    networks = config.get("networks") or {}
    if not model.available():
        networks = {}
    sections = {
        "method": ours,
        "peer": config.get("peers"),
        "ceiling": config.get("ceilings"),
        "network": networks,
    }
    found = [
        _entry(name, kind, dict(options or {}))
        for kind, section in sections.items()
        for name, options in (section or {}).items()
        if _ready(options or {})
    ]
    unknown = set(only) - {entry.name for entry in found}
    if unknown:
        raise InputError(f"no entry {sorted(unknown)}; there are {[e.name for e in found]}")
    return [entry for entry in found if not only or entry.name in only]


def _ready(options: Mapping[str, Any]) -> bool:
    """Whether a folder is given where weights are needed that do not ship."""
    return all(options[key] is not None for key in ("folder", "weights") if key in options)


def _entry(name: str, kind: str, options: Settings) -> Entry:
    return Entry(name, options.pop("method", name), kind, options)


def code_version() -> str:
    """Hash of everything that scores depend on: numerics, weights, recipe, other toolkits.

    Results of one version of the code are never taken for those of another.
    """
    files = [p for p in (ROOT / "fca").rglob("*.py") if "cli" not in p.parts]
    files += [p for p in (ROOT / "pretrained").rglob("*") if p.suffix in (".json", ".safetensors")]
    files += [Path(__file__).with_name(f"{name}.py") for name in ("ceilings", "common", "peers")]
    files += [Path(__file__).with_name("scoring.py"), ROOT / "recipes/supervised/model.py"]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    digest.update(json.dumps({name: _version(name) for name in PACKAGES}).encode())
    return digest.hexdigest()[:12]


class Log:
    """Results of a run as JSON lines, kept as they come, so that a rerun continues.

    Parameters
    ----------
    path : file to continue or to begin
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [json.loads(line) for line in _whole_lines(path)]
        self.path = path
        self.rows: dict[str, Settings] = {self._name(row["key"]): row for row in rows}

    def find(self, key: Settings) -> Settings | None:
        """Result that was kept under a key."""
        return self.rows.get(self._name(key))

    def add(self, key: Settings, result: Settings) -> Settings:
        """Keep a result; returns it with its key."""
        row: Settings = finite_json({"key": key, **result})
        self.rows[self._name(key)] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        return row

    @staticmethod
    def _name(key: Settings) -> str:
        return json.dumps(key, sort_keys=True)


def _whole_lines(path: Path) -> list[str]:
    """Lines of a log; one that a process died in is cut off."""
    if not path.is_file():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    return whole.splitlines()


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
        "versions": {name: v for name in PACKAGES if (v := _version(name)) is not None},
    }


def describe(facts: Mapping[str, Any]) -> str:
    """`surroundings` as one line of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['date']}, {facts['processor']} ({facts['cores']} cores), "
        f"Python {facts['python']}; {versions}."
    )


def _version(package: str) -> str | None:
    """Of an installed package; None for others."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
