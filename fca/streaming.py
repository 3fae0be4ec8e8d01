"""Online separation: chunks of samples in, chunks of sources out."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fca.arguments import named
from fca.audio import check_rate
from fca.errors import InputError, at_least_one, whole, whole_seed
from fca.frontend import MAX_CHANNELS, check_dtype
from fca.inference.online import OnlineFit, Schedule
from fca.methods import Method, get_method
from fca.stft import STFT
from fca.waveforms import as_tensor, check_floating

WINDOW_SECONDS = 0.128
METHODS = ("fastmnmf1", "fastmnmf2")
"""Rows of the table that can be fitted to a stream."""
FREE = ("spatial", "update", "start", "fast_start", "walkers", "n_bases", "warmup")
"""Options of a row that can be changed for a stream."""
FIXED = (
    "fits",
    "dof",
    "spare",
    "gate",
    "surroundings",
    "align",
    "gain_update",
    "spatial_steps",
    "free_steps",
)
"""Fields of a row that cannot be changed for a stream."""


class OnlineSeparator:
    """Separates a stream block by block, carrying parameters and statistics along.

    It fits FastMNMF to a sliding window of the last seconds, with a warm start in every block, and
    to recursively averaged statistics of what was before the window. In about the first two seconds
    of sound nothing is separated, and all sources are equal.

    Parameters
    ----------
    sample_rate : int
        In Hz; the stream is not resampled.
    n_channels : int
        Microphones M.
    n_sources : int
        Talkers N.
    reference_channel : int
        Microphone (from 0) whose source images are returned.
    method : str or Method
        fastmnmf1 or fastmnmf2, or a row of your own of that kind.
    n_fft : int, optional
        Window in samples; the power of two nearest to 128 ms unless given.
    hop : int, optional
        Shift in samples, a divisor of the window; a quarter of it unless given.
    block : int
        Frames that are fitted and filtered at once. One frame has the shortest latency, but takes
        two to three times as long to compute as four, which may not keep up with real time: see
        ``recipes/streaming``.
    window, first, memory : float
        In seconds: how much is fitted again with every block, how much must come in before the
        first fit, and the time constant with which older sound is forgotten.
    n_iter : int
        Iterations per block.
    seed : int
        Seed of all random numbers.
    dtype : torch.dtype
        torch.float32 or torch.float64.
    **options
        Of the method, ``spatial``, ``update`` and ``start``, with ``fast_start`` and ``walkers`` of
        the start "rank-1"; of its NMF sources, ``n_bases`` and ``warmup``. Other options of
        :class:`~fca.separator.Separator` are refused.

    Raises
    ------
    InputError
        For options that do not exist or make no sense together.

    Examples
    --------
    >>> import torch
    >>> from fca.streaming import OnlineSeparator
    >>> separator = OnlineSeparator(16000, n_channels=4, n_sources=2)
    >>> separator.latency
    3584
    >>> separator.push(torch.randn(4, 1000)).shape
    torch.Size([2, 1000])
    """

    _input: Tensor
    _overlap: Tensor
    _output: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_channels: int,
        n_sources: int = 2,
        *,
        reference_channel: int = 0,
        method: str | Method = "fastmnmf2",
        n_fft: int | None = None,
        hop: int | None = None,
        block: int = 4,
        window: float = 4.0,
        first: float = 2.0,
        memory: float = 2.0,
        n_iter: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        check_rate(sample_rate)
        check_dtype(dtype)
        _check_seconds(window, first, memory)
        self.sample_rate, self.dtype = whole("sample_rate", sample_rate), dtype
        self.n_channels = whole("n_channels", n_channels)
        self.n_sources = at_least_one("n_sources", n_sources)
        self.reference_channel = whole("reference_channel", reference_channel)
        _check_channels(self.n_channels, self.reference_channel)
        self.block = at_least_one("block", block)
        self.stft = _stft(self.sample_rate, n_fft, hop)
        per_second = self.sample_rate / self.stft.hop
        self._schedule = Schedule(
            max(2 * self.block, round(first * per_second)),
            max(2 * self.block, round(window * per_second)),
            memory * per_second,
            at_least_one("n_iter", n_iter),
        )
        self._method = _online(method, self.n_sources, options)
        self._seed = whole_seed(seed)
        self._reset()

    @property
    def latency(self) -> int:
        """Algorithmic latency in samples: a window, and a hop for each frame of a block but one."""
        return self.stft.n_fft + (self.block - 1) * self.stft.hop

    @torch.no_grad()
    def push(self, chunk: Tensor | ArrayLike) -> Tensor:
        """Take in samples, and return as many of the sources, delayed by :attr:`latency`.

        Parameters
        ----------
        chunk : Tensor or array
            (channels, samples), any number of samples. How a stream is cut into chunks makes no
            difference.

        Returns
        -------
        Tensor
            Source images at the reference channel, (N, samples). They sum to the mixture.

        Raises
        ------
        InputError
            For another number of channels, integers, or NaN or infinite samples; the chunk is then
            ignored.
        """
        samples = self._checked(chunk)
        self._input = torch.cat([self._input, samples], dim=-1)
        advance = self.block * self.stft.hop
        ready = [self._output]
        while self._input.shape[-1] >= self.latency:
            ready.append(self._separate(self._input[:, : self.latency]))
            self._input = self._input[:, advance:]
        joined = torch.cat(ready, dim=-1)
        count = samples.shape[-1]
        self._output = joined[:, count:]
        return joined[:, :count]

    def flush(self) -> Tensor:
        """The last :attr:`latency` samples of the sources, after which a new stream can begin."""
        rest = self.push(torch.zeros(self.n_channels, self.latency, dtype=self.dtype))
        self._reset()
        return rest

    def _reset(self) -> None:
        lead = self.stft.n_fft - self.stft.hop
        self._fit = OnlineFit(self._method, self.n_sources, self._schedule, self._seed)
        self._input = torch.zeros(self.n_channels, lead, dtype=self.dtype)
        self._overlap = torch.zeros(self.n_sources, lead, dtype=self.dtype)
        self._output = torch.zeros(self.n_sources, self.latency, dtype=self.dtype)
        self._surplus = lead

    def _separate(self, samples: Tensor) -> Tensor:
        """The finished samples (N, block * hop) of the sources, from one block of frames."""
        hann = torch.hann_window(self.stft.n_fft, dtype=self.dtype)
        frames = samples.unfold(-1, self.stft.n_fft, self.stft.hop) * hann
        spectrum = torch.fft.rfft(frames).transpose(1, 2)  # (M, F, L)
        images = self._fit.push(spectrum.transpose(0, 1), self.reference_channel)
        parts = torch.fft.irfft(images.transpose(1, 2), n=self.stft.n_fft) * hann
        return self._overlap_add(parts / self._weight(hann))

    def _overlap_add(self, parts: Tensor) -> Tensor:
        """Add frames (N, L, n_fft) to what earlier blocks left, and return what is complete."""
        total = torch.nn.functional.pad(self._overlap, (0, self.block * self.stft.hop))
        for k in range(self.block):
            start = k * self.stft.hop
            total[:, start : start + self.stft.n_fft] += parts[:, k]
        end = self.block * self.stft.hop
        done, self._overlap = total[:, :end], total[:, end:]
        dropped = min(self._surplus, end)
        self._surplus -= dropped
        return done[:, dropped:]

    def _weight(self, hann: Tensor) -> Tensor:
        """Sum of the squared windows over each sample of a frame, (n_fft,)."""
        period: Tensor = hann.square().reshape(-1, self.stft.hop).sum(0)
        return period.repeat(self.stft.n_fft // self.stft.hop)

    def _checked(self, chunk: Tensor | ArrayLike) -> Tensor:
        samples = as_tensor(chunk)
        check_floating(samples)
        samples = samples.detach().to("cpu", self.dtype)
        if samples.ndim != 2 or samples.shape[0] != self.n_channels:
            raise InputError(
                f"expected chunks ({self.n_channels}, samples), got {tuple(samples.shape)}"
            )
        if not bool(torch.isfinite(samples).all()):
            raise InputError("the chunk holds NaN or infinite samples")
        return samples


def _online(method: str | Method, n_sources: int, options: dict[str, Any]) -> Method:
    """The row with a source model that can slide.

    Raises
    ------
    InputError
        If the method is not one of those that can be fitted to a stream, or an option cannot be
        changed.
    """
    if "source" in options:
        raise InputError("source cannot be changed for a stream")
    row = get_method(method)
    own = [name for name in named(OnlineSeparator) if name != "dtype"]
    row.check_options(options, own, offered=[*own, *FREE])
    if "jointly diagonal" not in row.spatial or row.source != "nmf" or row.dof is not None:
        raise InputError(f"{row.name} cannot be fitted to a stream; choose {', '.join(METHODS)}")
    online = row.with_options(**{"n_bases": 8, **options, "source": "sliding nmf"})
    if online.mixing.reverberation != "none":
        raise InputError("a stream is separated without a model of the reverberation")
    if online.start == "network":
        raise InputError("a stream is separated without a network that infers the start")
    if "jointly diagonal" not in online.spatial:
        raise InputError(f"a stream has no {online.spatial} model, but a jointly diagonal one")
    changed = [name for name in FIXED if getattr(online, name) != getattr(row, name)]
    if changed:
        raise InputError(f"{changed[0]} cannot be changed for a stream")
    if online.start == "noise floor" and n_sources != 2:
        raise InputError(f"start 'noise floor' is for two sources, not {n_sources}")
    return online


def _stft(sample_rate: int, n_fft: int | None, hop: int | None) -> STFT:
    """The transform of a stream, whose shift divides the window."""
    nearest = 2 ** round(math.log2(WINDOW_SECONDS * sample_rate))
    size = nearest if n_fft is None else whole("n_fft", n_fft)
    stft = STFT(size, size // 4 if hop is None else hop)
    if stft.n_fft % stft.hop:
        raise InputError(f"the hop must divide the window, got {stft}")
    return stft


def _check_seconds(window: float, first: float, memory: float) -> None:
    if not 0 < window < math.inf:
        raise InputError(f"window must be a positive number of seconds, got {window}")
    if not 0 < first <= window:
        raise InputError(f"first must be above 0 and at most window={window:g}, got {first}")
    if not memory > 0:
        raise InputError(f"memory must be positive, got {memory}")


def _check_channels(n_channels: int, reference_channel: int) -> None:
    if not 2 <= n_channels <= MAX_CHANNELS:
        raise InputError(f"2 to {MAX_CHANNELS} channels can be separated, got {n_channels}")
    if not 0 <= reference_channel < n_channels:
        raise InputError(f"reference channel {reference_channel}: there are 0 to {n_channels - 1}")
