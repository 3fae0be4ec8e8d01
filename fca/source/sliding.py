"""Low-rank sources of a stream: a factorisation whose frames come and go."""

from __future__ import annotations

import torch

from fca.source.nmf import NMF


class SlidingNMF(NMF):
    """:class:`~fca.source.NMF` of a window that moves on; its bases stay."""

    def slide(self, n_leave: int, n_enter: int) -> None:
        """Drop the first frames, and append others with the mean activation of those that stay."""
        kept = self._h[..., n_leave:]
        new = kept.mean(-1, keepdim=True).expand(*kept.shape[:-1], n_enter)
        self._set(self._w, torch.cat([kept, new], dim=-1))
