"""Call autograd's engine for one gradient, m times per step, with little around the call.

:func:`torch.autograd.grad` checks every parameter and prepares what only logging and the threads of
other devices need: a tenth of a step of a small model with several losses. Here the checks are made
once for all m losses, and the engine is called as :func:`torch.autograd.grad` calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from pyfront._utils.torch_private import RunBackward, autograd_log_is_on, engine_entry

__all__ = ["GradientOf", "gradient_of"]

# ∂loss/∂θ for T parameters θ, None where the graph does not reach: (loss, θ, retain_graph)
GradientOf: TypeAlias = "Callable[[Tensor, Sequence[Tensor], bool], tuple[Tensor | None, ...]]"


def gradient_of(losses: Sequence[Tensor], params: Sequence[Tensor]) -> GradientOf:
    """Return the fastest function for these gradients; results are bit-identical.

    It calls autograd's engine directly when all tensors are on the CPU, nothing overrides torch's
    functions (a tensor subclass, a mode) and autograd's log is off; otherwise it is
    :func:`torch.autograd.grad`.

    Args:
        losses: m scalar tensors with a graph.
        params: T tensors that require a gradient.
    """
    tensors = (*losses, *params)
    plain = (
        _engine() is not None
        and all([tensor.is_cpu for tensor in tensors])
        and not torch.overrides.has_torch_function(tensors)
        and not autograd_log_is_on()
    )
    return _by_engine() if plain else _by_torch


def _by_torch(
    loss: Tensor, params: Sequence[Tensor], retain_graph: bool
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, params, retain_graph=retain_graph, allow_unused=True)


def _by_engine() -> GradientOf:
    run, one = _engine(), torch.ones((), device="cpu")
    assert run is not None

    def gradient(
        loss: Tensor, params: Sequence[Tensor], retain_graph: bool
    ) -> tuple[Tensor | None, ...]:
        nonlocal one  # of the loss before: most losses are alike
        if one.dtype is not loss.dtype or one.shape != loss.shape:
            one = torch.ones_like(loss)
        # roots, their gradients, keep the graph, create one, inputs, some may be out of reach
        return run((loss,), (one,), retain_graph, False, tuple(params), True, accumulate_grad=False)

    return gradient


@functools.cache  # and not tried at import: a backward pass before a fork forbids those after it
def _engine() -> RunBackward | None:
    """Return the engine's entry if it gives ∂(x·x)/∂x; None for a torch that has another one."""
    run = engine_entry()
    if run is None:
        return None
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.ones(2, device="cpu", requires_grad=True)
            unused = torch.ones(2, device="cpu", requires_grad=True)
            x_dot_x = (x * x).sum()
        one = torch.ones_like(x_dot_x)
        found = run((x_dot_x,), (one,), False, False, (x, unused), True, accumulate_grad=False)
    except (AttributeError, TypeError):
        return None
    gradient, nothing = found
    return run if nothing is None and gradient is not None and gradient.eq(2.0).all() else None
