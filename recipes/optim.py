"""Optimisers for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from fca.errors import InputError


class Together(Optimizer):
    """Several optimisers of different parameters that act, and are stored, as one."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._link()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._link()

    def _link(self) -> None:
        """Share the parts' groups, so that schedules reach them."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def muon(
    network: nn.Module, hidden: type[nn.Module], rate: float, other_rate: float, decay: float
) -> Together:
    """Muon (Jordan et al. 2024) for the matrices of all `hidden` modules, AdamW for the rest.

    Parameters
    ----------
    network : nn.Module
        Whose parameters are optimised.
    hidden : type
        Modules whose matrices map hidden channels to hidden channels.
    rate, other_rate, decay : float
        Learning rates of Muon and of AdamW, weight decay of both.

    Raises
    ------
    InputError
        If torch is too old to have Muon.
    """
    if not hasattr(torch.optim, "Muon"):
        raise InputError("Muon needs torch 2.9 or later; training.hidden_rate=null does without")
    inside = [p for m in network.modules() if isinstance(m, hidden) for p in m.parameters()]
    matrices = [p for p in inside if p.ndim == 2]
    taken = {id(p) for p in matrices}
    rest = [p for p in network.parameters() if id(p) not in taken]
    return Together(
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay),
        AdamW(rest, other_rate, weight_decay=decay),
    )
