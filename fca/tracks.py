"""Tracks: which source of a block is which talker of the blocks before."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fca.stft import STFT

WINDOW_SECONDS = 0.064
LOWEST_HZ = 200.0
"""Lowest frequency that is used; below, a small array hears all directions alike."""
FRAME_SECONDS = 0.1
HEARD_SECONDS = 0.5
HEARD_FRAMES = round(HEARD_SECONDS / FRAME_SECONDS)
RANGE_DB = 25.0
SAME = 0.85
"""Likeness or continuity above which two sources are the same talker."""
COHERENT = 0.2
"""Correlation of two sources of a block above which they are parts of one talker, if the number of
talkers is not known."""
FORGETTING = 0.9
AUDIBLE = 1e-3
"""Least power of a source in an overlap, relative to the loudest there, for it to be compared."""


def steering(mixture: Tensor, sources: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Steering vectors of sources, by regression of the mixture on each source.

    ``a_nf = Σ_t m_nft x_ft ŝ*_nft``, with m the share of the source in the power of its bin: its
    relative transfer functions up to a factor per frequency, whatever model has found the source.

    Parameters
    ----------
    mixture : Tensor
        (M, samples).
    sources : Tensor
        Sources at the reference channel, (N, samples).
    sample_rate : int
        In Hz.

    Returns
    -------
    vectors : Tensor
        Steering vectors of unit norm, complex (N, F, M); zero where a source is silent.
    weight : Tensor
        Amplitude of each source, (N, F), zero below :data:`LOWEST_HZ`.
    """
    window = 2 * round(WINDOW_SECONDS * sample_rate / 2)
    stft = STFT(window, window // 2)
    heard, spoken = stft.analyse(mixture), stft.analyse(sources)
    power = spoken.abs().square()
    share = power / power.sum(0).clamp_min(torch.finfo(power.dtype).tiny)
    vectors = torch.einsum("mft,nft->nfm", heard, share * spoken.conj())
    norm = vectors.norm(dim=-1, keepdim=True)
    weight = (share * power).sum(-1).sqrt()
    weight[:, : round(LOWEST_HZ * WINDOW_SECONDS)] = 0
    return vectors / norm.clamp_min(torch.finfo(power.dtype).tiny), weight


def frame_power(signals: Tensor, sample_rate: int) -> Tensor:
    """Power of signals (N, samples) in frames of :data:`FRAME_SECONDS`, (N, T)."""
    size = min(round(FRAME_SECONDS * sample_rate), signals.shape[1])
    frames = signals[:, : signals.shape[1] // size * size].reshape(len(signals), -1, size)
    return frames.square().mean(-1)


def heard(power: Tensor, loudest: float) -> Tensor:
    """Which sources are talkers, and not remainders from a model with too many sources, (N,).

    A talker is louder than everything else together for :data:`HEARD_SECONDS` or more, not counting
    moments more than :data:`RANGE_DB` below the loudest ones.

    Parameters
    ----------
    power : Tensor
        Power of N sources and the residual in each frame, (N + 1, T).
    loudest : float
        :func:`loudness` of the recording.
    """
    total = power.sum(0)
    loud = total > loudest * 10 ** (-RANGE_DB / 10)
    count = ((power[:-1] > total / 2) & loud).sum(-1)
    result: Tensor = count >= HEARD_FRAMES
    return result


def loudness(power: Tensor) -> float:
    """Power that frames of :data:`HEARD_SECONDS` in all reach, so that a knock does not count.

    Parameters
    ----------
    power : Tensor
        Power of all signals in each frame, (N, T).
    """
    total = power.sum(0)
    return float(total.topk(min(HEARD_FRAMES, len(total))).values[-1])


class Tracks:
    """Inventory of the talkers of a recording, filled block by block.

    A talker is known by the covariance of the directions in which they were heard, and by what
    their track held in the overlap with the next block. Every block updates the covariance, so that
    a talker may move.

    Parameters
    ----------
    limit : int or None
        Number of talkers, or None for as many as appear.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._covariance: list[Tensor] = []
        self._heard: list[bool] = []
        self._last: Tensor | None = None
        self._start = 0
        self._loudest = 0.0

    def __len__(self) -> int:
        return len(self._covariance)

    def assign(
        self, start: int, mixture: Tensor, sources: Tensor, residual: Tensor, sample_rate: int
    ) -> list[int]:
        """The track of every source of the next block, -1 for sources that are no talkers.

        Sources that are heard from one place share a track; if the number of talkers is not known,
        so do coherent ones.

        Parameters
        ----------
        start : int
            First sample of the block.
        mixture : Tensor
            (M, samples).
        sources, residual : Tensor
            At the reference channel: (N, samples), the loudest first, and (samples,).
        sample_rate : int
            In Hz.
        """
        audible = residual - residual.mean()  # a constant offset masks nobody
        power = frame_power(torch.cat([sources, audible[None]]), sample_rate)
        self._loudest = max(self._loudest, loudness(power))
        clear = heard(power, self._loudest).tolist()
        vectors, weight = steering(mixture, sources, sample_rate)
        likeness = self._likeness(vectors, weight)
        track = self._known(likeness, self._continuity(sources, start - self._start))
        twin = _twins(sources) if self._limit is None else {}
        for n in sorted(range(len(sources)), key=lambda n: not clear[n]):
            if n not in track and track.get(twin.get(n, n), -1) >= 0:
                track[n] = track[twin[n]]
                continue  # a part of a talker does not tell where they are
            if n not in track:
                likeness = self._likeness(vectors[n : n + 1], weight[n : n + 1])[0]
                track[n] = self._place(likeness, set(track.values()), clear[n])
            if clear[n] or track[n] == len(self):
                self._learn(track[n], vectors[n], weight[n], clear[n])
        found = [track[n] for n in range(len(sources))]
        self._last, self._start = gather(sources, found, len(self)), start
        return found

    def tell(
        self, start: int, mixture: Tensor, sources: Tensor, track: Sequence[int], sample_rate: int
    ) -> None:
        """Learn from a block of which the track of every source is known.

        The other arguments are those of :meth:`assign`.
        """
        vectors, weight = steering(mixture, sources, sample_rate)
        for n, k in enumerate(track):
            while len(self) <= k:
                self._covariance.append(torch.zeros_like(_outer(vectors[n], weight[n])))
                self._heard.append(False)
            self._learn(k, vectors[n], weight[n], clear=True)
        self._last, self._start = gather(sources, track, len(self)), start

    def resemblance(self, start: int, mixture: Tensor, sources: Tensor, sample_rate: int) -> Tensor:
        """How well source n of the next block goes on with track k, (N, K), from 0 to 2.

        The arguments are those of :meth:`assign`.
        """
        vectors, weight = steering(mixture, sources, sample_rate)
        return self._likeness(vectors, weight) + self._continuity(sources, start - self._start)

    def _likeness(self, vectors: Tensor, weight: Tensor) -> Tensor:
        """Share of the power of track k that lies in the direction of source n, (N, K).

        ``vᴴ R v / tr R``, averaged over the frequencies at which both were heard.
        """
        if not self._covariance:
            return weight.new_zeros(len(weight), 0)
        covariance = torch.stack(self._covariance)
        alive = vectors.abs().amax((0, 1)) > 0
        trace = covariance.diagonal(dim1=-2, dim2=-1).real[..., alive].sum(-1)
        along = torch.einsum("nfi,kfij,nfj->nkf", vectors.conj(), covariance, vectors).real
        both = (weight[:, None] * trace.sqrt()).sqrt()
        ratio = along / trace.clamp_min(torch.finfo(trace.dtype).tiny)
        total = both.sum(-1).clamp_min(torch.finfo(trace.dtype).tiny)
        result: Tensor = (both * ratio).sum(-1) / total
        return result

    def _continuity(self, sources: Tensor, shift: int) -> Tensor:
        """Correlation of source n with what track k held in the overlap, (N, K)."""
        if not len(self) or self._last is None or shift >= self._last.shape[1]:
            return sources.new_zeros(len(sources), len(self))
        before = self._last[:, shift:]
        now = sources[:, : before.shape[1]]
        power, its_power = before.square().sum(-1), now.square().sum(-1)
        audible = AUDIBLE * power.max().clamp_min(torch.finfo(power.dtype).tiny)
        both = (power > audible) & (its_power > audible)[:, None]
        scale = (power.sqrt() * its_power.sqrt()[:, None]).clamp_min(torch.finfo(power.dtype).tiny)
        result: Tensor = torch.where(both, (now @ before.T).abs() / scale, 0.0)
        return result

    def _known(self, likeness: Tensor, continuity: Tensor) -> dict[int, int]:
        """Tracks of the sources that continue one, the surest first."""
        sure = torch.maximum(likeness, continuity) >= SAME
        score = (likeness + continuity).where(sure, -1.0)
        track: dict[int, int] = {}
        for _ in range(min(score.shape)):
            n, k = divmod(int(score.argmax()), score.shape[1])
            if score[n, k] < 0:
                break
            track[n] = k
            score[n], score[:, k] = -1.0, -1.0
        return track

    def _place(self, likeness: Tensor, taken: set[int], clear: bool) -> int:
        """Track of a source that does not continue one, or -1 for none.

        A source from the same place as some track joins it. If the talkers are being counted, any
        other source gets a new track if it is clearly a talker (``clear``), and none otherwise.

        If their number is known, a new track is opened while there are fewer than that, unless the
        source is not clear and there is a free track on which no talker was clearly heard yet. When
        no track can be opened, the source takes the most similar of these unheard tracks. Without
        any, a clear source takes the most similar free track, or of all tracks if none is free; one
        that is not clear gets none.
        """
        if len(self) and likeness.max() >= SAME:
            return int(likeness.argmax())
        free = [k for k in range(len(self)) if k not in taken]
        unheard = [k for k in free if not self._heard[k]]
        if self._limit is None:
            return len(self) if clear else -1
        if len(self) < self._limit and (clear or not unheard):
            return len(self)
        if not unheard and not clear:
            return -1
        return max(unheard or free or range(len(self)), key=lambda k: float(likeness[k]))

    def _learn(self, track: int, vector: Tensor, weight: Tensor, clear: bool) -> None:
        outer = _outer(vector, weight)
        if track == len(self):
            self._covariance.append(outer)
            self._heard.append(clear)
        else:
            self._covariance[track] = FORGETTING * self._covariance[track] + outer
            self._heard[track] = True


def _outer(vector: Tensor, weight: Tensor) -> Tensor:
    """Covariance (F, M, M) of a direction (F, M) heard with amplitudes (F,)."""
    return vector[:, :, None] * vector[:, None].conj() * weight.square()[:, None, None]


def _twins(sources: Tensor) -> dict[int, int]:
    """Sources (N, samples) that are coherent with a louder one, each with that louder one."""
    unit = sources / sources.norm(dim=1, keepdim=True).clamp_min(torch.finfo(sources.dtype).tiny)
    coherence = (unit @ unit.T).abs().tril(-1)
    found: dict[int, int] = {}
    for n, row in enumerate(coherence):
        louder = int(row.argmax())
        if row[louder] >= COHERENT:
            found[n] = found.get(louder, louder)
    return found


def gather(values: Tensor, track: Sequence[int], n_tracks: int) -> Tensor:
    """Tracks (K, ...) of sources (N, ...): those of one track are summed, those of -1 dropped."""
    kept = [n for n, k in enumerate(track) if k >= 0]
    index = torch.tensor([track[n] for n in kept], dtype=torch.long, device=values.device)
    return values.new_zeros(n_tracks, *values.shape[1:]).index_add(0, index, values[kept])
