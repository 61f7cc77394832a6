"""Take task gradients as :func:`torch.autograd.grad` does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pyfront.backend.task_gradients import Row
from pyfront.gradients.engine import Engine, accumulated
from pyfront.gradients.grad_passes import gradients

__all__ = ["GradEngine"]


class GradEngine(Engine):
    """``torch.autograd.grad`` once per loss; touches no ``.grad`` and runs no hook of a leaf.

    Args:
        hooks: a single weighted pass runs the hooks of leaves, as ``backward`` does. Not among
            replicas, where the reducer of DistributedDataParallel is such a hook.
    """

    name = "grad"
    checkpoints = False
    stops_inside = True

    def __init__(self, hooks: bool = True) -> None:
        self.hooks = hooks

    def gradients(
        self, losses: Sequence[Tensor], params: Sequence[Tensor], keep: Sequence[bool]
    ) -> Iterator[Row]:
        """Return the fastest iterator that gives autograd's bits."""
        return gradients(losses, params, keep)

    def inputs(self, params: Sequence[Tensor]) -> list[Tensor] | None:
        """Return the parameters, so that no other leaf collects a gradient."""
        return list(params)

    def weighted(
        self,
        losses: Sequence[Tensor],
        roots: Sequence[Tensor],
        params: Sequence[Tensor],
        retain_graph: bool,
    ) -> Row:
        """Return Σ_j u_j g_j by one pass, for roots u_j shaped like the losses."""
        if self.hooks:
            return accumulated(losses, roots, params, retain_graph, self)
        return torch.autograd.grad(
            losses, params, roots, retain_graph=retain_graph, allow_unused=True
        )
