"""What is not instantaneous and fixed about a mixture: reverberation and motion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fca.errors import InputError, check_choice
from fca.spatial.motion import exponential_windows
from fca.spatial.observation import Observation
from fca.spatial.reverberation import Prediction, wpe

REVERBERATION = ("none", "ar", "ma", "arma")
_LATE = ("taps", "ma_taps", "delay", "reverberant")
MOTION = {"fixed": 1.0, "slow": 0.97, "fast": 0.93}
"""Forgetting factors per frame: of 64 ms by default, so that half is forgotten in 1.5 and 0.6 s."""


@dataclass(frozen=True)
class Mixing:
    """Choices that any method with a demixing matrix can be given.

    Attributes
    ----------
    reverberation : {"none", "ar", "ma", "arma"}
        How sound that outlasts the window is modelled: predicted from the past of the mixture
        ("ar", :mod:`fca.spatial.reverberation`), as delayed copies of the sources' PSDs ("ma",
        :class:`~fca.spatial.expanded.MovingAverage`), or both.
    taps : int
        Past frames that predict the present one ("ar").
    ma_taps : int
        Delayed copies ("ma"), one to so many frames late.
    delay : int
        Frames after which sound is late: the first that predicts, the first copy that is left out.
        At the default shift of a quarter of the window, the frame two earlier overlaps by half; the
        next one, by three quarters, would predict the talkers themselves.
    reverberant : bool
        Give talkers with their late reverberation, where it is modelled.
    motion : {"fixed", "slow", "fast"}
        How fast talkers may move; a choice of the forgetting factor. Where AuxIVA is the start,
        covariances change only if the recording shows that they do
        (:func:`~fca.inference.track.moves`).
    forgetting : float, optional
        Forgetting factor per frame of the windows that see the covariances change; see
        :class:`~fca.spatial.motion.Moving`. 1 forgets nothing: the talkers stay.
    inertia : float
        Frames that weigh as much as the prior that holds the covariances of a talker together.
    """

    reverberation: str = "none"
    taps: int = 3
    ma_taps: int = 4
    delay: int = 2
    reverberant: bool = False
    motion: str = "fixed"
    forgetting: float | None = None
    inertia: float = 10.0

    def __post_init__(self) -> None:
        check_choice("reverberation", self.reverberation, REVERBERATION)
        check_choice("motion", self.motion, MOTION)
        if self.taps < 0 or self.ma_taps < 0 or self.delay < 1:
            raise InputError("taps are counts, and the delay is at least one frame")
        if not 0 < self.forgetfulness <= 1:
            raise InputError(f"a forgetting factor is above 0 and at most 1, not {self.forgetting}")
        if not self.inertia > 0:
            raise InputError(f"the inertia must be positive, not {self.inertia}")

    def idle(self, names: Iterable[str]) -> tuple[str, str] | None:
        """The first of some choices that does nothing here, and what it needs."""
        needs = {name: "reverberation" for name in _LATE if self.reverberation == "none"}
        if not self.moves:
            needs["inertia"] = "motion"
        return next(((name, needs[name]) for name in names if name in needs), None)

    def observe(self, mixture: Tensor) -> Observation:
        """The mixture (B, F, M, T), or, with prediction, the mixture and its past.

        WPE is where the prediction starts.
        """
        if self.reverberation not in ("ar", "arma") or self.taps == 0:
            return Observation(mixture)
        prediction = Prediction(mixture, self.taps, self.delay, self.reverberant)
        wpe(prediction)
        return prediction

    @property
    def forgetfulness(self) -> float:
        """The forgetting factor that was given, or that of the kind of motion."""
        return MOTION[self.motion] if self.forgetting is None else self.forgetting

    @property
    def moves(self) -> bool:
        """Whether the covariances change over time."""
        return self.forgetfulness < 1

    @property
    def plain(self) -> bool:
        """Whether neither reverberation nor motion is modelled."""
        return self.reverberation == "none" and not self.moves

    def windows(self, mixture: Tensor) -> Tensor:
        """Windows (K, T) on the frames of a mixture (B, F, M, T) whose talkers move."""
        return exponential_windows(mixture.shape[-1], self.forgetfulness, mixture.real)

    @property
    def n_late(self) -> int:
        """Delayed copies of every source."""
        return self.ma_taps if self.reverberation in ("ma", "arma") else 0
