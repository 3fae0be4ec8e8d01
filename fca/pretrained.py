"""Weights that ship with the toolkit, lie in a folder, or come from a hub.

A model is a folder with `model.safetensors`, `config.json` and usually a model card, `README.md`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from fca.errors import InputError
from fca.extras import require
from fca.files import read_bytes, replacing, write_text

__all__ = ["Pretrained", "load", "names", "push", "resolve", "save"]

Network = TypeVar("Network", bound="Pretrained")

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_PACKAGE = Path(__file__).parent
_SHIPPED = (_PACKAGE / "weights", _PACKAGE.parent / "pretrained")
"""In an installed wheel, and in a checkout of the sources."""


class Pretrained(nn.Module):
    """A network that is built from a configuration alone, and keeps its weights in a folder.

    Attributes
    ----------
    config : dataclass
        What it was built from, an instance of ``config_type``.
    """

    kind: ClassVar[str]
    """What the folder is said to hold, for no network to be taken for another."""
    config_type: ClassVar[type]
    precision: ClassVar[torch.dtype] = torch.float16
    """That of the weights in the folder."""
    config: Any

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    @torch.inference_mode(False)  # its weights serve callers that want gradients, too
    def from_pretrained(cls: type[Network], name: str | os.PathLike[str]) -> Network:
        """Network that ships with the toolkit, or from a folder or hub, in evaluation mode.

        Parameters
        ----------
        name : str or path
            See :func:`resolve`.

        Raises
        ------
        InputError
            If there is none, or its files are damaged.
        """
        folder = resolve(name)
        config, tensors = load(folder, cls.kind)
        try:
            network = cls(cls.config_type(**config))
            network.load_state_dict(tensors)
        except (TypeError, RuntimeError):
            raise InputError(f"{folder}: the weights and the configuration do not fit") from None
        return network.eval().requires_grad_(False)

    def like(self: Network, tensor: Tensor) -> Network:
        """The network with the device and precision of a real tensor: itself if it has, or a copy.

        It may be the user's own, and stays where it is.
        """
        place = (tensor.device, tensor.dtype)
        if all((weight.device, weight.dtype) == place for weight in self.weights()):
            return self
        return copy.deepcopy(self).to(*place)

    def weights(self) -> Iterator[Tensor]:
        """All that moves with the network."""
        return self.parameters()

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights, configuration and checksum to ``folder``."""
        tensors = self.state_dict().items()
        save(Path(folder), self.kind, asdict(self.config), tensors, self.precision)

    def push_to_hub(self, repository: str, private: bool = False) -> str:
        """Put it on the Hugging Face hub; see :func:`push`."""
        return push(self.save_pretrained, repository, private)


def names() -> list[str]:
    """Models that ship with the toolkit."""
    found = {file.parent.name for root in _SHIPPED for file in root.glob(f"*/{CONFIG}")}
    return sorted(found)


def resolve(name: str | os.PathLike[str]) -> Path:
    """Folder of a model.

    Parameters
    ----------
    name : str or path
        Name of a shipped model, a folder, or the id ``owner/name`` of a repository on the Hugging
        Face hub (which needs ``huggingface_hub``).

    Raises
    ------
    InputError
        If there is none, or the hub cannot be reached.
    """
    places = [root / name for root in _SHIPPED]
    for folder in [*places, Path(name)]:
        if (folder / CONFIG).is_file():
            return folder
    if isinstance(name, str) and name.count("/") == 1 and not Path(name).exists():
        return _from_hub(name)
    shipped = ", ".join(names()) or "none"
    raise InputError(f"no model {str(name)!r}: not a folder with {CONFIG}; shipped: {shipped}")


def load(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and float32 tensors of a model.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the model is not of that ``kind``.
    """
    config = _read_config(folder / CONFIG)
    if config.get("kind") != kind:
        raise InputError(f"{folder}: this is a {config.get('kind')!r} model, not a {kind!r}")
    content = read_bytes(folder / WEIGHTS)
    if hashlib.sha256(content).hexdigest() != config.get("sha256"):
        raise InputError(f"{folder / WEIGHTS}: the checksum is wrong, the file is damaged")
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise InputError(f"{folder / WEIGHTS}: {error}") from None
    return config["model"], {name: tensor.float() for name, tensor in tensors.items()}


def save(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a model; the weights are rounded to ``dtype``, half precision unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    content = save_tensors({k: v.detach().to("cpu", dtype).contiguous() for k, v in tensors})
    described = {
        "kind": kind,
        "sha256": hashlib.sha256(content).hexdigest(),
        "model": dict(config),
    }
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    write_text(folder / CONFIG, json.dumps(described, indent=2) + "\n")


def push(save: Callable[[Path], None], repository: str, private: bool = False) -> str:
    """Put a model on the Hugging Face hub, and give its address.

    Parameters
    ----------
    save : callable
        Writes the model into a folder; ``save_pretrained`` of a model.
    repository : str
        ``owner/name``; made if it is not there. The access token is huggingface_hub's own.
    private : bool
        Of a new repository.

    Raises
    ------
    InputError
        If huggingface_hub is not installed, or the hub cannot be reached or refuses.
    """
    api = require("huggingface_hub", "hub", "the hub needs").HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder))
        except Exception as error:  # the hub's many errors, all of which mean that it failed
            raise InputError(f"{repository}: {' '.join(str(error).split())}") from None


def _read_config(path: Path) -> dict[str, Any]:
    content = read_bytes(path)
    try:
        config = json.loads(content)
    except ValueError:
        raise InputError(f"{path}: not JSON, the file is damaged") from None
    if not isinstance(config, dict) or not isinstance(config.get("model"), dict):
        raise InputError(f"{path}: not the configuration of a model")
    return config


def _from_hub(repository: str) -> Path:
    hub = require("huggingface_hub", "hub", f"no model {repository!r} here; the hub needs")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=["*.safetensors", "*.json"]))
    except Exception as error:  # the hub's many errors, all of which mean that it is not there
        raise InputError(f"{repository}: {' '.join(str(error).split())}") from None
