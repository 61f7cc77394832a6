"""Processes that each hold the whole model and a part of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch.distributed as dist
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.task_gradients import Row, TaskGradients
from pyfront.distributed.averaging import averaged_over_processes
from pyfront.distributed.processes import Arrived, Memory, local_squares
from pyfront.distributed.together import Together

__all__ = ["Replicas"]


class Replicas(Together):
    """Replicas of one model, with DistributedDataParallel around it or nothing.

    The loss of the whole batch is l_j = 1/W Σ_i l_ij over the processes i, so g_j is the mean of
    the rows, and C is that of the means. DistributedDataParallel's reducer stays out: gradients are
    taken by :func:`torch.autograd.grad`, which runs no hook of a parameter.

    Args:
        group: the W processes.
        params: T parameters.
    """

    def __init__(self, group: dist.ProcessGroup, params: Sequence[Tensor]) -> None:
        super().__init__([group], params[0].device)
        self.params = params
        self.blocks = len(params)

    def equal(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return all parameters."""
        return params

    def averaged(
        self,
        compute: Callable[[Arrived], Sequence[Row]],
        count: int,
        roots: Sequence[Sequence[Tensor]] = (),
        memory: Memory | None = None,
    ) -> list[Row]:
        """Average each row by asynchronous all-reduces of buckets."""
        return averaged_over_processes(self, self.params, compute, count, roots, memory)

    def squares(
        self, gradients: TaskGradients, inside: list[int] | None, outside: list[int] | None
    ) -> tuple[FloatArray, FloatArray]:
        """Compute C of the averaged rows in each process; sum it at features, which are local."""
        c, norms = local_squares(gradients, inside, outside)
        if gradients.table.blocks > self.blocks:  # ∂l_j/∂z_i is 1/W of that of process i's loss
            c = self.total(c / self.size**2)[0]
        return c, np.diagonal(c) + norms
