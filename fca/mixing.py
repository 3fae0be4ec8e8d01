"""Reverberation and motion: what is not instantaneous and fixed about a mixture."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from fca.errors import InputError, at_least_one, check_choice
from fca.spatial.motion import exponential_windows
from fca.spatial.observation import Observation
from fca.spatial.reverberation import Prediction, wpe

REVERBERATION = ("none", "ar", "ma", "arma")
_LATE = {
    "taps": ("ar", "arma"),
    "ma_taps": ("ma", "arma"),
    "delay": REVERBERATION[1:],
    "reverberant": REVERBERATION[1:],
}
"""Kinds of reverberation in which a choice has an effect."""
MOTION = {"fixed": 1.0, "slow": 0.97, "fast": 0.93}
"""Forgetting factors per frame. At the default hop of 64 ms, half is forgotten in 1.5 s ("slow")
and 0.6 s ("fast")."""


@dataclass(frozen=True)
class Mixing:
    """How reverberation and motion are modelled.

    Reverberation needs a model with a demixing matrix, moving averages a jointly diagonal one;
    motion needs full-rank covariances.

    Attributes
    ----------
    reverberation : {"none", "ar", "ma", "arma"}
        How sound that outlasts the window is modelled: predicted from the past of the mixture
        ("ar", :mod:`fca.spatial.reverberation`), as delayed copies of the sources' PSDs ("ma",
        :class:`~fca.spatial.expanded.MovingAverage`), or both.
    taps : int
        Past frames that predict the present one ("ar").
    ma_taps : int
        Number of delayed copies of each source, one to so many frames late ("ma").
    delay : int
        Frames after which sound is late: the delay of the latest frame that predicts, and of the
        first copy that is left out of the images. At the default hop of a quarter of the window, a
        frame overlaps by half with the one two frames earlier, and by three quarters with the one
        before it, which would predict the talkers themselves.
    reverberant : bool
        Return talkers with their late reverberation, where it is modelled.
    motion : {"fixed", "slow", "fast"}
        How fast talkers may move, as a choice of the forgetting factor. If the start is AuxIVA,
        covariances change over time only if the recording shows that talkers move
        (:func:`~fca.inference.track.moves`).
    forgetting : float, optional
        Forgetting factor per frame of the windows in which the covariances are fitted; see
        :class:`~fca.spatial.motion.Moving`. With 1 nothing is forgotten and the talkers stand
        still. By default that of ``motion``.
    inertia : float
        Number of frames that weigh as much as the prior that holds a talker's covariances together.

    Raises
    ------
    InputError
        For unknown kinds, and for taps, delays, forgetting factors or an inertia out of range.
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
        for name in ("taps", "ma_taps", "delay"):
            object.__setattr__(self, name, at_least_one(name, getattr(self, name)))
        if not 0 < self.forgetfulness <= 1:
            raise InputError(f"a forgetting factor is above 0 and at most 1, not {self.forgetting}")
        if not self.inertia > 0:
            raise InputError(f"the inertia must be positive, not {self.inertia}")

    def idle(self, names: Iterable[str]) -> tuple[str, str] | None:
        """The first of some choices that has no effect here, and what it would need."""
        needs = {
            name: f"reverberation={' or '.join(kinds)}"
            for name, kinds in _LATE.items()
            if self.reverberation not in kinds
        }
        if not self.moves:
            needs["inertia"] = "motion"
        return next(((name, needs[name]) for name in names if name in needs), None)

    def observe(self, mixture: Tensor) -> Observation:
        """The mixture (B, F, M, T) or, with prediction, the mixture and its past.

        The prediction starts from WPE.
        """
        if self.reverberation not in ("ar", "arma"):
            return Observation(mixture)
        prediction = Prediction(mixture, self.taps, self.delay, self.reverberant)
        wpe(prediction)
        return prediction

    @property
    def forgetfulness(self) -> float:
        """The forgetting factor, as given or by the kind of motion."""
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
        """Windows (K, T) over the frames of a mixture (B, F, M, T) whose talkers move."""
        return exponential_windows(mixture.shape[-1], self.forgetfulness, mixture.real)

    @property
    def n_late(self) -> int:
        """Number of delayed copies of every source."""
        return self.ma_taps if self.reverberation in ("ma", "arma") else 0
