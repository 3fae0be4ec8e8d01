"""Picture of speech, of its reconstruction by a prior, and of draws from the prior.

python -m recipes.prior.picture PRIOR SPEECH.flac -o OUT.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from fca import audio
from fca.prior import SpeechPrior
from fca.stft import STFT
from recipes import program


def panels(prior: SpeechPrior, wave: Tensor) -> dict[str, Tensor]:
    """PSDs (F, T) relative to the mean power, by title, for a waveform (samples,)."""
    power = STFT(prior.config.n_fft, prior.config.hop).analyse(wave).abs().square()
    power = power / power.mean()
    n_frames = power.shape[-1]
    z = prior.encode(power).z
    ends = prior.latent.sample_prior(2, 6).mT
    slow = torch.nn.functional.interpolate(ends, n_frames, mode="linear", align_corners=True)
    slow = slow / slow.std(1, keepdim=True)
    return {
        "speech": power,
        "its reconstruction": prior.reconstruct(power),
        "white noise of its loudness": prior.reconstruct(torch.empty_like(power).exponential_()),
        "draws from the prior, every frame anew": prior.sample(n_frames)[0],
        "draws from the prior, moving slowly": prior.decode(slow[0]),
        "its latent vectors plus unit noise": prior.decode(z + torch.randn_like(z)),
    }


@torch.no_grad()
def main(
    prior: Annotated[str, typer.Argument(help="name or folder of a prior")],
    speech: Annotated[Path, typer.Argument(help="a recording")],
    output: Annotated[Path, typer.Option("--output", "-o", help="picture")],
) -> None:
    """Draw the picture."""
    import matplotlib.pyplot as plt

    torch.manual_seed(0)
    model = SpeechPrior.from_pretrained(prior)
    rate = model.config.sample_rate
    wave = audio.resample(*audio.read(speech), rate)[0]
    shown = panels(model, torch.from_numpy(np.ascontiguousarray(wave)))
    figure, axes = plt.subplots(3, 2, figsize=(12, 9), sharex=True, sharey=True)
    for axis, (title, psd) in zip(axes.flat, shown.items(), strict=True):
        extent = (0, len(wave) / rate, 0, rate / 2000)
        level = 10 * psd.log10().numpy()
        image = axis.imshow(
            level, origin="lower", aspect="auto", extent=extent, vmin=-50, vmax=20, cmap="magma"
        )
        axis.set_title(title)
    figure.supxlabel("time (s)")
    figure.supylabel("frequency (kHz)")
    figure.colorbar(image, ax=axes, label="dB to the mean power")
    figure.savefig(output, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    program.run(main)
