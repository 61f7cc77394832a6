"""What the record of a backward pass must keep to be differentiated in the weights u alone.

A backward pass is linear in u: each of its operators multiplies a gradient, which depends on u, by
something that does not (activations, parameters, masks). The derivative in u needs the latter only.
Autograd keeps both, since it could be asked for derivatives in the parameters too, and the
gradients of the activations are as large as the activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge, saved_tensors_hooks

__all__ = ["linear_record"]

SMALL = 4096  # entries: less is not worth the look


@contextmanager
def linear_record(*u: Tensor) -> Iterator[None]:
    """Record a backward pass without the tensors that depend on ``u``, as a context.

    Their place in the record is taken by zeros of stride 0, which no derivative in ``u`` reads. An
    operator that is not linear in the gradient (a hook that clips it) does read them, and gives
    another product than C u, as it does with the full record.

    Args:
        *u: the leaves that the record is differentiated in, and in nothing else.
    """
    known = {get_gradient_edge(leaf).node: True for leaf in u}

    def pack(saved: Tensor) -> Tensor:
        large = saved.layout is torch.strided and saved.numel() >= SMALL
        if large and saved.grad_fn is not None and _depends(saved.grad_fn, known):
            return saved.new_zeros(()).expand(saved.shape)
        return saved.detach()  # with its graph it would be a cycle with its own node

    try:
        with saved_tensors_hooks(pack, _as_packed):
            yield
    finally:
        known.clear()  # the record holds `pack`, which would hold the record


def _as_packed(packed: Tensor) -> Tensor:
    return packed


def _depends(node: Node, known: dict[Node, bool]) -> bool:
    """Whether the graph of ``node`` holds a node that is known to depend, and notes what it saw."""
    stack = [node]
    while stack:
        sources = [source for source, _ in stack[-1].next_functions if source is not None]
        new = [source for source in sources if source not in known]
        if new and stack[-1] not in known:
            stack.extend(new)
        else:
            top = stack.pop()
            known[top] = known.get(top, False) or any(known[source] for source in sources)
    return known[node]
