"""Sources that are silent at known times: activities gate the PSDs of any model."""

from __future__ import annotations

import torch
from torch import Tensor

from fca.errors import InputError
from fca.memo import Latest
from fca.source.base import Evaluate, SourceModel, floored
from fca.spatial.base import Statistics

QUIET = 1e-3
"""PSD of a silent source, relative to its mean while the source is active."""
_NEUTRAL = 1e-12


class Gated(SourceModel):
    """``u_nt λ_nft`` with known activities u.

    As in neural FCASA and guided FCA (Bando et al. 2024, 2025). Models with a gain per frame would
    make up for any u > 0, so u is rounded to zero or one. A silent source keeps a fixed PSD,
    :data:`QUIET` times the mean of what it starts with, so that the frames in which it speaks keep
    their weight; with zeros, the silent frames alone would determine where it is heard from.

    Parameters
    ----------
    model : SourceModel
        Describes the sources while they are active.
    activity : Tensor
        u, (B, N, T); a source is active above one half.
    """

    def __init__(self, model: SourceModel, activity: Tensor) -> None:
        self._model = model
        self._active = activity[:, None] > 0.5
        self._silenced = Latest(torch.where)
        self.at_microphone = model.at_microphone

    @classmethod
    def around(cls, model: SourceModel, activity: Tensor) -> Gated:
        """A gate around a model that is initialised already."""
        gated = cls(model, activity)
        gated._quiet = gated._quiet_of(model.psd())
        return gated

    @property
    def refinable(self) -> bool:
        return self._model.refinable

    def initialise(self, power: Tensor, generator: torch.Generator) -> None:
        self._quiet = self._quiet_of(power)
        self._model.initialise(power, generator)

    def psd(self) -> Tensor:
        return self._gate(self._model.psd())

    def update(self, evaluate: Evaluate) -> None:
        self._model.update(self._seen(evaluate))

    def refine(self, evaluate: Evaluate) -> None:
        self._model.refine(self._seen(evaluate))

    def divergence(self) -> Tensor | float:
        return self._model.divergence()

    def penalty(self) -> Tensor | float:
        return self._model.penalty()

    def absorb(self, factor: Tensor) -> Tensor:
        absorbed = self._model.absorb(factor)
        self._quiet = floored(self._quiet * absorbed[..., None])
        return absorbed

    def _quiet_of(self, power: Tensor) -> Tensor:
        """PSD (B, F, N, 1) of silent sources whose powers are (B, F, N, T)."""
        count = self._active.sum(-1, keepdim=True).clamp_min(1)
        mean = torch.where(self._active, power, 0.0).sum(-1, keepdim=True) / count
        return floored(QUIET * mean)

    def _gate(self, psd: Tensor) -> Tensor:
        return self._silenced(self._active, psd, self._quiet)

    def _seen(self, evaluate: Evaluate) -> Evaluate:
        """The statistics without the frames in which a source is silent."""

        def see(psd: Tensor) -> Statistics:
            now = evaluate(self._gate(psd))
            quadratic = torch.where(self._active, now.quadratic, _NEUTRAL)
            trace = torch.where(self._active, now.trace, _NEUTRAL)
            return Statistics(psd, quadratic, trace, now.rank, now.bin_nll)

        return see


class NotToldApart(InputError):
    """Two sources are always active together."""


def check_told_apart(activity: Tensor) -> None:
    """Raise :class:`NotToldApart` if two rows of (B, N, T) are the same and not silent."""
    active = activity > 0.5
    speaks = active.any(-1)[:, :, None]
    same = ((active[:, :, None] == active[:, None]).all(-1) & speaks).any(0).triu(1)
    if bool(same.any()):
        first, second = (same.nonzero()[0] + 1).tolist()
        raise NotToldApart(
            f"sources {first} and {second} are always active together: their activities do not "
            f"tell them apart"
        )


def with_background(activity: Tensor, n_sources: int) -> Tensor:
    """Activities (B, N, T) with further sources, ``n_sources`` in all, that are always active."""
    rest = torch.ones_like(activity[:, :1]).expand(-1, n_sources - activity.shape[1], -1)
    return torch.cat([activity, rest], dim=1)
