"""From waveforms to the spectrograms that models are fitted to, and back.

Models see recordings at one sample rate, without dead channels and constant offsets, and at unit
mean power. Estimates come back at the rate, length and scale of the recording. If a recording has a
lower rate, models without a network do not see the frequencies above its band: there is next to
nothing there, but as every frequency counts alike, it would blur what all frequencies share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from fca.audio import check_rate, fit_length, resample
from fca.dereverberation import dereverberate
from fca.errors import InputError
from fca.linalg import abs2
from fca.stft import STFT

SAMPLE_RATE = 16000
"""Sample rate of all models, in Hz."""
MAX_CHANNELS = 16
_PASSBAND = 0.95
"""Share of a lower rate's band that resampling leaves unchanged."""
FAILING_SECONDS = 0.5
"""Digital silence of a microphone that is no pause, if others go on."""
_LOUD = 0.03
_DEAD = 1e-6
"""A channel with less than this share of the amplitude of the strongest one carries no signal."""
_SAME = 1e-6
"""Most power that a copy of a channel may have of its own, relative to its power: -60 dB, as after
rounding to 16 bits."""
_ALIKE = "all channels carry the same signal, as one microphone would"
_FOR_ONE = "for one talker in noise there is fca enhance"


@dataclass(frozen=True)
class Frontend:
    """How a batch of recordings was prepared for a model, and how to undo it.

    Attributes
    ----------
    stft : STFT
        STFT at :data:`SAMPLE_RATE`.
    rate, length : int
        Sample rate and number of samples of the recordings.
    n_channels : int
        Channels of the recordings, dead ones included.
    alive : tuple of int
        Channels that models see.
    copies : tuple of (int, int)
        Pairs of a channel that is a multiple of an earlier one, and the first such channel.
    active : Tensor
        Which frames models see, (T,): all but those of digital silence in every recording.
    gain : Tensor
        Amplitude by which each recording was divided, (B, 1, 1).
    """

    stft: STFT
    rate: int
    length: int
    n_channels: int
    alive: tuple[int, ...]
    copies: tuple[tuple[int, int], ...]
    active: Tensor
    gain: Tensor

    @property
    def remarks(self) -> list[str]:
        """What is wrong with channels, one line for each; they count from 0."""
        dead = sorted(set(range(self.n_channels)) - set(self.alive))
        remarks = [f"channel {channel} carries no signal" for channel in dead]
        if 0 < len(self.copies) == len(self.alive) - 1:
            return [*remarks, _ALIKE]
        return remarks + [f"channel {copy} is a copy of channel {of}" for copy, of in self.copies]

    def synthesise(self, spectrum: Tensor) -> Tensor:
        """Waveforms (B, N, C, samples) of source images (B, F, N, C, T)."""
        length = _working_length(self.length, self.rate)
        whole = self.over_whole_band(spectrum)
        if not self.active.all():
            seen = whole
            whole = seen.new_zeros(*seen.shape[:-1], len(self.active))
            whole = whole.index_copy(-1, self.active.nonzero()[:, 0], seen)
        signal = self.stft.synthesise(whole.permute(0, 2, 3, 1, 4), length)
        return change_rate(signal * self.gain[:, None], SAMPLE_RATE, self.rate, self.length)

    def over_whole_band(self, values: Tensor) -> Tensor:
        """Values (B, F, ...) with zeros at the frequencies that models do not see."""
        missing = self.stft.n_freq - values.shape[1]
        if missing == 0:
            return values
        return torch.cat([values, values.new_zeros(len(values), missing, *values.shape[2:])], dim=1)

    def with_dead_channels(self, images: Tensor) -> Tensor:
        """Images (B, N, alive channels, samples) with silence at the dead channels."""
        whole = images.new_zeros(*images.shape[:2], self.n_channels, images.shape[-1])
        return whole.index_copy(2, torch.tensor(self.alive, device=images.device), images)


def prepare(
    waves: Tensor,
    rate: int,
    stft: STFT,
    min_channels: int = 2,
    *,
    early: bool = False,
    whole_band: bool = True,
) -> tuple[Tensor, Frontend]:
    """Spectrograms X (B, F, M, T) of recordings (B, M, samples) at any rate.

    With ``early``, late reverberation is removed first. Without ``whole_band``, frequencies are
    left out that recordings at a lower rate do not contain.

    Raises
    ------
    InputError
        If the recordings are not finite, too short, silent, below :data:`~fca.audio.MIN_RATE`, or
        have fewer than ``min_channels`` live channels of different signals or more than
        :data:`MAX_CHANNELS`.
    """
    check(waves, rate, stft.n_fft, min_channels)
    signal = change_rate(waves, rate, SAMPLE_RATE, _working_length(waves.shape[-1], rate))
    signal = signal - signal.mean(-1, keepdim=True)
    alive = live_channels(signal, min_channels)
    signal = signal[:, list(alive)]
    copies = tuple((alive[copy], alive[first]) for copy, first in copied_channels(signal))
    if len(alive) - len(copies) < min_channels:
        raise InputError(f"{_ALIKE}; {_FOR_ONE}")
    if early:
        signal = torch.stack([_early(recording) for recording in signal])
    gain = _root_mean_square(signal)
    missing = analysed_length(waves.shape[-1], rate, stft) - signal.shape[-1]
    signal = pad(signal / gain, (0, missing))
    active = active_frames(signal, stft)
    spectrum = stft.analyse(signal).transpose(1, 2)
    if not whole_band:
        spectrum = spectrum[:, : held_bins(rate, stft)]
    spectrum = spectrum.contiguous() if active.all() else spectrum[..., active].contiguous()
    power = abs2(spectrum.detach()).mean((1, 2, 3), keepdim=True).sqrt()
    frontend = Frontend(
        stft, rate, waves.shape[-1], waves.shape[1], alive, copies, active, gain * power[..., 0]
    )
    return spectrum / power, frontend


def check_dtype(dtype: torch.dtype) -> None:
    """Raise :class:`InputError` unless models can be fitted in this precision."""
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"dtype must be torch.float32 or torch.float64, got {dtype}")


def check(waves: Tensor, rate: int, n_fft: int, min_channels: int = 2) -> None:
    """Raise :class:`InputError` unless ``waves`` (B, M, samples) can be separated."""
    n_channels, length = waves.shape[1:]
    if n_channels < min_channels:
        raise InputError(
            f"separation needs at least two microphones, the recording has one channel; {_FOR_ONE}"
        )
    if n_channels > MAX_CHANNELS:
        turned = "; arrays are (channels, samples)" if n_channels > length else ""
        raise InputError(f"{n_channels} channels, at most {MAX_CHANNELS} are supported{turned}")
    check_rate(rate)
    if _working_length(length, rate) < n_fft:
        raise InputError(
            f"the recording is too short: {length / rate:.3f} s, one window is "
            f"{n_fft / SAMPLE_RATE:.3f} s"
        )
    if not bool(torch.isfinite(waves).all()):
        *_, channel, sample = (~torch.isfinite(waves)).nonzero()[0].tolist()
        raise InputError(
            f"the recording holds NaN or infinite samples, of channel {channel} from sample "
            f"{sample} on"
        )


def live_channels(signal: Tensor, min_channels: int = 2) -> tuple[int, ...]:
    """Channels of recordings (B, M, samples) that carry a signal.

    Raises
    ------
    InputError
        If a recording is silent or too loud, fewer than ``min_channels`` are alive, or different
        channels are alive in the recordings of a batch.
    """
    level = signal.detach().square().mean(-1).sqrt()
    loudest = level.amax(-1, keepdim=True)
    if not bool(loudest.isfinite().all()):
        raise InputError(f"samples as large as {float(signal.abs().max()):.0e} cannot be squared")
    if bool((loudest <= torch.finfo(signal.dtype).tiny ** 0.5).any()):
        raise InputError("the recording is silent")
    alive = level > _DEAD * loudest
    if not bool((alive == alive[:1]).all()):
        raise InputError("recordings with different dead channels cannot share a batch")
    channels = tuple(alive[0].nonzero()[:, 0].tolist())
    if len(channels) < min_channels:
        raise InputError(f"only channel {channels[0]} carries a signal; separation needs two")
    return channels


def working_channels(signal: Tensor, sample_rate: int) -> list[int]:
    """Channels of a recording (M, samples) that carry a signal all the time.

    A channel fails if it is constant for :data:`FAILING_SECONDS` while others are loud.
    """
    size = min(round(FAILING_SECONDS * sample_rate), signal.shape[-1])
    frames = signal.unfold(-1, size, max(size // 2, 1))
    change = frames.amax(-1) - frames.amin(-1)
    loudest = change.amax(0)
    fails = (change <= _DEAD * loudest) & (loudest > _LOUD * loudest.max())
    return [channel for channel, failing in enumerate(fails.any(1).tolist()) if not failing]


def copied_channels(signal: Tensor) -> list[tuple[int, int]]:
    """Channels of recordings (B, M, samples) that are multiples of others, and which first."""
    samples = signal.detach().double()
    product = samples @ samples.mT
    level = product.diagonal(dim1=-2, dim2=-1).sqrt()
    own = 1 - (product / level[:, :, None] / level[:, None]).square()
    first = (own < _SAME).all(0).to(torch.uint8).argmax(1).tolist()
    return [(channel, other) for channel, other in enumerate(first) if other < channel]


def _early(recording: Tensor) -> Tensor:
    """A recording (M, samples) without its late reverberation.

    Copies are left out, as with them prediction from all channels is a singular problem. Each is
    made of what becomes of its original.
    """
    copies = copied_channels(recording[None])
    distinct = sorted(set(range(len(recording))) - {copy for copy, _ in copies})
    early = torch.empty_like(recording, requires_grad=False)
    early[distinct] = dereverberate(recording[distinct])
    heard = recording.detach().double()
    for copy, first in copies:
        factor = heard[copy] @ heard[first] / heard[first].square().sum()
        early[copy] = factor.to(early) * early[first]
    return early


def active_frames(signal: Tensor, stft: STFT) -> Tensor:
    """Frames (T,) in which some recording of (B, M, samples) is not constant.

    Digital silence says nothing about the sources; where it prevails, it would let the scale of a
    demixing matrix grow without bound. A frame is kept for all recordings if it is active in any,
    so that a shorter one, padded with zeros, separates worse than it does alone; the ``lengths`` of
    :class:`~fca.module.SeparatorModule` avoid that.
    """
    step = signal.detach().diff(dim=-1).abs().amax((0, 1))
    moving = (step > _DEAD * step.max()).to(signal.dtype)
    half = stft.n_fft // 2
    padded = pad(moving, (half, half + 1))
    frames: Tensor = padded.unfold(0, stft.n_fft, stft.hop).amax(-1) > 0
    return frames


def held_bins(rate: int, stft: STFT) -> int:
    """Number of frequencies, from zero, that a resampled recording of ``rate`` (Hz) contains."""
    if rate >= SAMPLE_RATE:
        return stft.n_freq
    return int(_PASSBAND * rate / SAMPLE_RATE * stft.n_fft / 2) + 1


def change_rate(signal: Tensor, rate: int, new_rate: int, length: int) -> Tensor:
    """Resample (..., samples) to ``length`` samples; gradients do not pass a change of rate."""
    if rate == new_rate:
        return signal
    flat: NDArray[Any] = signal.detach().cpu().reshape(-1, signal.shape[-1]).numpy()
    fitted = fit_length(resample(flat, rate, new_rate), length)
    return torch.from_numpy(fitted).reshape(*signal.shape[:-1], length).to(signal)


def _root_mean_square(signal: Tensor) -> Tensor:
    return signal.detach().square().mean((1, 2), keepdim=True).sqrt()


def analysed_length(length: int, rate: int, stft: STFT) -> int:
    """Samples at :data:`SAMPLE_RATE` that are analysed of a recording of ``length`` samples."""
    return stft.padded(_working_length(length, rate))


def _working_length(length: int, rate: int) -> int:
    return length if rate == SAMPLE_RATE else -(-length * SAMPLE_RATE // rate)
