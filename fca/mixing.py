"""How sound reaches the microphones beyond one window: reverberation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fca.errors import InputError
from fca.spatial.observation import Observation
from fca.spatial.reverberation import Prediction, wpe

REVERBERATION = ("none", "ar")


@dataclass(frozen=True)
class Mixing:
    """Choices that any method with a demixing matrix can be given.

    Attributes
    ----------
    reverberation : {"none", "ar"}
        How sound that outlasts the window is modelled; see :mod:`fca.spatial.reverberation`.
    taps, delay : int
        Past frames that predict the present one ("ar"), and how far back the first of them is.
    reverberant : bool
        Give talkers with their late reverberation, where it is modelled.
    """

    reverberation: str = "none"
    taps: int = 5
    delay: int = 3
    reverberant: bool = False

    def __post_init__(self) -> None:
        if self.reverberation not in REVERBERATION:
            known = ", ".join(REVERBERATION)
            raise InputError(f"unknown reverberation {self.reverberation!r}; choose from {known}")

    def observe(self, mixture: Tensor) -> Observation:
        """The mixture (B, F, M, T), or, with prediction, the mixture and its past.

        WPE is where the prediction starts.
        """
        if "ar" not in self.reverberation or self.taps == 0:
            return Observation(mixture)
        prediction = Prediction(mixture, self.taps, self.delay, self.reverberant)
        wpe(prediction)
        return prediction
