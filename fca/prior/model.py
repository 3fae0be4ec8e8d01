"""The speech prior: ``x_ft | z ~ N_C(0, g_f(z))`` with a latent vector z_t per frame."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fca.errors import InputError
from fca.pretrained import Pretrained
from fca.prior.latents import Posterior, make_latent
from fca.prior.networks import FrameNetwork

_LOG_RANGE = 12.0
TYPICAL_LOG_POWER = -6.0
LOG_POWER_SPREAD = 4.0
"""About the mean and the standard deviation of the log-powers that networks see."""


@dataclass(frozen=True)
class PriorConfig:
    """Everything that a prior is built from, in plain values that JSON and YAML can hold.

    Attributes
    ----------
    sample_rate : in Hz
    n_fft, hop : STFT with a periodic Hann window
    latent : family of z, a key of :data:`fca.prior.latents.LATENTS`
    latent_dim : D
    concentration : of the von Mises-Fisher posterior or the Dirichlet prior; None for its default
    width : channels inside the networks
    encoder_dilations, decoder_dilations : temporal context of each block, in frames on either
        side; 0 for none
    floor : smallest PSD relative to the mean power of the input
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    hop: int = 256
    latent: str = "gaussian"
    latent_dim: int = 32
    concentration: float | None = None
    width: int = 384
    encoder_dilations: tuple[int, ...] = (1, 2, 4)
    decoder_dilations: tuple[int, ...] = (0, 0)
    floor: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("encoder_dilations", "decoder_dilations"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if min(self.sample_rate, self.n_fft, self.hop, self.width) < 1 or not self.floor > 0:
            raise InputError("sizes and the floor of a prior must be positive")

    @property
    def n_freq(self) -> int:
        """Number of frequency bins F."""
        return self.n_fft // 2 + 1


@dataclass(frozen=True)
class Code:
    """Output of the encoder: the posterior of z, and the gain.

    Attributes
    ----------
    posterior : Posterior
        ``q(z_t | X)``, time-major as in :mod:`fca.prior.latents`.
    gain : Tensor
        Power by which the input was divided, (..., 1, 1).
    """

    posterior: Posterior
    gain: Tensor

    @property
    def z(self) -> Tensor:
        """Point estimate of the latent vectors, (..., D, T)."""
        return self.posterior.mean.mT


@dataclass(frozen=True)
class Elbo:
    """The two terms of the evidence lower bound, for each item.

    Attributes
    ----------
    nll : Tensor
        ``mean_ft [log g + |x|²/g]`` with PSDs and powers in units of the gain, (...,).
    kl : Tensor
        Mean over frames of ``KL(q(z_t | X) ‖ p(z))`` in nats, (...,).
    n_freq : int
        Number of bins per frame.
    """

    nll: Tensor
    kl: Tensor
    n_freq: int

    @property
    def per_bin(self) -> Tensor:
        """ELBO in nats per bin without the constant −log π, (...,)."""
        return -self.loss(1.0)

    def loss(self, beta: float) -> Tensor:
        """Negative ELBO per bin with the divergence weighted by ``beta``, (...,)."""
        return self.nll + beta * self.kl / self.n_freq


class SpeechPrior(Pretrained):
    """Variational autoencoder of speech spectrograms (Kingma & Welling 2014; Bando et al. 2018).

    The input is divided by its mean power over frequencies and frames, one gain per item, and the
    PSD is multiplied by it: a louder input gives a louder PSD and the same latent vectors.

    Parameters
    ----------
    config : PriorConfig
        Sizes of the networks, STFT and latent family.
    """

    kind = "speech prior"
    config_type = PriorConfig
    config: PriorConfig

    def __init__(self, config: PriorConfig) -> None:
        super().__init__(config)
        self.latent = make_latent(config.latent, config.latent_dim, config.concentration)
        self.encoder = FrameNetwork(
            config.n_freq, config.width, self.latent.n_parameters, config.encoder_dilations
        )
        self.decoder = FrameNetwork(
            self.latent.dim, config.width, config.n_freq, config.decoder_dilations
        )

    def encode(self, power: Tensor, gain: Tensor | None = None) -> Code:
        """Posterior of the latent vectors.

        Parameters
        ----------
        power : Tensor
            ``|x|²``, or the posterior second moment of a source, (..., F, T).
        gain : Tensor, optional
            Power that the input is divided by, (..., 1, 1); the mean of ``power`` unless given.

        Raises
        ------
        InputError
            If ``power`` does not have the F of the prior's STFT.
        """
        self.check(power)
        gain = mean_power(power) if gain is None else gain
        raw = self.encoder(log_features(power, gain, self.config.floor))
        return Code(self.latent.posterior(raw.to(power.dtype)), gain)

    def decode(self, z: Tensor, gain: Tensor | None = None) -> Tensor:
        """PSD (..., F, T) of latent vectors ``z`` (..., D, T), times ``gain`` (..., 1, 1)."""
        psd = decode(self.decoder, self.latent.embed(z.mT), self.config.floor)
        return psd if gain is None else psd * gain

    def reconstruct(self, power: Tensor) -> Tensor:
        """``decode(encode(power))`` at the posterior mean: PSD (..., F, T) of ``power``."""
        code = self.encode(power)
        return self.decode(code.z, code.gain)

    def elbo(self, power: Tensor, gain: Tensor | None = None, *, sample: bool = True) -> Elbo:
        """Evidence lower bound of ``power`` (..., F, T) with one draw of z (or its mean)."""
        code = self.encode(power, gain)
        z = code.posterior.sample().mT if sample else code.z
        nll = gaussian_nll(power / code.gain, self.decode(z))
        return Elbo(nll.mean((-2, -1)), code.posterior.kl().mean(-1), self.config.n_freq)

    def sample(self, n_frames: int, n_items: int = 1) -> Tensor:
        """PSDs (n_items, F, T) of latent vectors from the prior, by torch's global generator."""
        z = self.latent.sample_prior(n_items, n_frames).to(next(self.parameters()).device)
        return self.decode(z.mT)

    def check(self, power: Tensor) -> None:
        """Raise :class:`InputError` unless ``power`` (..., F, T) has the F of the prior's STFT."""
        if power.ndim < 2 or power.shape[-2] != self.config.n_freq:
            raise InputError(
                f"the prior needs powers (..., {self.config.n_freq}, frames) of its STFT "
                f"(n_fft={self.config.n_fft}), got {tuple(power.shape)}"
            )


def decode(network: nn.Module, embedded: Tensor, floor: float) -> Tensor:
    """PSD (..., F, T) of embedded latent vectors (..., T, D), at least ``floor``."""
    output = network(embedded).to(embedded.dtype)
    log_psd = _LOG_RANGE * output.add(TYPICAL_LOG_POWER).div_(_LOG_RANGE).tanh_()
    psd: Tensor = (log_psd.exp() + floor).mT
    return psd


def log_features(power: Tensor, gain: Tensor, floor: float) -> Tensor:
    """Log-powers relative to ``gain``, time-major (..., T, F), of about unit variance."""
    log_power = (power / gain).add_(floor).log_()
    return log_power.sub_(TYPICAL_LOG_POWER).div_(LOG_POWER_SPREAD).mT


def mean_power(power: Tensor) -> Tensor:
    """Mean over frequencies and frames, (..., F, T) to (..., 1, 1); positive even for silence."""
    return power.mean((-2, -1), keepdim=True).clamp_min(torch.finfo(power.dtype).tiny ** 0.5)


def gaussian_nll(power: Tensor, psd: Tensor) -> Tensor:
    """``log g + |x|²/g`` of every bin: −log N_C(x; 0, g) without log π."""
    return psd.log() + power / psd


def itakura_saito(power: Tensor, psd: Tensor, floor: float = 0.0) -> Tensor:
    """``p/g − log(p/g) − 1`` of every bin with p = ``power + floor``.

    Its mean over exactly Gaussian data with their true PSD is Euler's constant, 0.577 nats.
    """
    ratio = (power + floor) / psd
    return ratio - ratio.log() - 1
