"""The gradient of one loss, taken m times a step: what stands around the engine's call counts.

:func:`torch.autograd.grad` looks at every parameter and sets up what only other devices' threads
and logging need. For m losses of a small model that is a tenth of the step. Here it is looked at
once for all m, and the engine is called as :func:`torch.autograd.grad` calls it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["GradientOf", "gradient_of"]

Run: TypeAlias = "Callable[..., tuple[Tensor | None, ...]]"
# ∂loss/∂θ for T parameters θ, None where the graph does not reach: (loss, θ, retain_graph)
GradientOf: TypeAlias = "Callable[[Tensor, Sequence[Tensor], bool], tuple[Tensor | None, ...]]"


def gradient_of(losses: Sequence[Tensor], params: Sequence[Tensor]) -> GradientOf:
    """The shortest way to the gradients of these losses; all ways give the same bits.

    Short where all is on the CPU, nobody overrides torch's functions (a tensor subclass, a mode)
    and autograd's own log is off; else :func:`torch.autograd.grad`.

    Args:
        losses: m scalar tensors with a graph.
        params: T tensors that require a gradient.
    """
    tensors = (*losses, *params)
    plain = (
        _engine() is not None
        and all(tensor.is_cpu for tensor in tensors)
        and not torch.overrides.has_torch_function(tensors)
        and _LOG.getEffectiveLevel() > logging.DEBUG
    )
    return _by_engine if plain else _by_torch


def _by_torch(
    loss: Tensor, params: Sequence[Tensor], retain_graph: bool
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(loss, params, retain_graph=retain_graph, allow_unused=True)


def _by_engine(
    loss: Tensor, params: Sequence[Tensor], retain_graph: bool
) -> tuple[Tensor | None, ...]:
    run = _engine()
    assert run is not None
    # roots, their gradients, keep the graph, create one, inputs, some may be out of reach
    return run(
        (loss,),
        (torch.ones_like(loss),),
        retain_graph,
        False,
        tuple(params),
        True,
        accumulate_grad=False,
    )


def _entry() -> Run:
    run: Run = torch.autograd.Variable._execution_engine.run_backward
    return run


@functools.cache  # and not tried at import: a backward pass before a fork forbids those after it
def _engine() -> Run | None:
    """The engine's entry, tried on ∂(x·x)/∂x; None where this release of torch has another one."""
    try:
        run = _entry()
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


_LOG = logging.getLogger("torch.autograd.graph")
