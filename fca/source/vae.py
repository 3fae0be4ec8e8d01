"""Sources described by the speech prior, in several ways to infer the latent vectors.

By its own encoder, by a denoising encoder that also sees the other sources
(:mod:`fca.neural.denoiser`), by gradient descent, or by sampling. In refinement, gradient steps
move the latent vectors, or bins depart from the decoded PSD by EM.

With the three spatial models and gradient descent these are MVAE (rank-1; Kameoka et al. 2019),
FastMNMF-DP (jointly diagonal; Sekiguchi et al. 2019) and full-rank FCA with a deep prior.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fca.errors import InputError, at_least_one, check_choice
from fca.neural.denoiser import Denoiser
from fca.prior import SpeechPrior
from fca.prior.model import gaussian_nll
from fca.source.base import Evaluate
from fca.source.departure import check_strength
from fca.source.latent import Latent, energy
from fca.spatial.base import Statistics

UPDATES = ("encode", "encode moment", "gradient", "sample")
REFINEMENTS = ("gradient", "em")


class VAE(Latent):
    """Decoded latent vectors z, one per source and frame; PSDs are powers at a microphone.

    Parameters
    ----------
    prior : SpeechPrior or str
        The decoder and encoder, or anything that :meth:`SpeechPrior.from_pretrained` takes.
    inference : {"encode", "encode moment", "gradient", "sample"}
        "encode" infers z by the encoder from :func:`observed_power`, and "encode moment" from the
        posterior second moment, the power of the Wiener estimate plus its variance. Both are
        amortised, approximate M-steps, which may raise the cost. "gradient" descends on a majoriser
        of the cost in z and never raises it. "sample" draws z by Metropolis sampling (Bando et al.
        2018); recordings of a batch have draws of their own, other ones than if they were alone.
    n_steps : int
        Gradient steps, or sweeps of the sampler, per update.
    rate : float
        Step size of the gradient steps (Adam), or standard deviation of the sampler's proposals.
    denoiser : Denoiser or str, optional
        Encoder that also sees the other sources and is used instead of the prior's own; it brings
        the prior that it was trained for.
    refinement : {"gradient", "em"}
        What :meth:`refine` does. "gradient" takes a step of Adam on the cost in z; "em" keeps z and
        lets every bin depart from the decoded PSD by EM, which never raises the cost.
    strength : float
        How strongly bins are held to the decoded PSD; see :class:`~fca.source.latent.Latent`.
    stochastic : bool
        Draw encoded z from its posterior, for training by the evidence lower bound.

    Raises
    ------
    InputError
        For an unknown inference or refinement, numbers out of range, or a prior without Gaussian
        latents unless z is encoded.
    """

    at_microphone = True
    judges = True
    beside: Tensor | float = 0.0
    """Power of other sounds beside these sources, (B, 1, F, T), which a denoiser is shown, too."""

    def __init__(
        self,
        prior: SpeechPrior | str = "speech-prior",
        inference: str = "encode",
        n_steps: int = 10,
        rate: float = 0.05,
        denoiser: Denoiser | str | None = None,
        refinement: str = "gradient",
        strength: float = 1.0,
        stochastic: bool = False,
    ) -> None:
        check_choice("inference", inference, UPDATES, " of a VAE")
        check_choice("refinement", refinement, REFINEMENTS, " of a VAE")
        n_steps = at_least_one("n_steps", n_steps)
        check_strength(strength)
        self.denoiser = (
            Denoiser.from_pretrained(denoiser) if isinstance(denoiser, str) else denoiser
        )
        if self.denoiser is not None:
            prior = self.denoiser.prior
        self.prior = SpeechPrior.from_pretrained(prior) if isinstance(prior, str) else prior
        gaussian = self.prior.config.latent == "gaussian"
        if not inference.startswith("encode") and not gaussian:
            raise InputError(f"{inference} needs Gaussian latents, not {self.prior.config.latent}")
        super().__init__(self.prior, gaussian, n_steps, rate, stochastic, strength)
        self._update, self._refinement = inference, refinement

    @property
    def refinable(self) -> bool:
        return self._refinement == "em" or super().refinable

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        if self.denoiser is None:
            self.prior = self.prior.like(power)
        else:
            self.denoiser = self.denoiser.like(power)
            self.prior = self.denoiser.prior
        self._use(self.prior)
        self._generator = generator
        self._encode(power)
        self._begins = True

    def update(self, evaluate: Evaluate) -> None:
        if self._update == "encode":
            self._encode_again(evaluate)
        elif self._update == "encode moment":
            self._encode(evaluate(self.psd()).posterior_power)
        elif self._update == "gradient":
            self._descend(evaluate(self.psd()))
        else:
            self._sample(evaluate)

    def refine(self, evaluate: Evaluate) -> None:
        if self._refinement == "em":
            self._relax(evaluate(self.psd()))
        else:
            super().refine(evaluate)

    def surprise(self, power: Tensor) -> Tensor:
        """Negative log-likelihood under the speech prior, by its own encoder, at unit level."""
        own = power.transpose(1, 2)
        code = self.prior.encode(own)
        return gaussian_nll(own / code.gain, self.prior.decode(code.z)).mean((-2, -1))

    def _encode_again(self, evaluate: Evaluate) -> None:
        """Encode the present estimates, but not in the first update: the start is encoded."""
        if not self._begins:
            self._encode(observed_power(evaluate(self.psd())))
        self._begins = False

    def _encode(self, power: Tensor) -> None:
        """Set z (B, N, D, T) and the likeliest level of each source, from its power (B, F, N, T).

        The level matters: a second moment has none of the speckle that the prior's encoder expects,
        so that the decoded PSD is too large and would grow from round to round. A denoiser infers
        the level along with z, as a part of the power belongs to the others.
        """
        own = power.transpose(1, 2)
        if self.denoiser is None:
            code = self.prior.encode(own)
        else:
            code = self.denoiser.encode(own, own.sum(1, keepdim=True) - own + self.beside)
        self._infer(code.posterior)
        self._level = code.gain.transpose(1, 2)
        if self.denoiser is None:
            self._level = self._level * (power / self.psd()).mean((1, 3), keepdim=True)

    def _sample(self, evaluate: Evaluate) -> None:
        """Metropolis sweeps; frames too far apart to share context in the decoder move together."""
        reach = sum(self.prior.config.decoder_dilations)
        nll = evaluate(self.psd()).bin_nll().sum(1)
        frame = torch.arange(self._z.shape[-1], device=self._z.device)
        for _ in range(self.n_steps):
            for source in range(self._z.shape[1]):
                for phase in range(2 * reach + 1):
                    moving = frame % (2 * reach + 1) == phase
                    nll = self._metropolis(evaluate, source, moving, nll, reach)

    def _metropolis(
        self, evaluate: Evaluate, source: int, moving: Tensor, nll: Tensor, reach: int
    ) -> Tensor:
        """Propose new z of one source in the ``moving`` frames (T,); gives the new NLL, (B, T)."""
        before = self._z
        noise = torch.randn(before[:, 0].shape, generator=self._generator, dtype=before.dtype)
        self._z = before.clone()
        self._z[:, source] += self.rate * noise.to(before.device) * moving
        changed = evaluate(self.psd()).bin_nll().sum(1)
        rise = _windowed(changed - nll, reach) + (energy(self._z) - energy(before))[:, source]
        chance = torch.rand(rise.shape, generator=self._generator, dtype=rise.dtype)
        accepted = moving & (chance.to(rise.device).log() < -rise)
        self._z = torch.where(accepted[:, None, None], self._z, before)
        return torch.where(_windowed(accepted.to(nll.dtype), reach) > 0.5, changed, nll)


def observed_power(statistics: Statistics) -> Tensor:
    """Power of each source as the mixture shows it, ``λ a / b``, for the encoder, (B, F, N, T).

    It is ``|x|²`` for a source that is alone. The posterior second moment shrinks to λ where other
    sources dominate; this has speckle everywhere, like all that the encoder was trained on.
    Repeated rounds from the second moment lose detail and drift.
    """
    return statistics.psd * statistics.multiplier.square()


def _windowed(values: Tensor, reach: int) -> Tensor:
    """Sums (B, T) over each frame and ``reach`` frames on either side."""
    width = 2 * reach + 1
    return width * functional.avg_pool1d(values, width, stride=1, padding=reach)
