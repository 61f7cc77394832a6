"""Call autograd's engine m times per step, with little around the calls.

:func:`torch.autograd.grad` checks every parameter and prepares what only logging and the threads of
other devices need: a tenth of a step of a small model with several losses. Here the checks are made
once for all m losses, and the engine is called as :func:`torch.autograd.grad` calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor

from pyfront._utils.torch_private import RunBackward, autograd_log_is_on, engine_entry
from pyfront.backend.task_gradients import Row

__all__ = ["gradients"]


def gradients(
    losses: Sequence[Tensor], params: Sequence[Tensor], keep: Sequence[bool]
) -> Iterator[Row]:
    """Return the fastest iterator over the gradients of the losses; results are bit-identical.

    It calls autograd's engine directly when all tensors are on the CPU, nothing overrides torch's
    functions (a tensor subclass, a mode) and autograd's log is off; otherwise it is
    :func:`torch.autograd.grad`.

    Args:
        losses: m scalar tensors with a graph.
        params: T tensors that require a gradient.
        keep: whether each pass keeps the graph, m values.
    """
    by = _by_engine if _are_plain((*losses, *params)) else _by_torch
    return by(losses, params, keep)


def _are_plain(tensors: Sequence[Tensor]) -> bool:
    return (
        _engine() is not None
        and all([tensor.is_cpu for tensor in tensors])
        and not torch.overrides.has_torch_function(tensors)
        and not autograd_log_is_on()
    )


def _by_torch(
    losses: Sequence[Tensor], params: Sequence[Tensor], keep: Sequence[bool]
) -> Iterator[Row]:
    gradient = functools.partial(torch.autograd.grad, allow_unused=True)
    return map(gradient, losses, repeat(params), repeat(None), keep)


def _by_engine(
    losses: Sequence[Tensor], params: Sequence[Tensor], keep: Sequence[bool]
) -> Iterator[Row]:
    run = _engine()
    assert run is not None
    gradient = functools.partial(run, accumulate_grad=False)
    create_graph, some_may_be_out_of_reach = repeat(False), repeat(True)
    inputs = repeat(tuple(params))
    # a root each, since a hook may write into what it is given
    roots = zip([torch.ones_like(loss) for loss in losses])
    return map(gradient, zip(losses), roots, keep, create_graph, inputs, some_may_be_out_of_reach)


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
