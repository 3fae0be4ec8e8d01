"""What ``pip install .`` brings is enough for every module of the package, and for separation."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

SCRIPT = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError("not of the core: " + name, name=name)

sys.meta_path.insert(0, Absent())
import torch, fca

for module in pkgutil.walk_packages(fca.__path__, "fca."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(tuple(fca.separate(torch.randn(3, 16000), 16000, method="fastmnmf2", n_iter=2).sources.shape))
"""


def installed_by(requirements: list[str]) -> set[str]:
    """Names of distributions that pip installs for requirements, in this environment."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not wanted or name in found:
            continue
        found.add(name)
        try:
            waiting += [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue
    return found


def test_the_core_needs_no_more_than_it_declares() -> None:
    core = installed_by(["fca"])
    hidden = {
        name
        for name, owners in packages_distributions().items()
        if not core & {canonicalize_name(owner) for owner in owners}
    } - {"fca", "pip", "setuptools", "pkg_resources", "_distutils_hack"}
    assert {"matplotlib", "mir_eval"} <= hidden
    command = [sys.executable, "-c", SCRIPT.format(hidden=hidden)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "(2, 16000)"
