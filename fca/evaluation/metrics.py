"""Scores of separated talkers against references, and their improvement over the mixture.

Silence is defined as follows: a silent reference has no score (NaN); a silent estimate of a talker
who speaks scores minus infinity. :func:`summarise` leaves both out of the mean and counts them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fca.errors import InputError, check_choice
from fca.extras import require

__all__ = [
    "METRICS",
    "PROTOCOLS",
    "Scores",
    "Summary",
    "check_metrics",
    "evaluate",
    "si_sdr",
    "summarise",
]

Array = NDArray[np.float64]

BSS_EVAL = ("sdr", "sir", "sar")
PROTOCOLS = ("fast_bss_eval", "mir_eval")
NO_IMPROVEMENT = ("sar",)
"""Metrics that no separation can improve: a mixture has hardly any artefacts."""
FILTER_LENGTH = 512


@dataclass(frozen=True)
class Scores:
    """Scores of one recording, one value per reference.

    Attributes
    ----------
    permutation : index of the estimate of each reference
    values : metric -> (references,); decibels, except PESQ (MOS-LQO) and STOI (0 to 1)
    mixture : the same metrics with the mixture taken for every estimate; empty without one
    """

    permutation: list[int]
    values: dict[str, Array]
    mixture: dict[str, Array] = field(default_factory=dict)

    @property
    def improvement(self) -> dict[str, Array]:
        """Scores minus those of the mixture; undefined where both are infinite.

        Metrics of :data:`NO_IMPROVEMENT` are left out.
        """
        with np.errstate(invalid="ignore"):
            return {
                name: self.values[name] - before
                for name, before in self.mixture.items()
                if name not in NO_IMPROVEMENT
            }


@dataclass(frozen=True)
class Summary:
    """Mean over recordings, with the half-width of its 95 % confidence interval.

    ``count`` recordings are in the mean; ``excluded`` ones are not, as they are silent or infinite.
    """

    mean: float
    interval: float
    count: int
    excluded: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.interval:.2f}"


def evaluate(
    references: ArrayLike,
    estimates: ArrayLike,
    sample_rate: int = 16000,
    *,
    mixture: ArrayLike | None = None,
    metrics: Sequence[str] = ("sdr", "sir", "sar", "si_sdr"),
    protocol: str = "fast_bss_eval",
) -> Scores:
    """Match estimates to references and score them.

    The estimates are matched by the permutation of largest mean SIR, as BSS eval does
    (Vincent et al. 2006, 512-tap distortion filters).

    Parameters
    ----------
    references, estimates : (talkers, samples)
    mixture : (samples,), the recording at the channel of the references
    metrics : any of :data:`METRICS`
    protocol : "fast_bss_eval" (Scheibler 2022), or "mir_eval", the slow reference implementation
        that published tables use; they agree to 0.01 dB

    Raises
    ------
    InputError
        For shapes that do not fit, samples that are not finite, signals too short for BSS eval,
        unknown names, or a metric whose package is not installed.
    """
    references, estimates = _pair(references, estimates)
    check_metrics(metrics, protocol)
    if len(references) > 1 or set(metrics) & set(BSS_EVAL):
        _check_length(references)
    permutation = _match(references, estimates)
    values = _score(references, estimates[permutation], sample_rate, metrics, protocol)
    before: dict[str, Array] = {}
    if mixture is not None:
        recording = np.asarray(mixture, dtype=float)
        if recording.shape != references.shape[1:]:
            raise InputError(
                f"the mixture must be {references.shape[1:]} like a reference, "
                f"not {recording.shape}"
            )
        _check_finite("the mixture contains", recording)
        repeated = np.broadcast_to(recording, references.shape)
        before = _score(references, repeated, sample_rate, metrics, protocol)
    return Scores(permutation, values, before)


def check_metrics(metrics: Sequence[str], protocol: str = "fast_bss_eval") -> None:
    """Raise :class:`InputError` for unknown names and metrics whose package is not installed."""
    for name in metrics:
        check_choice("metric", name, METRICS)
    check_choice("protocol", protocol, PROTOCOLS)
    for name in metrics:
        if name in PACKAGES:
            _require(*PACKAGES[name])
    if protocol == "mir_eval" and set(metrics) & set(BSS_EVAL):
        _require(*MIR_EVAL)


def si_sdr(reference: ArrayLike, estimate: ArrayLike) -> NDArray[np.float64]:
    """Scale-invariant SDR (...,) in dB of signals (..., samples), no mean removed.

    Le Roux et al. (2019), eq. 4.
    """
    reference = np.asarray(reference, dtype=float)
    estimate = np.asarray(estimate, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sum(estimate * reference, -1) / np.sum(reference**2, -1)
        target = scale[..., None] * reference
        ratio = np.sum(target**2, -1) / np.sum((estimate - target) ** 2, -1)
        score: Array = 10 * np.log10(ratio)
    return _define_silence(score, reference, estimate)


def summarise(values: Sequence[ArrayLike]) -> Summary:
    """Mean over recordings of each recording's mean over talkers, with its Student-t interval.

    Parameters
    ----------
    values : one (talkers,) each; talkers of one recording are not independent, so they count once
    """
    from scipy.stats import t as student_t

    means = np.array([_finite_mean(np.asarray(v, dtype=float)) for v in values])
    kept = means[np.isfinite(means)]
    count, excluded = len(kept), len(means) - len(kept)
    if count < 2:
        mean = float(kept[0]) if count else float("nan")
        return Summary(mean, float("nan"), count, excluded)
    spread = kept.std(ddof=1) / np.sqrt(count)
    interval = float(student_t.ppf(0.975, count - 1) * spread)
    return Summary(float(kept.mean()), interval, count, excluded)


def _finite_mean(values: Array) -> float:
    """Mean without NaN; infinite if a talker is lost entirely."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _match(references: Array, estimates: Array) -> list[int]:
    """Index of the estimate of each reference; silent references take those that are left."""
    active = np.flatnonzero(references.any(axis=-1))
    n = len(references)
    if n == 1 or len(active) == 0:
        return list(range(n))
    if len(active) == 1:  # SIR needs interference: the closest estimate is taken
        closeness = [_fast_bss_eval(references[active], e[None])[0] for e in estimates]
        chosen = [int(np.argmax(closeness))]
    else:
        chosen = [int(k) for k in _fast_bss_eval(references[active], estimates, match=True)[3]]
    permutation = np.empty(n, dtype=int)
    permutation[active] = chosen
    permutation[np.setdiff1d(np.arange(n), active)] = np.setdiff1d(np.arange(n), chosen)
    return [int(k) for k in permutation]


def _score(
    references: Array, estimates: Array, rate: int, metrics: Sequence[str], protocol: str
) -> dict[str, Array]:
    """Every metric of estimates already in the references' order."""
    scores: dict[str, Array] = {}
    if set(metrics) & set(BSS_EVAL):
        scores |= _bss_eval(references, estimates, protocol)
    for name in set(metrics) - set(BSS_EVAL):
        scores[name] = SINGLE[name](references, estimates, rate)
    return {name: scores[name] for name in metrics}


def _bss_eval(references: Array, estimates: Array, protocol: str) -> dict[str, Array]:
    active = references.any(axis=-1)
    scores = np.full((len(BSS_EVAL), len(references)), np.nan)
    if active.any():
        run = _mir_eval if protocol == "mir_eval" else _fast_bss_eval
        scores[:, active] = np.stack(run(references[active], estimates[active])[:3])
    if active.sum() == 1:  # nobody interferes; rounding may leave a finite ratio
        scores[BSS_EVAL.index("sir"), active] = np.inf
    return {
        name: _define_silence(score, references, estimates)
        for name, score in zip(BSS_EVAL, scores, strict=True)
    }


def _fast_bss_eval(references: Array, estimates: Array, *, match: bool = False) -> list[Array]:
    import torch  # the library's NumPy solver does not know NumPy 2

    from fca.workers import one_thread

    library = _require("fast_bss_eval", "evaluate")
    signals = torch.from_numpy(references), torch.from_numpy(_audible(estimates))
    try:
        with one_thread():  # several may solve large systems wrongly
            result = library.bss_eval_sources(*signals, FILTER_LENGTH, compute_permutation=match)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        raise InputError("two references are filtered copies of each other") from None
    return [part.numpy() for part in result]


def _mir_eval(references: Array, estimates: Array) -> list[Array]:
    separation = _require(*MIR_EVAL)
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore", FutureWarning)  # the module is deprecated
        result = separation.bss_eval_sources(
            references, _audible(estimates), compute_permutation=False
        )
    return list(result)


def _audible(estimates: Array) -> Array:
    """Estimates with white noise in the place of silence, which BSS eval cannot decompose."""
    silent = ~estimates.any(axis=-1, keepdims=True)
    noise = np.random.default_rng(0).standard_normal(estimates.shape)
    filled: Array = np.where(silent, noise, estimates)
    return filled


def _define_silence(score: Array, references: Array, estimates: Array) -> Array:
    spoken, heard = references.any(axis=-1), estimates.any(axis=-1)
    defined: Array = np.where(spoken, np.where(heard, score, -np.inf), np.nan)
    return defined


def _each(
    references: Array, estimates: Array, score: Callable[[Array, Array], float]
) -> NDArray[np.float64]:
    """Score pair by pair, with silence by definition."""
    pairs = zip(references, estimates, strict=True)
    values = [score(r, e) if r.any() and e.any() else np.nan for r, e in pairs]
    return _define_silence(np.array(values), references, estimates)


def _pesq(references: Array, estimates: Array, rate: int) -> Array:
    """ITU-T P.862.2 (wide band, 16 kHz) or P.862 (narrow band, 8 kHz)."""
    library = _require("pesq", "pesq")
    modes = {16000: "wb", 8000: "nb"}
    if rate not in modes:
        raise InputError(f"PESQ is defined at 8000 and 16000 Hz, not {rate}")

    def score(reference: Array, estimate: Array) -> float:
        value = library.pesq(
            rate, reference, estimate, modes[rate], on_error=library.PesqError.RETURN_VALUES
        )
        return float(value) if value > 0 else float("nan")  # no utterance found

    return _each(references, estimates, score)


def _stoi(references: Array, estimates: Array, rate: int) -> Array:
    library = _require("pystoi", "evaluate")
    return _each(references, estimates, lambda r, e: _heard(library.stoi(r, e, rate)))


def _estoi(references: Array, estimates: Array, rate: int) -> Array:
    library = _require("pystoi", "evaluate")
    return _each(
        references, estimates, lambda r, e: _heard(library.stoi(r, e, rate, extended=True))
    )


def _heard(score: float) -> float:
    """A score of pystoi; NaN for the one that stands for too little speech."""
    return float("nan") if score == 1e-5 else float(score)


def _si_sdr(references: Array, estimates: Array, rate: int) -> Array:
    del rate
    return si_sdr(references, estimates)


SINGLE: dict[str, Callable[[Array, Array, int], Array]] = {
    "si_sdr": _si_sdr,
    "pesq": _pesq,
    "stoi": _stoi,
    "estoi": _estoi,
}
METRICS = (*BSS_EVAL, *SINGLE)
PACKAGES = {
    **dict.fromkeys(BSS_EVAL, ("fast_bss_eval", "evaluate")),
    **dict.fromkeys(("stoi", "estoi"), ("pystoi", "evaluate")),
    "pesq": ("pesq", "pesq"),
}
MIR_EVAL = ("mir_eval.separation", "evaluate")


def _pair(references: ArrayLike, estimates: ArrayLike) -> tuple[Array, Array]:
    references = np.asarray(references, dtype=float)
    estimates = np.asarray(estimates, dtype=float)
    if references.ndim != 2 or references.shape != estimates.shape:
        raise InputError(
            "references and estimates must be (talkers, samples) and alike, "
            f"not {references.shape} and {estimates.shape}"
        )
    _check_finite("references or estimates contain", references, estimates)
    return references, estimates


def _check_finite(what: str, *signals: Array) -> None:
    if not all(np.isfinite(signal).all() for signal in signals):
        raise InputError(f"{what} NaN or infinity")


def _check_length(references: Array) -> None:
    """Refuse signals shorter than the distortion filters of BSS eval."""
    length = references.shape[1]
    if length < FILTER_LENGTH:
        raise InputError(f"BSS eval needs at least {FILTER_LENGTH} samples, got {length}")


def _require(module: str, extra: str) -> ModuleType:
    return require(module, extra, "these metrics need")
