"""A closure that returns the losses, called again for the same losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyfront._utils.torch_private import NO_GRAPH

__all__ = ["Replay", "check_same"]


class Replay:
    """A closure that can be called again with the random numbers of its first call.

    Args:
        closure: returns the losses, m scalar tensors, by name or not, or a 1-D tensor [m]. It must
            depend on nothing that a call changes, but torch's random states: dropout draws the same
            masks again, on the CPU and on CUDA devices. Running statistics of batch normalisation
            are updated by each call.

    Attributes:
        unit: a gradient scaler's factor, applied when the closure is called again.
        differentiates: the closure calls autograd itself, as the losses of physics-informed
            networks do, and has to be called with gradients enabled.
        losses: those of the first call.
    """

    def __init__(self, closure: Callable[[], Any]) -> None:
        self.closure = closure
        self.unit = 1.0
        self.differentiates = False
        self.losses: Any = None
        self.tasks: Sequence[str] | None = None  # the order of losses that are given by name
        self._states = _random_states()

    def first(self) -> Any:
        """Return the losses, with a graph."""
        self._states = _random_states()
        with torch.enable_grad():
            self.losses = self.closure()
        return self.losses

    def again(self) -> list[Tensor]:
        """Return the losses once more, in the autograd mode that the caller is in.

        A closure that needs gradients enabled, and fails without, is called once more with them. It
        then costs the memory of its graph, and gives the same numbers.
        """
        after = _random_states()
        try:
            losses = self._repeated()
        finally:
            _set_random_states(after)
        if isinstance(losses, Mapping):
            losses = [losses[task] for task in self.tasks or losses]
        values = losses.unbind() if isinstance(losses, Tensor) else losses
        there = [loss for loss in values if loss is not None]  # None: no data for this task
        return [loss * self.unit for loss in there] if self.unit != 1.0 else there

    def _repeated(self) -> Any:
        _set_random_states(self._states)
        if not self.differentiates:
            try:
                return self.closure()
            except RuntimeError as error:
                if torch.is_grad_enabled() or NO_GRAPH not in str(error):
                    raise
            self.differentiates = True
            _set_random_states(self._states)
        with torch.enable_grad():
            return self.closure()


def _random_states() -> list[Tensor]:
    """Return the states of torch's generators: of the CPU, then of every CUDA device in use.

    Every one, since a part of the network without a parameter of ours may draw on another device.
    """
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if in_use else [])]


def _set_random_states(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    torch.cuda.set_rng_state_all(states[1:])  # none where CUDA was not in use


def check_same(losses: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    """Raise a ``ValueError`` where a closure called again has not returned the losses of before.

    The tolerance is a thousand roundings: sums in another order are the same losses.
    """
    if len(losses) != len(before):
        raise ValueError(
            f"closure: it returned {len(before)} losses at first and {len(losses)} when called "
            "again"
        )
    for task, (loss, first) in enumerate(zip(losses, before, strict=True)):
        again, expected = loss.item(), first.item()
        tolerance = min(1e3 * torch.finfo(loss.dtype).eps, 0.05)
        if abs(again - expected) > tolerance * max(abs(expected), 1e-3):
            raise ValueError(
                f"closure: losses[{task}] was {expected:g} and is {again:g} when called again; it "
                "must not draw a new batch or random numbers outside torch"
            )
