"""What refinement makes of mixtures, for the encoder to learn: its own better judgement.

    python -m recipes.denoiser.refined SET -o FOLDER

Every mixture of a set (`recipes.benchmark.data`) is separated and its latent vectors refined on the
mixture itself. What the encoder saw of each talker on the way, and the spectra that it should have
inferred from that, are written to FOLDER, a file per mixture. No separated signal is ever read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from fca import Separator, pretrained
from fca.errors import InputError
from fca.files import make_folder, read_bytes, replacing
from fca.inference.iterate import iterate
from fca.inference.refine import Refinement
from fca.model import Model
from fca.neural.denoiser import Denoiser
from fca.prior.model import Code
from fca.simulate import stored
from recipes import program
from recipes.banks import check_made_with

METHOD = "deep-fca"
ROUNDS = 2
"""Last views of the encoder that are kept, all of the wanted talkers alone."""
QUIETEST = 1e-10
"""Power below which nothing is kept, relative to full scale."""


class Witness(Denoiser):
    """Denoiser that remembers what it has seen."""

    seen: list[tuple[Tensor, Tensor]]

    def encode(self, own: Tensor, rest: Tensor) -> Code:
        self.seen.append((own, rest))
        return super().encode(own, rest)


def refined(mixture: Tensor, n_talkers: int, witness: Witness, n_steps: int) -> dict[str, Tensor]:
    """Views `own` and `rest`, (rounds, N, F, T), and the spectra `target`, (N, F, T), in bels."""
    witness.seen = []
    separator = Separator(
        METHOD,
        n_talkers,
        n_iter=ROUNDS,
        n_starts=1,
        n_refine=0,
        gate=False,
        denoiser=witness,
        device="cpu",  # elsewhere a copy of the witness would see it all
    )
    fitted = separator(mixture).model
    assert isinstance(fitted, Model)
    refinement = Refinement(fitted)
    iterate(refinement, n_steps, monitor_every=None)
    model = refinement.best.copy()
    model.normalise()
    target = model.source.psd()[0, :, :n_talkers].transpose(0, 1)
    own, rest = (torch.cat(views) for views in zip(*witness.seen[-ROUNDS:], strict=True))
    powers = {"own": own, "rest": rest, "target": target}
    return {name: _bels(power).contiguous() for name, power in powers.items()}


def _bels(power: Tensor) -> Tensor:
    return power.clamp_min(QUIETEST).log10().half()


def refine_set(
    mixtures: Path, output: Path, denoiser: str, n_steps: int, share: tuple[int, int] = (0, 1)
) -> None:
    """Write a file for every mixture of a set, or of share `i` of `n`, that has none yet."""
    number, count = share
    witness = Witness.from_pretrained(denoiser)
    for item in stored.load(mixtures)[number::count]:
        path = output / f"{item.id}.safetensors"
        if path.exists():
            continue
        mixture = torch.from_numpy(item.read("mixture"))
        with replacing(path) as temporary:
            save_file(refined(mixture, item.n_talkers, witness, n_steps), temporary)


def _made_with(mixtures: Path, denoiser: str, n_steps: int) -> dict[str, Any]:
    """What views depend on; the set may move, and another network may get the denoiser's name."""
    weights = hashlib.sha256(read_bytes(pretrained.resolve(denoiser) / pretrained.WEIGHTS))
    return {
        "set": mixtures.resolve().name,
        "steps": n_steps,
        "checksum of the denoiser": weights.hexdigest()[:12],
    }


@dataclass(frozen=True)
class Views(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Random excerpts of `own`, `rest` and `target`, (F, T) each, from the files of a folder.

    Attributes
    ----------
    files : as `refined` describes them
    count, n_frames : number and length of the excerpts, which are no longer than the shortest file
    seed : decides, with its number, about an excerpt
    """

    files: Sequence[Path]
    count: int
    n_frames: int
    seed: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return self.count

    @cached_property
    def length(self) -> int:
        """Of the excerpts in frames; all have the same, as those of a batch are stacked."""
        return min(self.n_frames, *map(_n_frames, self.files))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([*self.seed, index])
        views = load_file(self.files[int(rng.integers(len(self.files)))])
        n_rounds, n_talkers, _, n_frames = views["own"].shape
        turn, talker = rng.integers(n_rounds), rng.integers(n_talkers)
        begin = int(rng.integers(n_frames - self.length + 1))
        chosen = views["own"][turn, talker], views["rest"][turn, talker], views["target"][talker]
        own, rest, target = (10 ** bels[:, begin : begin + self.length].float() for bels in chosen)
        return own, rest, target


class ResidentViews:
    """The same excerpts in the memory of a device, whole batches at once.

    Parameters
    ----------
    files : sequence of Path
        As `refined` describes them; only as many frames of each are kept as the shortest has.
    device : torch.device
        Where they are kept.
    """

    def __init__(self, files: Sequence[Path], device: torch.device) -> None:
        views = [view for path in files for view in _views(load_file(path))]
        shortest = min(view.shape[-1] for view in views)
        self.device = device
        self._views = torch.stack([view[..., :shortest] for view in views]).to(device)

    def draw(self, count: int, n_frames: int, generator: torch.Generator) -> list[Tensor]:
        """`own`, `rest` and `target`, (count, F, n_frames) each, from a generator of the device."""
        length = self._views.shape[-1]
        n_frames = min(n_frames, length)
        number, begin = (
            torch.randint(limit, (size,), device=self.device, generator=generator)
            for limit, size in ((len(self._views), count), (length - n_frames + 1, 1))
        )
        bels = self._views[number, ..., int(begin) : int(begin) + n_frames]
        return list((10 ** bels.float()).unbind(1))


def _n_frames(path: Path) -> int:
    with safe_open(path, framework="pt") as saved:
        return int(saved.get_slice("target").get_shape()[-1])


def _views(saved: dict[str, Tensor]) -> list[Tensor]:
    """Own, rest and target (3, F, T) of every round and talker of a file."""
    target = saved["target"].expand_as(saved["own"])
    return list(torch.stack([saved["own"], saved["rest"], target], 2).flatten(0, 1))


def find(folder: str | Path) -> list[Path]:
    """Files of a folder, in order.

    Raises
    ------
    InputError
        If there are none.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no views; make them with recipes.denoiser.refined")
    return files


def main(
    mixtures: Annotated[Path, typer.Argument(help="set of mixtures")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    denoiser: Annotated[str, typer.Option(help="name or folder")] = "denoiser",
    steps: Annotated[int, typer.Option(help="of refinement")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="processes, each on one thread")] = 1,
) -> None:
    """Separate and refine mixtures, and keep what the encoder saw and should have inferred."""
    stored.load(mixtures)  # before anything is written
    make_folder(output)
    check_made_with(output / "views.json", _made_with(mixtures, denoiser, steps))
    work = partial(refine_set, mixtures, output, denoiser, steps)
    if jobs == 1:
        return work()
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        list(pool.map(work, [(k, jobs) for k in range(jobs)]))


if __name__ == "__main__":
    program.run(main)
