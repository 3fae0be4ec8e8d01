"""Talkers followed by their delays between all microphones, while they walk.

Where talkers are is not known, only how sound from each of them is delayed on its way to the
microphones. Nothing has to be aligned over frequency, and a talker who walks changes nothing but
the delays. In every frame, places are where all pairs of microphones correlate (SRP-PHAT, DiBiase
2000; here in the delays themselves, as the array is unknown); the paths through these are the
likeliest ones of a mixture of talkers, by the Viterbi algorithm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, permutations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate, max_pool1d, pad

from fca.inference.delays import STEPS, angular_frequencies, correlations
from fca.linalg import abs2
from fca.spatial.base import FLOOR


@dataclass(frozen=True)
class Look:
    """How closely talkers are looked at.

    Attributes
    ----------
    frequencies, frames : int
        Steps between the frequencies and the frames that are looked at.
    smooth : int
        Of these frames, how many correlations are averaged over.
    nearby : int
        Places of frames so far away, and half as far, are considered in a frame, too, as talkers
        pause.
    choices : int
        Choices of places, one for each talker, that are kept in each frame.
    """

    frequencies: int
    frames: int
    smooth: int
    nearby: int
    choices: int


GLANCE = Look(frequencies=8, frames=2, smooth=3, nearby=3, choices=128)
"""Enough to see whether anybody walks."""
CLOSELY = Look(frequencies=4, frames=1, smooth=5, nearby=6, choices=200)
MOST_TALKERS = 3
"""Most talkers who are followed: of more, there are too many choices of places."""
FEWEST_MICROPHONES, MOST_MICROPHONES = 4, 6
"""Microphones that are needed, as with fewer the paths of talkers who stand are at times too vague
to tell them from walks, and those that are listened to, of a large array."""
MOST_CHOICES = 1000
"""Choices of places from which on fewer frequencies are looked at."""
PEAKS = 8
"""Delays between two microphones that are considered in each frame."""
BEAM = 48
"""Places that are kept in each frame while they are extended from microphone to microphone."""
PLACES = 6
"""Places that remain in each frame."""
CELL = 0.5
"""Least distance, in samples of delay, between two of them."""
APART = 1.0
"""Least distance, in samples of delay, between two talkers."""
SHARPNESS = 8.0
"""Concentration κ of the distribution of a talker's phases."""
NOBODY = 0.25
"""Agreement of phases at which a bin is as likely to belong to nobody."""
STILLNESS = 0.6
"""Cost of a move by one sample of delay, in nats per bin."""
SOFTNESS = 6.0
"""The κ of the masks that are made of what is found."""
JUMP = 0.4
"""Samples of delay by which nobody walks from one frame to the next."""
WALK = 0.135
"""Samples of delay from which on a talker is said to walk, times the root of the number of frames:
errors of a path add up like a random walk."""
SPOKEN = 0.5
"""Share of the power of a frame from which on it says where a talker is."""


def path_masks(mixture: Tensor, n_sources: int) -> Tensor:
    """Masks (B, F, N, T) of talkers who are followed by their delays: posterior probabilities.

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T), F frequencies from 0 on, M ≥ 2.
    n_sources : int
        N, at most :data:`MOST_TALKERS`.
    """
    masks = []
    for phases, power in zip(*_heard(mixture), strict=True):
        delays = follow_talkers(phases, power.sum(0), n_sources, CLOSELY)
        masks.append(_masks(phases, delays))
    return torch.stack(masks)


def anybody_walks(mixture: Tensor, n_sources: int) -> Tensor:
    """Whether any of the talkers walks, (B,); arguments as of :func:`path_masks`."""
    walks = []
    for phases, power in zip(*_heard(mixture), strict=True):
        delays = follow_talkers(phases, power.sum(0), n_sources, GLANCE)
        theirs = (_masks(phases, delays) * power[:, None]).sum(0)
        walks.append(bool((_walked(delays, theirs) > WALK * math.sqrt(len(power.mT))).any()))
    return torch.tensor(walks, device=mixture.device)


def follow_talkers(phases: Tensor, power: Tensor, n_sources: int, look: Look) -> Tensor:
    """Delays (N, T, M) of the talkers of one recording, in samples, relative to microphone 0.

    Parameters
    ----------
    phases : Tensor
        ``x / |x|``, complex (F, M, T).
    power : Tensor
        Power of the frames, (T,); quiet ones count less.
    n_sources : int
        N.
    look : Look
        How closely to look.
    """
    few, level = phases[:: look.frequencies, :, :: look.frames], power[:: look.frames]
    omega = angular_frequencies(phases[:, 0])[:: look.frequencies]
    weight = (level / level.mean().clamp_min(FLOOR)).clamp_max(1.0)
    places = _around(_places(_correlations(few, omega, weight, look.smooth)), look.nearby)
    rows = torch.tensor(list(combinations(range(places.shape[1]), n_sources)))
    thin = 1 if len(rows) <= MOST_CHOICES else 4
    agreement = _agreement(few[::thin], omega[::thin], places)
    scores = _scores(agreement, places, rows) * weight[:, None]
    scores, kept = scores.topk(min(look.choices, scores.shape[1]), dim=1)
    delays = _likeliest_paths(scores, places, rows.to(places.device)[kept])
    return interpolate(delays.mT, size=phases.shape[2], mode="linear").mT


def _heard(mixture: Tensor) -> tuple[Tensor, Tensor]:
    """Phases (B, F, M, T) of the microphones that are listened to, and mean powers (B, F, T).

    No gradient passes: paths are a choice.
    """
    heard = _spread(mixture.detach())
    return heard / heard.abs().clamp_min(FLOOR), abs2(heard).mean(2)


def _spread(mixture: Tensor) -> Tensor:
    """At most :data:`MOST_MICROPHONES` microphones, spread over the array."""
    count = mixture.shape[2]
    if count <= MOST_MICROPHONES:
        return mixture
    return mixture[:, :, torch.linspace(0, count - 1, MOST_MICROPHONES).round().long()]


def _correlations(
    phases: Tensor, omega: Tensor, weight: Tensor, smooth: int
) -> dict[tuple[int, int], Tensor]:
    """GCC-PHAT of all pairs of microphones, smoothed over time, (T, D) each."""
    found = {}
    for i, j in combinations(range(phases.shape[1]), 2):
        value = correlations(phases[:, i] * phases[:, j].conj(), omega).mT * weight
        mean = avg_pool1d(value[None], smooth, 1, smooth // 2, count_include_pad=False)
        found[i, j] = mean[0].mT
    return found


def _places(correlation: dict[tuple[int, int], Tensor]) -> Tensor:
    """Likely delays (T, K, M) in every frame, in samples.

    Found by a beam search over the microphones: the peaks of the correlation with microphone 0 are
    the candidates for the delay of each, and all pairs have to agree with them.
    """
    first = correlation[0, 1]
    middle = first.shape[1] // 2
    index = torch.zeros(len(first), 1, 1, dtype=torch.long, device=first.device)
    score = torch.zeros_like(first[:, :1])
    for m in range(1, 1 + max(j for _, j in correlation)):
        peaks = _peaks(correlation[0, m]) - middle
        before = index[:, :, None].expand(-1, -1, PEAKS, -1)
        after = peaks[:, None, :, None].expand(-1, index.shape[1], -1, -1)
        index = torch.cat([before, after], -1).flatten(1, 2)
        score = score.repeat_interleave(PEAKS, dim=1)
        for i in range(m):
            delay = (index[..., m] - index[..., i] + middle).clamp(0, 2 * middle)
            score = score + correlation[i, m].gather(1, delay)
        score, best = score.topk(min(BEAM, score.shape[1]), dim=1)
        index = index.gather(1, best[..., None].expand(-1, -1, m + 1))
    return _distinct(index.to(score) / STEPS, score)


def _peaks(values: Tensor) -> Tensor:
    """Indices (T, PEAKS) of the highest maxima of (T, D)."""
    highest = max_pool1d(values[:, None], 5, stride=1, padding=2)[:, 0]
    return torch.where(highest == values, values, -1.0).topk(PEAKS, dim=1).indices


def _distinct(places: Tensor, score: Tensor) -> Tensor:
    """The best (T, PLACES, M) of places (T, K, M), at least :data:`CELL` apart."""
    frame = torch.arange(len(places), device=places.device)
    found = []
    for _ in range(PLACES):
        found.append(places[frame, score.argmax(1)])
        near = (places - found[-1][:, None]).abs().amax(-1) < CELL
        score = score.masked_fill(near, -torch.inf)
    return torch.stack(found, dim=1)


def _around(places: Tensor, reach: int) -> Tensor:
    """Places of each frame and of others before and after it, (T, K, M)."""
    frame = torch.arange(len(places), device=places.device)
    near = (-reach, -(reach // 2), 0, reach // 2, reach)
    return torch.cat([places[(frame + n).clamp(0, len(places) - 1)] for n in near], dim=1)


def _agreement(phases: Tensor, omega: Tensor, places: Tensor) -> Tensor:
    """Mean cosine of phase differences less those of places (T, K, M), (F, K, T).

    Over all pairs of microphones at once, ``(|Σ_m z_m exp(jωτ_m)|² − M) / M(M − 1)``.
    """
    count = phases.shape[1]
    aligned = phases[:, 0, None].expand(-1, places.shape[1], -1)
    for m in range(1, count):
        angle = omega[:, None, None] * places[..., m].mT
        aligned = aligned + phases[:, m, None] * torch.polar(torch.ones_like(angle), angle)
    return (abs2(aligned) - count) / (count * (count - 1))


def _scores(agreement: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    """Log-likelihood per bin of every choice (C, N) of places, in each frame, (T, C).

    Two talkers in one place cost a nat.
    """
    likelihood = (SHARPNESS * agreement).exp().permute(2, 1, 0)  # T, K, F
    nobody = math.exp(SHARPNESS * NOBODY)
    scores = torch.stack([(nobody + frame[rows].sum(1)).log().mean(1) for frame in likelihood])
    distance = (places[:, :, None] - places[:, None]).abs().amax(-1)
    for a, b in combinations(rows.mT, 2):
        scores = scores - (distance[:, a, b] < APART).to(scores)
    return scores


def _likeliest_paths(scores: Tensor, places: Tensor, chosen: Tensor) -> Tensor:
    """Delays (N, T, M) of the paths of highest score, by the Viterbi algorithm.

    In each frame, choices (T, C, N) of places (T, K, M) have scores (T, C).
    """
    orders = torch.tensor(list(permutations(range(chosen.shape[2]))), device=places.device)
    total, steps = scores[0], []
    for t in range(1, len(scores)):
        distance = (places[t][:, None] - places[t - 1]).abs().mean(-1)
        move, order = _moves(distance, chosen[t], chosen[t - 1], orders)
        best, before = (total - STILLNESS * move).max(1)
        steps.append((before, order.gather(1, before[:, None])[:, 0]))
        total = best + scores[t]
    choice = total.argmax()
    talkers = orders[0]  # talker n is at the n-th place of the choice
    path = [places[-1, chosen[-1, choice]]]
    for t in range(len(steps) - 1, -1, -1):
        before, order = steps[t]
        talkers, choice = orders[order[choice]][talkers], before[choice]
        path.append(places[t, chosen[t, choice][talkers]])
    return torch.stack(path[::-1], dim=1)


def _moves(distance: Tensor, now: Tensor, before: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """How far talkers move from one choice to another, (C, C'), and who goes where.

    From the ``distance`` (K, K') between places, and choices (C, N) and (C', N) of these. The
    second result is the index of an order (N!, N): who is at place n was at place ``order[n]``.
    """
    between = [[distance[a][:, b] for b in before.mT] for a in now.mT]
    total = [sum(between[n][o] for n, o in enumerate(order)) for order in orders.tolist()]
    move, order = torch.stack(total).min(0)
    return move, order


def _masks(phases: Tensor, delays: Tensor) -> Tensor:
    """Posterior probabilities (F, N, T) of talkers with delays (N, T, M)."""
    agreement = _agreement(phases, angular_frequencies(phases[:, 0]), delays.transpose(0, 1))
    return (SOFTNESS * agreement).softmax(1)


def _walked(delays: Tensor, power: Tensor) -> Tensor:
    """How far talkers with delays (N, T, M) walk, in samples of delay, (N,).

    From the frames of which most is theirs, by their powers (N, T). Jumps do not count: they are
    those of a path whose talker pauses, or is taken for an echo.
    """
    step = delays.diff(dim=1)
    walked = (step.abs().amax(-1, keepdim=True) <= JUMP) * step
    walked = pad(walked.cumsum(1), (0, 0, 1, 0))
    theirs = power > SPOKEN * power.sum(0)
    each = zip(delays, walked, theirs, strict=True)
    return torch.stack([torch.minimum(_range(d, t), _range(w, t)) for d, w, t in each])


def _range(path: Tensor, theirs: Tensor) -> Tensor:
    """Mean over the other microphones of the range of a path (T, M), less a tenth at either end."""
    if not theirs.any():
        return path.new_zeros(())
    ends = path[theirs, 1:].quantile(torch.tensor([0.1, 0.9]).to(path), dim=0)
    return (ends[1] - ends[0]).mean()
