"""Export the speech prior to ONNX, and compare onnxruntime with torch in double precision."""

from __future__ import annotations

import sys

import onnxruntime
import torch

from fca.adapters.onnx import export_onnx
from fca.prior import SpeechPrior


def main(folder: str, prior: SpeechPrior | None = None, n_frames: int = 120) -> float:
    prior = prior or SpeechPrior.from_pretrained("speech-prior")
    encoder, decoder = map(onnxruntime.InferenceSession, export_onnx(prior, folder))
    power = torch.rand(3, prior.config.n_freq, n_frames).pow(4)
    z, gain = encoder.run(None, {"power": power.numpy()})
    (psd,) = decoder.run(None, {"z": z, "gain": gain})
    expected = prior.double().reconstruct(power.double())
    difference = float((torch.from_numpy(psd) / expected).log().abs().max())
    print(f"largest difference of the log PSD: {difference:.2g} nepers of power")
    return difference


if __name__ == "__main__":
    main(*sys.argv[1:])
