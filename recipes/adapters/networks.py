"""Export the speech prior to ONNX, and compare onnxruntime with torch in double precision."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from fca.adapters.onnx import export_onnx
from fca.extras import require
from fca.prior import SpeechPrior
from recipes import program


def compare(folder: Path, prior: SpeechPrior, n_frames: int = 120) -> float:
    """Export a prior; largest difference of the log PSD between the runtimes, in nepers."""
    runtime = require("onnxruntime", "onnx", "this needs")
    encoder, decoder = map(runtime.InferenceSession, export_onnx(prior, folder))
    power = torch.rand(3, prior.config.n_freq, n_frames).pow(4)
    z, gain = encoder.run(None, {"power": power.numpy()})
    (psd,) = decoder.run(None, {"z": z, "gain": gain})
    expected = prior.double().reconstruct(power.double())
    return float((torch.from_numpy(psd) / expected).log().abs().max())


def main(folder: Annotated[Path, typer.Argument(help="folder to write")]) -> None:
    """Export the speech prior to ONNX, and compare onnxruntime with torch in double precision."""
    difference = compare(folder, SpeechPrior.from_pretrained("speech-prior"))
    print(f"largest difference of the log PSD: {difference:.2g} nepers of power")


if __name__ == "__main__":
    program.run(main)
