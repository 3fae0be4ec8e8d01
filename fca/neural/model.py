"""Neural FCA and neural FastFCA: an encoder of mixtures and a decoder of sources in one model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from fca.errors import InputError, check_choice
from fca.neural.blocks import BLOCKS
from fca.neural.encoder import Encoder, Encoding
from fca.pretrained import Pretrained
from fca.prior import SpeechPrior
from fca.prior.latents import make_latent
from fca.prior.model import decode
from fca.prior.networks import FrameNetwork

_UNIT_PSD = 6.0
"""Output of the decoder network for a PSD of one, the mean power of mixtures: its initial bias."""


@dataclass(frozen=True)
class NeuralConfig:
    """Everything that a model is built from, in plain values that JSON and YAML can hold.

    Attributes
    ----------
    diagonal : whether the encoder infers Q and g of a jointly diagonal model (neural FastFCA)
    n_channels : M, microphones
    n_talkers : talkers; one more source is the background
    n_fft : window of the STFT in samples at 16 kHz; its shift is a quarter of it
    latent, latent_dim, concentration : family of z, D, and its parameter, as in
        :class:`~fca.prior.PriorConfig`
    block, n_blocks, n_layers, width, hidden, levels : of the :class:`~fca.neural.encoder.Encoder`
    decoder_width, decoder_dilations, floor : of the decoder, as in :class:`~fca.prior.PriorConfig`
    """

    diagonal: bool = False
    n_channels: int = 4
    n_talkers: int = 2
    n_fft: int = 512
    latent: str = "gaussian"
    latent_dim: int = 50
    concentration: float | None = None
    block: str = "dilated"
    n_blocks: int = 4
    n_layers: int = 8
    width: int = 256
    hidden: int = 512
    levels: bool = False
    decoder_width: int = 256
    decoder_dilations: tuple[int, ...] = (0, 0)
    floor: float = 1e-6

    def __post_init__(self) -> None:
        object.__setattr__(self, "decoder_dilations", tuple(self.decoder_dilations))
        sizes = self.n_talkers, self.n_blocks, self.n_layers, self.width, self.hidden
        if min(*sizes, self.decoder_width) < 1 or self.n_channels < 2 or not self.floor > 0:
            raise InputError("sizes of a neural FCA must be positive, microphones at least two")
        if self.n_fft < 4 or self.n_fft % 4:
            raise InputError(f"n_fft must be a multiple of four, got {self.n_fft}")
        check_choice("block", self.block, BLOCKS)

    @property
    def n_freq(self) -> int:
        """Number of frequency bins F."""
        return self.n_fft // 2 + 1

    @property
    def n_sources(self) -> int:
        """N, the talkers and the background."""
        return self.n_talkers + 1

    def with_decoder(self, prior: SpeechPrior) -> NeuralConfig:
        """The same configuration with the STFT, latent family and decoder of a prior.

        Raises
        ------
        InputError
            If the shift of its STFT is not a quarter of the window.
        """
        other = prior.config
        if other.hop * 4 != other.n_fft:
            raise InputError(f"the prior's shift is {other.hop}, a quarter of its window is needed")
        return replace(
            self,
            n_fft=other.n_fft,
            latent=other.latent,
            latent_dim=other.latent_dim,
            concentration=other.concentration,
            decoder_width=other.width,
            decoder_dilations=other.decoder_dilations,
            floor=other.floor,
        )


class NeuralFCA(Pretrained):
    """Amortised inference of all sources of a mixture (Bando et al. 2021, 2023).

    It differs from the papers in that the log-power is standardised by constants instead of batch
    normalisation, and the weights of ISS and the decoded PSDs are exponentials of bounded outputs.

    Parameters
    ----------
    config : NeuralConfig
        Sizes of the networks, with the numbers of microphones and talkers, which are fixed.
    """

    kind = "neural FCA"
    config_type = NeuralConfig
    config: NeuralConfig

    def __init__(self, config: NeuralConfig) -> None:
        super().__init__(config)
        self.latent = make_latent(config.latent, config.latent_dim, config.concentration)
        self.encoder = Encoder(
            config.n_freq,
            config.n_channels,
            config.n_sources,
            self.latent.n_parameters,
            self.latent.raw_prior,
            block=config.block,
            n_blocks=config.n_blocks,
            n_layers=config.n_layers,
            width=config.width,
            hidden=config.hidden,
            diagonal=config.diagonal,
            levels=config.levels,
        )
        self.decoder = FrameNetwork(
            self.latent.dim, config.decoder_width, config.n_freq, config.decoder_dilations
        )
        self.decoder[-1].bias.data.fill_(_UNIT_PSD)  # type: ignore[operator]

    def encode(self, mixture: Tensor) -> Encoding:
        """Posteriors and spatial parameters of mixtures X (B, F, M, T) of unit mean power.

        Raises
        ------
        InputError
            If F or M is not what the network was made for.
        """
        n_freq, n_channels = mixture.shape[1:3]
        if n_channels != self.config.n_channels:
            raise InputError(
                f"this network is for {self.config.n_channels} microphones, "
                f"the recording has {n_channels}"
            )
        if n_freq != self.config.n_freq:
            raise InputError(f"this network needs n_fft={self.config.n_fft}, its own STFT")
        encoding: Encoding = self.encoder(mixture)
        return encoding

    def decode(self, z: Tensor) -> Tensor:
        """PSD (..., F, T) of latent vectors ``z`` (..., D, T)."""
        return decode(self.decoder, self.latent.embed(z.mT), self.config.floor)
