"""NMF sources of a stream: a factorisation whose frames come and go."""

from __future__ import annotations

import torch

from fca.source.nmf import NMF


class SlidingNMF(NMF):
    """An :class:`~fca.source.NMF` of a window that slides; its bases stay."""

    def slide(self, n_leave: int, n_enter: int) -> None:
        """Drop the first ``n_leave`` frames and append ``n_enter`` new ones.

        The activations of the new frames are the means over those that stay.
        """
        kept = self._h[..., n_leave:]
        new = kept.mean(-1, keepdim=True).expand(*kept.shape[:-1], n_enter)
        self._set(self._w, torch.cat([kept, new], dim=-1))
