"""Mixtures as in :mod:`recipes.neural.data`, whole batches made where training is.

An accelerator takes a step in less time than processors need to prepare it. So speech and rooms
are kept in its memory, and a batch is drawn, convolved and mixed there at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fca.errors import InputError
from fca.frontend import SAMPLE_RATE
from fca.positions import SPEED_OF_SOUND
from fca.simulate.images import TALKER_RMS
from recipes.neural.data import Mixtures, Room
from recipes.prior.data import Augmentation, Corpus
from recipes.prior.resident import Resident

KNOTS = 257
"""Frequencies at which the coherence of a diffuse field is factored, from zero to the highest."""
LOADING = 1e-4
"""Of that coherence, which at low frequencies is that of one microphone."""

Batch = tuple[Tensor, Tensor]
"""Mixtures (B, channels, samples) and their numbers of talkers (B,)."""


class ResidentMixtures:
    """The speech, noise and rooms of simulated mixtures in the memory of a device.

    Parameters
    ----------
    mixtures : Mixtures
        Where they are drawn from; all rooms of the bank must have as many talkers and microphones.
    device : torch.device
        Where batches are made.

    Raises
    ------
    InputError
        If the rooms have not, or fewer than the conditions may ask for.
    """

    def __init__(self, mixtures: Mixtures, device: torch.device) -> None:
        self.device, self.conditions = device, mixtures.conditions
        self._speech = _resident(mixtures.speech, device)
        self._noise = None if mixtures.noise is None else _resident(mixtures.noise, device)
        rooms = [mixtures.bank.read(path) for path in mixtures.bank.paths]
        self._responses = _padded(rooms).to(device)
        self._mics = torch.stack([torch.as_tensor(room.mics) for room in rooms]).float().to(device)
        rooms[0].check(self.conditions.talkers[1], self.conditions.channels[1])

    def draw(self, count: int, samples: int, generator: torch.Generator) -> Batch:
        """``count`` mixtures that have as many talkers each, from a generator of the device."""
        n_talkers = self._integer(self.conditions.talkers, generator)
        n_channels = self._integer(self.conditions.channels, generator)
        responses, mics = self._rooms(count, n_talkers, n_channels, generator)
        dry = self._speech.draw(count * n_talkers, samples, generator)
        images = _convolve(dry.reshape(count, n_talkers, 1, samples), responses)
        speech = self._levelled(images, generator).sum(1)
        mixture = speech + self._scaled_noise(speech, mics, generator)
        return mixture, torch.full((count,), n_talkers, device=self.device)

    def _rooms(
        self, count: int, n_talkers: int, n_channels: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Responses (B, N, M, taps) and microphones (B, M, 3), both in random order."""
        n_rooms, most_talkers, most_channels, _ = self._responses.shape
        number = torch.randint(n_rooms, (count,), device=self.device, generator=generator)
        talkers = self._uniform((count, most_talkers), generator).argsort(1)[:, :n_talkers]
        mics = self._uniform((count, most_channels), generator).argsort(1)[:, :n_channels]
        chosen = number[:, None, None], talkers[:, :, None], mics[:, None]
        return self._responses[chosen].float(), self._mics[number[:, None], mics]

    def _levelled(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Images (B, N, M, samples), the talkers after the first at levels drawn at random."""
        size = self.conditions.level_db
        level = size * (2 * self._uniform(images.shape[:2], generator) - 1)
        level[:, 0] = 0.0
        rms = images.square().mean((2, 3)).sqrt().clamp_min(torch.finfo(images.dtype).tiny)
        gain = TALKER_RMS * torch.pow(10.0, level / 20) / rms
        return gain[..., None, None] * images

    def _scaled_noise(self, speech: Tensor, mics: Tensor, generator: torch.Generator) -> Tensor:
        """Noise (B, M, samples) below the speech, in some of the mixtures a diffuse field."""
        count = len(speech)
        diffuse = self._uniform((count, 1, 1), generator) < self.conditions.diffuse
        white = torch.randn(speech.shape, device=self.device, generator=generator)
        noise = torch.where(diffuse, diffuse_field(self._excerpts(white, generator), mics), white)
        low, high = self.conditions.snr_db
        snr_db = low + (high - low) * self._uniform((count, 1, 1), generator)
        power, wanted = (x.square().mean((1, 2), keepdim=True) for x in (noise, speech))
        return noise * (wanted / power * torch.pow(10.0, -snr_db / 10)).sqrt()

    def _excerpts(self, white: Tensor, generator: torch.Generator) -> Tensor:
        """Independent noises of equal power for the microphones."""
        if self._noise is None:
            return white
        drawn = self._noise.draw(white[..., 0].numel(), white.shape[-1], generator)
        return (drawn / drawn.square().mean(-1, keepdim=True).sqrt()).reshape(white.shape)

    def _integer(self, limits: tuple[int, int], generator: torch.Generator) -> int:
        low, high = limits
        return int(torch.randint(low, high + 1, (), device=self.device, generator=generator))

    def _uniform(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.rand(tuple(shape), device=self.device, generator=generator)


def diffuse_field(noises: Tensor, mics: Tensor) -> Tensor:
    """Spherically isotropic noise from independent noises (B, M, samples) of equal power.

    Mixed by Cholesky factors of the coherence ``sinc(2 f d / c)`` of microphones (B, M, 3), as
    :func:`fca.simulate.diffuse_noise` by its principal roots; linear between :data:`KNOTS`.
    """
    samples = noises.shape[-1]
    distance = torch.cdist(mics.double(), mics.double())[:, None]
    hertz = torch.linspace(0, SAMPLE_RATE / 2, KNOTS, dtype=torch.double, device=mics.device)
    coherence = torch.sinc(2 * hertz[:, None, None] * distance / SPEED_OF_SOUND)
    eye = torch.eye(mics.shape[1], dtype=torch.double, device=mics.device)
    factors = torch.linalg.cholesky((coherence + LOADING * eye) / (1 + LOADING)).to(noises.dtype)
    knots = factors.permute(0, 2, 3, 1).flatten(1, 2)
    curves = interpolate(knots, samples // 2 + 1, mode="linear", align_corners=True)
    mixing = curves.reshape(*factors.shape[:1], *factors.shape[2:], -1).to(torch.cfloat)
    spectra = torch.einsum("bmkf,bkf->bmf", mixing, torch.fft.rfft(noises))
    field: Tensor = torch.fft.irfft(spectra, samples)
    return field


def _resident(corpus: Corpus, device: torch.device) -> Resident:
    return Resident(corpus, Augmentation(), [], device)


def _padded(rooms: Sequence[Room]) -> Tensor:
    """Responses of all rooms, (rooms, talkers, microphones, taps), in half precision."""
    if len({room.responses.shape[:2] for room in rooms}) > 1:
        raise InputError("the rooms of a resident bank must have as many talkers and microphones")
    longest = max(room.responses.shape[-1] for room in rooms)
    halves = (torch.from_numpy(room.responses).half() for room in rooms)
    return torch.stack([pad(half, (0, longest - half.shape[-1])) for half in halves])


def _convolve(dry: Tensor, responses: Tensor) -> Tensor:
    """Convolution along the last axis, as long as the dry signals."""
    samples = dry.shape[-1]
    size = 1 << (samples + responses.shape[-1] - 2).bit_length()
    spectra = torch.fft.rfft(dry, size) * torch.fft.rfft(responses, size)
    convolved: Tensor = torch.fft.irfft(spectra, size)
    return convolved[..., :samples]
