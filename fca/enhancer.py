"""Speech enhancement: one talker out of noise, with the speech prior and one microphone or more.

The talker's PSD is decoded from latent vectors, and everything is fitted to the recording itself,
as in VAE-NMF (Bando et al. 2018), which factorises the noise's PSD. With several microphones their
covariances are jointly diagonalisable, as in FastMNMF-DP (Sekiguchi et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from fca.arguments import named
from fca.errors import InputError, check_choice
from fca.frontend import SAMPLE_RATE
from fca.inference.iterate import Callback
from fca.methods import Method
from fca.prior import SpeechPrior
from fca.separation import Separation
from fca.separator import Separator
from fca.waveforms import Signal

DEFAULT_PRIOR = "speech-prior"
DEFAULT_INFERENCE = "denoise"
_DECIDED = ("method", "n_sources")
"""Options of a separator that are not chosen here."""
VAE_NMF = Method(
    "vae-nmf",
    "jointly diagonal",
    "vae, nmf",
    "ip",
    "Bando, Mimura, Itoyama, Yoshii & Kawahara 2018",
    start="noise floor",
    fits="sources + noise",
    min_channels=1,
)


def _vae_nmf(n_iter: int, inference: str, **options: Any) -> Method:
    return replace(VAE_NMF, n_iter=n_iter, options={"inference": inference, **options})


INFERENCES: dict[str, Method] = {
    "denoise": replace(
        VAE_NMF,
        name="deep-fca-noise",
        source="vae, noise",
        paper="this toolkit",
        n_iter=2,
        gain_update="me",
        spatial_steps=4,
        n_refine=8,
        surroundings=True,
    ),
    "encode": _vae_nmf(1, "encode"),
    "gradient": _vae_nmf(3, "gradient", n_steps=4, rate=0.1),
    "sample": _vae_nmf(3, "sample", n_steps=5, rate=0.02),
}
"""How z is inferred, and the settings that do best on validation speech.

There are few iterations because the likelihood does not tell speech from noise for long: a flexible
prior describes noise, too, and takes it over from the model of the noise as the cost falls.
"""


def get_inference(name: str) -> Method:
    """Row of an inference; an unknown one is an :class:`InputError` that lists the known."""
    check_choice("inference", name, INFERENCES)
    return INFERENCES[name]


class Enhancement(Separation):
    """What :func:`enhance` returns: a separation into one talker and the rest."""

    @property
    def speech(self) -> Tensor:
        """Talker at the reference channel, (..., samples)."""
        return self.sources[..., 0, :]

    @property
    def noise(self) -> Tensor:
        """What the talker leaves of the recording there, (..., samples)."""
        return self.residual


class Enhancer(Separator):
    """Takes one talker out of noise, in recordings of one channel or more.

    Parameters
    ----------
    inference : {"denoise", "encode", "gradient", "sample"}
        How the latent vectors are found. "denoise" is by the encoder of deep-fca, which sees the
        noise, too, and then by refinement, beside stationary noise. The others are VAE-NMF: by the
        prior's own encoder, by gradient steps, or by Metropolis sampling as in the paper.
    prior : SpeechPrior, str or path, optional
        What describes speech in VAE-NMF: a prior, or the name, folder or hub id of one. The STFT is
        its own. "denoise" has the prior of its ``denoiser``.
    reference_channel : int
        Microphone (from 0) at which the speech is returned.
    n_iter : int, optional
        Iterations; by default what suits the inference.
    seed : int
        Of all random numbers.
    device : str
        "auto" takes a GPU where there is one.
    dtype : torch.dtype
        torch.float32 or torch.float64.
    **options
        As of :class:`~fca.separator.Separator`: n_bases of the noise, n_steps and rate of the
        inference, start, update.

    Raises
    ------
    InputError
        For options that do not exist or make no sense together, or a network that cannot be had.
    """

    def __init__(
        self,
        inference: str = DEFAULT_INFERENCE,
        prior: SpeechPrior | str | Path | None = None,
        *,
        reference_channel: int = 0,
        n_iter: int | None = None,
        seed: int = 0,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        row = get_inference(inference)
        own = _with_prior(row, prior)
        for name in (*_DECIDED, *own):
            if name in options:
                raise InputError(f"{name} cannot be chosen: the inference or its prior decides it")
        super().__init__(
            row,
            1,
            reference_channel=reference_channel,
            n_iter=n_iter,
            seed=seed,
            device=device,
            dtype=dtype,
            **own,
            **options,
        )

    @classmethod
    def _own(cls) -> list[str]:
        names = dict.fromkeys([*named(cls), *super()._own()])
        return [name for name in names if name not in (*_DECIDED, "device", "dtype")]

    def __call__(
        self,
        mixture: Signal,
        sample_rate: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Enhancement:
        found = super().__call__(mixture, sample_rate, callbacks)
        return Enhancement(**{field.name: getattr(found, field.name) for field in fields(found)})

    def guided(self, *arguments: Any, **options: Any) -> NoReturn:
        """Not for enhancement, where there is one talker who speaks whenever he is heard.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("enhancement takes no activities: there is one talker only")


def enhance(
    mixture: Signal,
    sample_rate: int | None = None,
    *,
    inference: str = DEFAULT_INFERENCE,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Enhancement:
    """Take one talker out of noise in one call; see :class:`Enhancer` for the options.

    Parameters
    ----------
    mixture : Tensor, array or path
        (channels, samples) or (batch, channels, samples), one channel or more.
    sample_rate : int
        In Hz; may be left out for files, or if it is 16000.
    inference : {"denoise", "encode", "gradient", "sample"}
        How the latent vectors of the prior are found.
    callbacks : sequence of Callback
        Told the progress after every iteration.

    Returns
    -------
    Enhancement
        ``speech`` and ``noise`` at the reference channel; they sum to the recording.

    Raises
    ------
    InputError
        For options or recordings that cannot be used; one line says why.

    Examples
    --------
    >>> import fca
    >>> result = fca.enhance("noisy.wav")  # doctest: +SKIP
    >>> result.speech.shape  # doctest: +SKIP
    torch.Size([64000])
    """
    return Enhancer(inference, **options)(mixture, sample_rate, callbacks)


def _with_prior(row: Method, prior: SpeechPrior | str | Path | None) -> dict[str, Any]:
    """Options of a row with a prior that decide on its window; others have a denoiser's."""
    if row.source != VAE_NMF.source:
        if prior is not None:
            raise InputError(f"{row.name} has the prior of its denoiser and takes no other")
        return {}
    prior = DEFAULT_PRIOR if prior is None else prior
    speech = prior if isinstance(prior, SpeechPrior) else SpeechPrior.from_pretrained(prior)
    if speech.config.sample_rate != SAMPLE_RATE:
        raise InputError(f"the prior is for {speech.config.sample_rate} Hz, not {SAMPLE_RATE}")
    return {"prior": speech, "n_fft": speech.config.n_fft, "hop": speech.config.hop}
