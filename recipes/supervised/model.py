"""Conv-TasNet (Luo & Mesgarani 2019) with several microphones, out of asteroid's parts.

All microphones go through one filterbank; the mask network sees what it makes of them, and its
masks are applied to the first microphone. Needs asteroid: see README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import util
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fca.errors import InputError, check_choice
from fca.pretrained import Pretrained
from fca.simulate.stored import Item
from fca.stft import STFT


@dataclass(frozen=True)
class ConvTasNetConfig:
    """Sizes, in the paper's order: N, L, stride, B, H, X, R.

    Attributes
    ----------
    n_talkers, n_channels : talkers that come out, microphones that go in
    filterbank : "free", learned as in the paper, or "stft" (Heitkaemper et al. 2020), whose mask
        network sees the level and the differences of phase (Gu et al. 2019), and learns sooner
    n_filters, kernel, stride : of the filterbank, the latter two in samples; an STFT has
        `kernel // 2 + 1` filters whatever `n_filters`
    bottleneck, hidden, blocks, repeats : of the mask network
    """

    n_talkers: int = 2
    n_channels: int = 4
    filterbank: str = "free"
    n_filters: int = 512
    kernel: int = 32
    stride: int = 16
    bottleneck: int = 128
    hidden: int = 512
    blocks: int = 8
    repeats: int = 3
    sample_rate: int = 16000


class Free(nn.Module):
    """Learned filters; the features of all microphones stand side by side."""

    mask = "relu"

    def __init__(self, config: ConvTasNetConfig) -> None:
        super().__init__()
        self.n_filters = config.n_filters
        self.n_features = config.n_channels * config.n_filters
        self._kernel = config.kernel
        self.encoder, self.decoder = _asteroid().make_enc_dec(
            "free", config.n_filters, config.kernel, config.stride, config.sample_rate
        )

    def analyse(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """First microphone (B, 1, filters, T) and features (B, features, T) of waves (B, M, S)."""
        padded = nn.functional.pad(waves, (0, self._kernel))
        filtered = self.encoder(padded.flatten(0, 1)[:, None]).unflatten(0, waves.shape[:2])
        return filtered[:, :1], filtered.flatten(1, 2)

    def synthesise(self, talkers: Tensor, samples: int) -> Tensor:
        """Waves (B, N, samples) of talkers (B, N, filters, T)."""
        waves: Tensor = self.decoder(talkers)
        return waves[..., :samples]


class Spectral(nn.Module):
    """STFT; features are the first microphone's logarithmic level and the others' phases to it."""

    mask = "sigmoid"
    _FLOOR = 1e-3

    def __init__(self, config: ConvTasNetConfig) -> None:
        super().__init__()
        self._stft = STFT(config.kernel, config.stride)
        self.n_filters = self._stft.n_freq
        self.n_features = (2 * config.n_channels - 1) * self.n_filters

    def analyse(self, waves: Tensor) -> tuple[Tensor, Tensor]:
        """First microphone (B, 1, filters, T) and features (B, features, T) of waves (B, M, S)."""
        spectra = self._stft.analyse(waves)
        first, others = spectra[:, :1], spectra[:, 1:]
        size = first.abs()
        mean = size.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-8)
        level = (size / mean + self._FLOOR).log()
        turned = torch.sgn(others * first.conj())
        return first, torch.cat([level, turned.real, turned.imag], dim=1).flatten(1, 2)

    def synthesise(self, talkers: Tensor, samples: int) -> Tensor:
        """Waves (B, N, samples) of talkers (B, N, filters, T)."""
        return self._stft.synthesise(talkers, samples)


FILTERBANKS: dict[str, type[Free | Spectral]] = {"free": Free, "stft": Spectral}


class ConvTasNet(Pretrained):
    """Mixtures (B, M, samples) to talkers (B, N, samples) at the first microphone.

    Raises
    ------
    InputError
        For an unknown filterbank, or without asteroid.
    """

    kind = "conv-tasnet"
    config_type = ConvTasNetConfig
    precision = torch.float32
    config: ConvTasNetConfig

    def __init__(self, config: ConvTasNetConfig) -> None:
        super().__init__(config)
        check_choice("filterbank", config.filterbank, FILTERBANKS)
        self.filters = FILTERBANKS[config.filterbank](config)
        self.masker = _asteroid().TDConvNet(
            self.filters.n_features,
            config.n_talkers,
            out_chan=self.filters.n_filters,
            n_blocks=config.blocks,
            n_repeats=config.repeats,
            bn_chan=config.bottleneck,
            hid_chan=config.hidden,
            skip_chan=config.bottleneck,
            norm_type=_global_norm,
            mask_act=self.filters.mask,
        )
        self.masker.TCN[-1].res_conv.requires_grad_(False)  # leads nowhere

    def forward(self, waves: Tensor) -> Tensor:
        scale = waves.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-8)
        first, features = self.filters.analyse(waves / scale)
        talkers = self.masker(features) * first
        return scale * self.filters.synthesise(talkers, waves.shape[-1])


def available() -> bool:
    """Whether networks can be built here: asteroid is not among the benchmark's dependencies."""
    return util.find_spec("asteroid") is not None


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


def _global_norm(channels: int) -> nn.Module:
    """The paper's gLN, in torch's own implementation: a step takes a third less time."""
    return nn.GroupNorm(1, channels, eps=1e-8)


def _asteroid() -> SimpleNamespace:
    try:
        from asteroid.masknn import TDConvNet
        from asteroid_filterbanks import make_enc_dec
    except ImportError as error:
        raise InputError(f"Conv-TasNet needs asteroid, see recipes/supervised ({error})") from None
    return SimpleNamespace(make_enc_dec=make_enc_dec, TDConvNet=TDConvNet)
