"""The direction d = Jᵀ w: computed in the memory of ``.grad`` where that fits, and put there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyfront.backend import cuda as devices
from pyfront.backend.task_gradients import (
    Destination,
    Row,
    TaskGradients,
    add_rows,
    as_complex,
    as_real,
)
from pyfront.distributed.processes import ALONE, Processes
from pyfront.gradients.features import Split
from pyfront.optimizer.arithmetic import Numbers

__all__ = ["assign", "combined", "direction_buffers"]


def combined(
    gradients: TaskGradients,
    weights: Numbers,
    params: Sequence[Tensor],
    own: list[int] | None,
    split: Split | None,
    retain_graph: bool,
    processes: Processes = ALONE,
) -> Row:
    """Return d = Jᵀ w, T tensors or None; the blocks ``own`` get their task's plain gradient.

    Where the split is a bound, the trunk's part is one pass on from Σ_j w_j ∂l_j/∂z.
    """
    if split is None or not split.bound:
        return _combined(gradients, weights, params, own)
    count = len(params)
    heads = _combined(gradients.select(range(count)), weights, params, own)
    at_features = gradients.select(range(count, count + len(split.features)))
    targets = [z for z in as_real([z.detach() for z in split.features]) if z is not None]
    v = as_complex(_combined(at_features, weights, targets, None), split.features)
    trunk = processes.averaged(lambda send: [send(split.trunk_gradient(v, retain_graph))], 1)[0]
    return add_rows(as_complex(heads, params), trunk)


def _combined(
    gradients: TaskGradients, weights: Numbers, targets: Sequence[Tensor], own: list[int] | None
) -> list[Tensor | None]:
    out, destination = direction_buffers(gradients, targets)
    if own is None:
        gradients.combine(weights, out if destination is None else destination)
        return gradients.spread(out)
    shared = [block for block in range(len(targets)) if block not in own]
    plain = weights * 0.0 + 1.0  # NaN stays
    for blocks, w in ((shared, weights), (own, plain)):
        gradients.select(blocks).combine(w, [out[block] for block in blocks])
    return gradients.spread(out)


def direction_buffers(
    gradients: TaskGradients, params: Sequence[Tensor]
) -> tuple[list[Tensor | None], Destination | None]:
    """Return where d goes: a parameter's own ``.grad`` if its memory fits, else a new tensor.

    That of a sparse block is new, and :meth:`TaskGradients.spread` makes it sparse. A CUDA graph
    writes where it wrote when it was captured: into memory of its own. Where all are the
    parameters' own, the second is what :meth:`TaskGradients.combine` writes into.
    """
    captured = devices.capturing(params[0].device)
    supports = gradients.supports
    own = [None if block in supports else p.grad for block, p in enumerate(params)]
    if not captured and (destination := gradients.destination(own, plain=True)) is not None:
        return own, destination
    buffers: list[Tensor | None] = []
    taken: set[int] = set()
    for old, like in zip(own, gradients.blocks(), strict=True):
        if like is None:
            buffers.append(None)
            continue
        if old is None or captured or not _fits(old, like) or old.data_ptr() in taken:
            old = torch.empty_like(like, requires_grad=False)
        taken.add(old.data_ptr())
        buffers.append(old)
    return buffers, None


def _fits(old: Tensor, like: Tensor) -> bool:
    return (
        type(old) is Tensor
        and not old.requires_grad
        and old.layout is torch.strided
        and old.dtype is like.dtype
        and old.shape == like.shape
        and old.stride() == like.stride()
    )


def assign(params: Sequence[Tensor], direction: Sequence[Tensor | None]) -> None:
    """Set ``.grad``, in the parameter's own dtype and layout; None where there is no direction."""
    written = []
    for p, d in zip(params, direction, strict=True):
        if d is None:
            p.grad = None
        elif d is p.grad:
            written.append(d)
        else:
            sparse = d.layout is not torch.strided
            fits = sparse or (d.dtype is p.dtype and d.stride() == p.stride())
            p.grad = d if fits else torch.empty_like(p, requires_grad=False).copy_(d)
    if written:
        torch.autograd.graph.increment_version(written)  # autograd does not see the core write
