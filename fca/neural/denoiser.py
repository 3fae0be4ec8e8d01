"""The amortised posterior of a talker in a mixture, ``q(z_nt | power of it and of the others)``.

A denoising encoder for the latent vectors of a speech prior: it sees the power of one source as
separated so far and that of all others together, and infers the z of the clean source. It is
trained on clean speech with made-up leakage (:mod:`recipes.denoiser`), and on mixtures alone
(:mod:`recipes.neural`). It does not depend on the array or the number of talkers, and serves any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fca.errors import InputError
from fca.pretrained import Pretrained
from fca.prior import SpeechPrior
from fca.prior.latents import Posterior
from fca.prior.model import Code, Elbo, gaussian_nll, log_features, mean_power
from fca.prior.networks import FrameNetwork


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that a denoiser is built from, in plain values that JSON and YAML can hold.

    Attributes
    ----------
    prior : the prior whose latent vectors are inferred, see :meth:`SpeechPrior.from_pretrained`
    width : channels inside the network
    dilations : temporal context of each block, in frames on either side
    """

    prior: str = "speech-prior-4096"
    width: int = 384
    dilations: tuple[int, ...] = (1, 2, 4, 1, 2, 4)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dilations", tuple(self.dilations))
        if self.width < 1:
            raise InputError(f"the width of a network must be positive, got {self.width}")


class Denoiser(Pretrained):
    """Encoder ``q(z_t | own, rest)`` for the latent vectors of a frozen speech prior.

    Parameters
    ----------
    config : DenoiserConfig
        Sizes of the network.
    prior : SpeechPrior, optional
        The prior; loaded by the name in ``config`` unless given.
    """

    kind = "denoiser"
    config_type = DenoiserConfig
    config: DenoiserConfig

    def __init__(self, config: DenoiserConfig, prior: SpeechPrior | None = None) -> None:
        super().__init__(config)
        self._prior = (prior or SpeechPrior.from_pretrained(config.prior).requires_grad_(False),)
        n_freq, n_out = self.prior.config.n_freq, self.prior.latent.n_parameters
        self.network = FrameNetwork(2 * n_freq, config.width, n_out, config.dilations)

    @property
    def prior(self) -> SpeechPrior:
        """The prior. Its weights are not the denoiser's own, and are not saved with it."""
        return self._prior[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Denoiser:
        """Move to another device or precision, together with the prior."""
        self.prior._apply(fn, recurse)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def weights(self) -> Iterator[Tensor]:
        """Its own weights and those of the prior."""
        yield from super().weights()
        yield from self.prior.weights()

    def encode(self, own: Tensor, rest: Tensor) -> Code:
        """Posterior of the latent vectors of each source.

        Parameters
        ----------
        own : Tensor
            Power of each source as separated so far, (..., F, T).
        rest : Tensor
            Power of all others together, (..., F, T).

        Raises
        ------
        InputError
            If F is not that of the prior's STFT.
        """
        self.prior.check(own)
        gain = mean_power(own)
        floor = self.prior.config.floor
        features = [log_features(power, gain, floor) for power in (own, rest)]
        raw = self.network(torch.cat(features, dim=-1))
        return Code(self.posterior(raw.to(own.dtype)), gain)

    def posterior(self, raw: Tensor) -> Posterior:
        """Distribution over z from the outputs of the network, (..., T, parameters)."""
        return self.prior.latent.posterior(raw)

    def elbo(self, clean: Tensor, own: Tensor, rest: Tensor) -> Elbo:
        """Evidence lower bound of the ``clean`` power (..., F, T) with one draw of z."""
        code = self.encode(own, rest)
        nll = gaussian_nll(clean / code.gain, self.prior.decode(code.posterior.sample().mT))
        kl = code.posterior.kl().mean(-1)
        return Elbo(nll.mean((-2, -1)), kl, self.prior.config.n_freq)
