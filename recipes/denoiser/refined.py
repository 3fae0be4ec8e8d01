"""What refinement makes of mixtures, for the encoder to learn: its own better judgement.

    python -m recipes.denoiser.refined SET -o FOLDER

Every mixture of a set (`recipes.benchmark.data`) is separated and its latent vectors refined on the
mixture itself. What the encoder saw of each talker on the way, and the spectra that it should have
inferred from that, are written to FOLDER, a file per mixture. No separated signal is ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from fca import Separator, simulated
from fca.errors import InputError
from fca.inference.iterate import iterate
from fca.inference.refine import Refinement
from fca.neural.denoiser import Denoiser
from fca.prior.model import Code

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
        METHOD, n_talkers, n_iter=ROUNDS, n_starts=1, n_refine=0, gate=False, denoiser=witness
    )
    refinement = Refinement(separator(mixture).model)
    iterate(refinement, n_steps, monitor_every=None)
    model = refinement.best.copy()
    model.normalise()
    target = model.source.psd()[0, :, :n_talkers].transpose(0, 1)
    own, rest = (torch.cat(views) for views in zip(*witness.seen[-ROUNDS:], strict=True))
    powers = {"own": own, "rest": rest, "target": target}
    return {name: _bels(power).contiguous() for name, power in powers.items()}


def _bels(power: Tensor) -> Tensor:
    return power.clamp_min(QUIETEST).log10().half()


def refine_set(mixtures: Path, output: Path, witness: Witness, n_steps: int) -> None:
    """Write a file for every mixture of a set that has none yet."""
    items = simulated.load(mixtures)
    output.mkdir(parents=True, exist_ok=True)
    for item in items:
        path = output / f"{item.id}.safetensors"
        if path.exists():
            continue
        mixture = torch.from_numpy(item.read("mixture"))
        partial = path.with_suffix(".part")
        save_file(refined(mixture, item.n_talkers, witness, n_steps), partial)
        partial.rename(path)


@dataclass(frozen=True)
class Views(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Random excerpts of `own`, `rest` and `target`, (F, T) each, from the files of a folder.

    Attributes
    ----------
    files : as `refined` describes them
    count, n_frames : number and length of the excerpts
    seed : decides, with its number, about an excerpt
    """

    files: Sequence[Path]
    count: int
    n_frames: int
    seed: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng([*self.seed, index])
        views = load_file(self.files[rng.integers(len(self.files))])
        n_rounds, n_talkers, _, n_frames = views["own"].shape
        turn, talker = rng.integers(n_rounds), rng.integers(n_talkers)
        begin = int(rng.integers(max(1, n_frames - self.n_frames + 1)))
        chosen = views["own"][turn, talker], views["rest"][turn, talker], views["target"][talker]
        own, rest, target = (
            10 ** bels[:, begin : begin + self.n_frames].float() for bels in chosen
        )
        return own, rest, target


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
) -> None:
    """Separate and refine mixtures, and keep what the encoder saw and should have inferred."""
    try:
        refine_set(mixtures, output, Witness.from_pretrained(denoiser), steps)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


if __name__ == "__main__":
    typer.run(main)
