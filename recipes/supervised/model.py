"""Conv-TasNet (Luo & Mesgarani 2019) with several microphones, out of asteroid's parts.

All microphones go through one encoder; the mask network sees their features side by side, and its
masks are applied to those of the first microphone. Needs asteroid: see README.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fca import pretrained
from fca.errors import InputError
from fca.simulated import Item

KIND = "conv-tasnet"


@dataclass(frozen=True)
class ConvTasNetConfig:
    """Sizes, in the paper's order: N, L, stride, B, H, X, R.

    Attributes
    ----------
    n_talkers, n_channels : talkers that come out, microphones that go in
    n_filters, kernel, stride : of the encoder, the latter two in samples
    bottleneck, hidden, blocks, repeats : of the mask network
    """

    n_talkers: int = 2
    n_channels: int = 4
    n_filters: int = 512
    kernel: int = 32
    stride: int = 16
    bottleneck: int = 128
    hidden: int = 512
    blocks: int = 8
    repeats: int = 3
    sample_rate: int = 16000


class ConvTasNet(nn.Module):
    """Mixtures (B, M, samples) to talkers (B, N, samples) at the first microphone."""

    def __init__(self, config: ConvTasNetConfig) -> None:
        super().__init__()
        make_enc_dec, masker = _asteroid()
        self.config = config
        self.encoder, self.decoder = make_enc_dec(
            "free", config.n_filters, config.kernel, config.stride, config.sample_rate
        )
        self.masker = masker(
            config.n_filters * config.n_channels,
            config.n_talkers,
            out_chan=config.n_filters,
            n_blocks=config.blocks,
            n_repeats=config.repeats,
            bn_chan=config.bottleneck,
            hid_chan=config.hidden,
            skip_chan=config.bottleneck,
            mask_act="relu",
        )

    def forward(self, waves: Tensor) -> Tensor:
        batch, channels, samples = waves.shape
        scale = waves.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-8)
        padded = nn.functional.pad(waves / scale, (0, self.config.kernel))
        features = self.encoder(padded.reshape(batch * channels, 1, -1))
        features = features.reshape(batch, channels, *features.shape[1:])
        masks = self.masker(features.flatten(1, 2))
        talkers: Tensor = self.decoder(masks * features[:, :1])
        return talkers[..., :samples] * scale

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the weights and the sizes."""
        state = self.state_dict().items()
        pretrained.save(Path(folder), KIND, asdict(self.config), state, torch.float32)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ConvTasNet:
        """Network of a folder that :meth:`save_pretrained` wrote."""
        sizes, tensors = pretrained.load(Path(folder), KIND)
        network = cls(ConvTasNetConfig(**sizes))
        network.load_state_dict(tensors)
        return network.eval()


def fits(folder: str, item: Item) -> bool:
    """Whether a network was made for as many talkers, and no more microphones, than a mixture."""
    config = _load(folder).config
    return config.n_talkers == item.n_talkers and config.n_channels <= item.row["channels"]


@torch.no_grad()
def separate(mixture: NDArray[Any], rate: int, n_sources: int, *, folder: str) -> NDArray[Any]:
    """Talkers (N, samples) of a mixture (channels, samples), whose first microphones are used.

    Raises
    ------
    InputError
        If the network of the folder does not fit.
    """
    network = _load(folder)
    config = network.config
    if (rate, n_sources) != (config.sample_rate, config.n_talkers):
        raise InputError(f"{folder}: for {config.n_talkers} talkers at {config.sample_rate} Hz")
    if len(mixture) < config.n_channels:
        raise InputError(f"{folder}: for {config.n_channels} microphones, not {len(mixture)}")
    waves = np.ascontiguousarray(mixture[: config.n_channels], dtype=np.float32)
    talkers: NDArray[Any] = network(torch.from_numpy(waves)[None])[0].numpy()
    return talkers


@lru_cache(maxsize=2)
def _load(folder: str) -> ConvTasNet:
    return ConvTasNet.from_pretrained(folder)


def _asteroid() -> tuple[Any, Any]:
    try:
        from asteroid.masknn import TDConvNet
        from asteroid_filterbanks import make_enc_dec
    except ImportError as error:
        raise InputError(f"Conv-TasNet needs asteroid, see recipes/supervised ({error})") from None
    return make_enc_dec, TDConvNet
