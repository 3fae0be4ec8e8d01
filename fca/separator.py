"""The separator: from waveforms of mixtures to waveforms of sources."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fca.allocator import keep_freed_memory
from fca.arguments import named
from fca.dereverberation import require_nara_wpe
from fca.errors import (
    InputError,
    at_least_one,
    check_choice,
    not_negative,
    whole,
    whole_seed,
)
from fca.fitting import Fitting
from fca.frontend import MAX_CHANNELS, SAMPLE_RATE, Frontend, check_dtype, prepare
from fca.inference.iterate import Callback
from fca.inference.refine import nothing_to_refine
from fca.methods import DEFAULT_METHOD, Method, get_method
from fca.rendering import Renderer
from fca.separation import Separation
from fca.stft import STFT
from fca.waveforms import Signal, load

OUTPUT_FILTERS = ("wiener", "mvdr")
MAX_SOURCES = MAX_CHANNELS
"""Most sources that can be asked for, whatever the number of microphones."""


@contextmanager
def _normal_mode() -> Iterator[None]:
    """Leave inference mode, in which refinement could take no gradients.

    Gradients are recorded inside only if they are recorded outside.
    """
    with_graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(with_graph):
        yield


@contextmanager
def _invertible() -> Iterator[None]:
    """Raise a one-line :class:`InputError` for matrices that can no longer be inverted."""
    try:
        yield
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise InputError("singular matrices: the model diverged") from None


class Separator:
    """Separates recordings by one method.

    Parameters
    ----------
    method : str or Method
        Name of a row of :data:`fca.methods.METHODS`, or a row of your own.
    n_sources : int
        Number of talkers.
    reference_channel : int
        Microphone (from 0) whose source images are returned.
    n_iter : int, optional
        Number of iterations; the method's default if not given.
    n_starts : int, optional
        Number of starts, each with a random seed of its own; the method's default if not given.
        Every recording keeps the fit of lowest cost, except that starts which the source model
        likes clearly less are dropped first.
    n_refine : int, optional
        Steps of :class:`~fca.inference.refine.Refinement` after the iterations: gradient steps on
        latent vectors, or EM updates, depending on the source model. The method's default if not
        given, or none if its source model has no refinement.
    output_filter : {"wiener", "mvdr"}
        How sources are extracted: by the model's Wiener filter, or by a time-invariant MVDR
        beamformer from the model's covariances, which distorts less and suppresses less.
    dereverberate : bool
        Remove late reverberation first, by weighted prediction error (WPE).
    n_fft : int, optional
        Window in samples at 16 kHz; the method's default if not given.
    hop : int, optional
        Shift in samples at 16 kHz; a quarter of the window if not given.
    seed : int
        Seed of all random numbers.
    device : str
        Device for the computation; "auto" takes a GPU if there is one.
    dtype : torch.dtype
        Precision, torch.float32 or torch.float64.
    **options
        Fields of :class:`~fca.methods.Method` to change, such as ``start`` or ``update``, and
        arguments of its source model, such as ``n_bases``.

    Raises
    ------
    InputError
        For options that do not exist or make no sense together.
    """

    def __init__(
        self,
        method: str | Method = DEFAULT_METHOD,
        n_sources: int = 2,
        *,
        reference_channel: int = 0,
        n_iter: int | None = None,
        n_starts: int | None = None,
        n_refine: int | None = None,
        output_filter: str = "wiener",
        dereverberate: bool = False,
        n_fft: int | None = None,
        hop: int | None = None,
        seed: int = 0,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        row = get_method(method)
        row.check_options(options, own=self._own())
        self.method = row.with_options(n_iter=n_iter, **options)
        self.n_sources = _number_of_sources(n_sources)
        starts = self.method.n_starts if n_starts is None else n_starts
        self.n_starts = at_least_one("n_starts", starts)
        self.n_refine = _refinement(self.method, n_refine)
        self.output_filter = _output_filter(output_filter, self.method)
        if dereverberate:
            require_nara_wpe()
        self.dereverberate = dereverberate
        self.reference_channel = whole("reference_channel", reference_channel)
        if self.reference_channel < 0:
            raise InputError(f"reference channel {reference_channel}: channels count from 0")
        window = self._window(n_fft)
        self.stft = STFT(window, window // 4 if hop is None else hop)
        self.seed = whole_seed(seed)
        self.device = _device(device)
        check_dtype(dtype)
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.n_sources} sources by {self.method.name}>"

    @classmethod
    def _own(cls) -> list[str]:
        """Options beside those of the method that are offered if an unknown one is given."""
        return [name for name in named(Separator) if name not in ("device", "dtype")]

    def __call__(
        self,
        mixture: Signal,
        sample_rate: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Separation:
        """Separate one recording, or several of equal length.

        Parameters
        ----------
        mixture : Tensor, array or path
            (channels, samples) or (batch, channels, samples); gradients flow through tensors that
            require them.
        sample_rate : int
            In Hz; may be left out for files, or if it is 16000.
        callbacks : sequence of Callback
            Called with the progress after every iteration.

        Raises
        ------
        InputError
            For a recording that cannot be separated; one line says why.
        """
        return self._separate(mixture, sample_rate, callbacks, None)

    def guided(
        self,
        mixture: Signal,
        activity: Tensor | NDArray[Any],
        sample_rate: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> Separation:
        """Separate talkers when it is known who speaks when.

        Parameters
        ----------
        mixture, sample_rate, callbacks
            As in :meth:`__call__`.
        activity : Tensor
            (talkers, frames of the STFT), above one half where a talker may speak. The number of
            talkers and their order are those of the rows; a talker who never speaks is silent.

        Raises
        ------
        InputError
            For a recording that cannot be separated, or activities that do not fit it or are not
            finite.
        """
        return self._separate(mixture, sample_rate, callbacks, torch.as_tensor(activity))

    @_normal_mode()
    @_invertible()
    def _separate(
        self,
        mixture: Signal,
        sample_rate: int | None,
        callbacks: Sequence[Callback],
        activity: Tensor | None,
    ) -> Separation:
        began = time.perf_counter()
        keep_freed_memory()
        waves, rate = load(mixture, sample_rate)
        batch = waves.reshape(-1, *waves.shape[-2:]).to(self.device, self.dtype)
        with torch.set_grad_enabled(batch.requires_grad):
            spectrum, frontend = prepare(
                batch,
                rate,
                self.stft,
                self.method.min_channels,
                early=self.dereverberate,
                whole_band=self.method.whole_band,
            )
            reference = self._reference_index(frontend)
            known = None if activity is None else _on_frames(activity, frontend, spectrum)
            n_sources = self.n_sources if known is None else known.shape[1]
            model, trace = self._fitting(spectrum, n_sources, reference, callbacks, known)
            renderer = Renderer(
                model,
                frontend,
                self.method,
                n_sources,
                reference,
                self.output_filter,
                known,
            )
            sources = renderer.reference()
            if waves.ndim == 2:
                sources = sources[0]
        return Separation(
            sources=sources,
            residual=waves[..., self.reference_channel, :].to(sources) - sources.sum(-2),
            sample_rate=rate,
            method=self.method,
            reference_channel=self.reference_channel,
            cost=trace,
            seconds=time.perf_counter() - began,
            model=model,
            _renderer=renderer,
        )

    def _window(self, n_fft: int | None) -> int:
        """STFT window in samples: the one asked for, if the method allows it, or the method's."""
        its = self.method.n_fft
        if n_fft not in (None, its) and self.method.whole_band:
            raise InputError(f"n_fft={n_fft}: the network of {self.method.name} is for n_fft={its}")
        return its if n_fft is None else whole("n_fft", n_fft)

    @property
    def _fitting(self) -> Fitting:
        seconds = self.stft.hop / SAMPLE_RATE
        return Fitting(self.method, self.n_starts, self.n_refine, self.seed, seconds)

    def _reference_index(self, frontend: Frontend) -> int:
        """Index of the reference channel among the live ones."""
        if not 0 <= self.reference_channel < frontend.n_channels:
            raise InputError(
                f"reference channel {self.reference_channel}: the recording has channels 0 to "
                f"{frontend.n_channels - 1}"
            )
        if self.reference_channel not in frontend.alive:
            raise InputError(
                f"reference channel {self.reference_channel} carries no signal; choose one of "
                f"{', '.join(map(str, frontend.alive))}"
            )
        return frontend.alive.index(self.reference_channel)


def separate(
    mixture: Signal,
    sample_rate: int | None = None,
    *,
    method: str | Method = DEFAULT_METHOD,
    n_sources: int = 2,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Separation:
    """Separate a recording in one call; see :class:`Separator` for the options.

    Parameters
    ----------
    mixture : Tensor, array or path
        (channels, samples) or (batch, channels, samples).
    sample_rate : int
        In Hz; may be left out for files, or if it is 16000.
    method : str or Method
        Row of :data:`fca.methods.METHODS`.
    n_sources : int
        Number of talkers.
    callbacks : sequence of Callback
        Called with the progress after every iteration.

    Returns
    -------
    Separation
        With the source images at the reference channel.

    Raises
    ------
    InputError
        For options or recordings that cannot be used; one line says why.

    Examples
    --------
    >>> import fca, torch
    >>> result = fca.separate(torch.randn(3, 16000), 16000, method="auxiva", n_iter=5)
    >>> result.sources.shape
    torch.Size([2, 16000])
    """
    return Separator(method, n_sources, **options)(mixture, sample_rate, callbacks)


def _number_of_sources(n_sources: int | str) -> int:
    if isinstance(n_sources, str):
        counting = (
            ": talkers are counted by fca.blocks.BlockSeparator(separator, count=True) and by "
            "fca separate --sources auto"
        )
        hint = counting if n_sources == "auto" else ""
        raise InputError(f"n_sources must be a whole number, got {n_sources!r}{hint}")
    number = at_least_one("n_sources", n_sources)
    if number > MAX_SOURCES:
        raise InputError(f"n_sources={number}: at most {MAX_SOURCES} can be separated")
    return number


def _refinement(method: Method, n_refine: int | None) -> int:
    """Refinement steps: those asked for, or by default the method's if it can be refined."""
    if n_refine is None:
        return method.n_refine if method.refinable else 0
    steps = not_negative("n_refine", n_refine)
    if steps and not method.refinable:
        raise nothing_to_refine(method.name)
    return steps


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        raise InputError(f"device {name!r} is not available here") from None


def _on_frames(activity: Tensor, frontend: Frontend, spectrum: Tensor) -> Tensor:
    """Activities (N, T) at the frames of a spectrogram (B, F, M, T'), as (B, N, T')."""
    expected = len(frontend.active)
    if activity.ndim != 2 or activity.shape[1] != expected or not len(activity):
        raise InputError(
            f"activities must be (talkers, {expected} frames), got {tuple(activity.shape)}"
        )
    if not bool(torch.isfinite(activity).all()):
        raise InputError("the activities hold NaN or infinite values")
    seen = activity.to(spectrum.real)[:, frontend.active]
    return seen.expand(len(spectrum), -1, -1)


def _output_filter(name: str, method: Method) -> str:
    check_choice("output filter", name, OUTPUT_FILTERS)
    if name == "mvdr" and method.mixing.reverberation != "none":
        raise InputError("a beamformer goes with dereverberation, not with modelled reverberation")
    return name
