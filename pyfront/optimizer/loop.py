"""Signs that the training loop around an optimizer does something else than it means to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfront._utils.torch_private import multiplier_of, was_unscaled
from pyfront._utils.warn import warn_caller
from pyfront.backend.task_gradients import all_finite
from pyfront.optimizer.bases import name_of, refuse_layouts
from pyfront.optimizer.roles import parameters_of

if TYPE_CHECKING:
    from pyfront.optimizer.delegating import DelegatingOptimizer

__all__ = ["check_gradients", "refuse_what_needs_losses", "warn_scaled_by_hand"]


def check_gradients(optimizer: DelegatingOptimizer, *, decided: bool) -> None:
    """Look at what ``.grad`` is before the base's step uses it.

    Args:
        optimizer: makes the step.
        decided: in this call, which has looked at the layout of the direction.

    Raises:
        RuntimeError: it is still scaled by the scaler that ``backward`` was given.
        ValueError: a scalar of ``scalarize`` has brought what is not finite.
        TypeError: a sparse or dense one that the base does not take.

    Warns:
        UserWarning: no decision has made it, for the first time.
    """
    shared = optimizer._shared
    _check_unscaled(shared.scaler)
    if not decided:
        refuse_layouts(optimizer.base)
    if shared.scalars.arrived:
        _check_finite(optimizer)
    elif not (shared.scalars.filled or shared.warned):
        shared.warned = _warn_undecided(optimizer)


def refuse_what_needs_losses(options: dict[str, Any], collected: object) -> None:
    """Raise a ``ValueError`` where a step without losses leaves something undecided.

    Args:
        options: further keywords of the step.
        collected: what ``accumulate`` has collected, or None.
    """
    given = ", ".join(name for name, value in options.items() if value is not None)
    if given:
        raise ValueError(f"step: {given}: without losses there is nothing to decide")
    if collected is not None:
        raise ValueError(
            "step: accumulate() has collected gradients; give the last micro-batch's losses to "
            "step() or backward(), or drop them with zero_grad()"
        )


def _check_unscaled(scaler: Any) -> None:
    if scaler is None or not scaler.is_enabled() or was_unscaled(scaler):
        return
    raise RuntimeError(
        f"step: .grad is still scaled by {scaler.get_scale():g}, as backward(losses, "
        "scaler=scaler) leaves it; call scaler.step(opt) and scaler.update() in place of opt.step()"
    )


def _check_finite(optimizer: DelegatingOptimizer) -> None:
    """Look at the gradients that a scalar has brought.

    Not on a CUDA device, where a look would wait for it, nor at shards: the decision of several
    processes has looked at them together, and an error in one alone would leave the others waiting.
    """
    gradients = [p.grad for p in parameters_of(optimizer.param_groups)]
    if any([g is not None and (g.is_cuda or _is_sharded(g)) for g in gradients]):
        return
    if all_finite(gradients):
        return
    block = next(k for k, g in enumerate(gradients) if not all_finite([g]))
    raise ValueError(
        f"step: the .grad that a scalar has brought is not finite in parameter {block}, though "
        "its losses were; call zero_grad() to go on without it, or use a gradient scaler"
    )


def _is_sharded(gradient: Tensor) -> bool:
    return type(gradient) is not Tensor and hasattr(gradient, "to_local")


def _warn_undecided(optimizer: DelegatingOptimizer) -> bool:
    """Return whether there are gradients, of which there was a warning.

    Gradients that are all zero are no such: distributed checkpoints create the base's state by a
    step on them.
    """
    gradients = [p.grad for p in parameters_of(optimizer.param_groups) if p.grad is not None]
    if not any(map(_holds_something, gradients)):
        return False
    name, base = type(optimizer).__name__, name_of(optimizer.base)
    warn_caller(
        f"step: .grad was filled by something else than {name}.backward, so this step is that of "
        f"{base} alone; give step() or backward() the separate losses, or let the loop call "
        "backward() on opt.scalarize(losses) in place of their sum"
    )
    return True


def warn_scaled_by_hand(losses: Sequence[Tensor]) -> None:
    """Warn where every loss looks as if ``scaler.scale`` had made it.

    That multiplies all of them by one tensor, in float32, whose value is a power of two.
    """
    found = [multiplier_of(loss) for loss in losses]
    first = found[0]
    if first is None or first.dtype is not torch.float32 or first.requires_grad:
        return
    if any(x is None or x.data_ptr() != first.data_ptr() for x in found):
        return
    factor = first.item()
    if factor > 1.0 and math.frexp(factor)[0] == 0.5:
        warn_caller(
            f"losses: all have been multiplied by {factor:g}, as scaler.scale() does; give the "
            "plain losses to backward(losses, scaler=scaler), so that the method decides on their "
            "own values, and call scaler.step(opt)"
        )


def _holds_something(gradient: Tensor) -> bool:
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return bool(values.any())
