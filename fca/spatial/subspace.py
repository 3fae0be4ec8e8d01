"""Large arrays seen through their strongest principal components.

The more rows Q has, the more of them see little but late reverberation, which no PSD describes. The
likelihood weighs them like all others, and latent vectors that are refined would follow the
reverberation. Given only a few more components than talkers, they find the talkers; the spatial
parameters may then settle on all microphones
(:meth:`~fca.spatial.base.SpatialModel.on_whole_array`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fca.linalg import abs2, pack_outer, weighted_covariance
from fca.spatial.base import FLOOR
from fca.spatial.observation import Observation


class Components(Observation):
    """The strongest principal components of a mixture; the others count as stationary noise.

    Rows of Q see D components instead of M microphones: Q is (B, F, D, D).

    Parameters
    ----------
    mixture : Tensor
        X, complex (B, F, M, T).
    n_components : int
        D, the number of components.
    """

    def __init__(self, mixture: Tensor, n_components: int) -> None:
        super().__init__(mixture)
        rows = principal(pack_outer(mixture))
        self._seen, self._others = rows.tensor_split([n_components], dim=2)
        self.frames = self._seen @ mixture
        power = abs2(self._others @ mixture).mean(-1, keepdim=True)
        self._deviation = power.clamp_min(FLOOR).sqrt()

    @property
    def unseen_nll(self) -> Tensor:
        return 2 * self._deviation.log().sum((2, 3)) + self._others.shape[2]

    def early(self) -> Observation:
        return Observation(self.frames, heard=self.mixture)

    def at_microphones(self, columns: Tensor) -> Tensor:
        return self._seen.mH @ columns

    def complete(self, demixing: Tensor) -> Tensor:
        """Q for all microphones, (B, F, M, M); the other components come last, at unit power."""
        return torch.cat([demixing @ self._seen, self._others / self._deviation], dim=2)


def principal(outer: Tensor) -> Tensor:
    """Principal components as rows, the strongest first, (B, F, M, M).

    From the packed outer products (B, F, M², T) of mixtures; see :func:`~fca.linalg.pack_outer`.
    """
    covariance = weighted_covariance(outer, torch.ones_like(outer[:, :, :1]))
    vectors: Tensor = torch.linalg.eigh(covariance[:, :, 0]).eigenvectors
    return vectors.flip(-1).mH
