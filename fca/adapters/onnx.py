"""ONNX files of the speech prior's networks. Needs onnxscript (the extra ``onnx``).

The STFT stays outside: the networks see powers ``|x|²`` and give PSDs, all real numbers, so that
any runtime can run them beside any transform.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from fca.extras import require
from fca.files import replacing
from fca.prior import SpeechPrior

OPSET = 18


class _Encoder(nn.Module):
    def __init__(self, prior: SpeechPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, power: Tensor) -> tuple[Tensor, Tensor]:
        code = self.prior.encode(power)
        return code.z, code.gain


class _Decoder(nn.Module):
    def __init__(self, prior: SpeechPrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, z: Tensor, gain: Tensor) -> Tensor:
        return self.prior.decode(z, gain)


def export_onnx(prior: SpeechPrior, folder: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Write the encoder and the decoder of a prior.

    Parameters
    ----------
    prior : SpeechPrior
        On the CPU, in float32.
    folder : path
        Gets ``encoder.onnx``, power (B, F, T) -> z (B, D, T), gain (B, 1, 1), and ``decoder.onnx``,
        z, gain -> psd (B, F, T); B and T are free, T more than the largest dilation.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    InputError
        If onnxscript is not installed.
    """
    require("onnxscript", "onnx", "ONNX files need")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    power = torch.rand(2, prior.config.n_freq, 50)
    with torch.no_grad():
        z, gain = (x.contiguous() for x in _Encoder(prior)(power))
    encoder, decoder = folder / "encoder.onnx", folder / "decoder.onnx"
    _export(_Encoder(prior), {"power": power}, ["z", "gain"], encoder)
    _export(_Decoder(prior), {"z": z, "gain": gain}, ["psd"], decoder)
    return encoder, decoder


def _export(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path) -> None:
    """Write one network; the file appears when it is complete."""
    free = torch.export.Dim.AUTO
    shapes = {name: {0: free} | ({2: free} if x.shape[2] > 1 else {}) for name, x in inputs.items()}
    program = torch.onnx.export(
        module.eval(),
        kwargs=dict(inputs),
        input_names=list(inputs),
        output_names=outputs,
        opset_version=OPSET,
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)
