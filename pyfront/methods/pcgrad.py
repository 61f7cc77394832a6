"""Task gradients without their conflicting parts, one pair at a time."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from pyfront._utils.arguments import FloatArray
from pyfront.methods._unit_gradients import direction_is_zero
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, integer_from
from pyfront.report import Report

__all__ = ["PCGrad", "projection_orders"]


class PCGrad(MultiTaskOptimizer):
    """Takes from each task gradient what conflicts with the others, in random order, and sums.

    For each task i, d_i = g_i; then for every other task j in a random order, where d_iᵀ g_j < 0,
    d_i ← d_i − (d_iᵀ g_j / ‖g_j‖²) g_j. The direction is d = Σ_i d_i. Only for m = 2 does no d_i
    conflict with any gradient at the end: with more tasks a later projection can bring an earlier
    conflict back. Without conflict d is the sum of the gradients, so that a step is that of
    ``sum(losses)``. All this is about d, not about the update that a base such as Adam makes of it.

    Orders are drawn from ``seed`` and the number of steps taken, which ``state_dict`` holds: they
    are the same in a resumed run and in every process, and no global random state is touched.

    Args:
        base: the optimizer that makes the step, or a list of them.
        seed: of the orders, an integer ≥ 0.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: a ``seed`` that is no integer ≥ 0.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = PCGrad(torch.optim.SGD([x], lr=0.1))
        >>> opt.step([x[0] + x[1], x[0] - 3 * x[1]]).weights.round(decimals=3).tolist()
        [2.0, 1.2]

    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, algorithm 1.
    """

    seed = Option[int](integer_from(0))

    def __init__(self, base: Base, *, seed: int = 0, **common: Unpack[CommonOptions]) -> None:
        super().__init__(base, **common)
        self.seed = seed

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the sum over i of the weights of d_i; all i go through their orders at once."""
        assert gramian is not None
        m, steps = losses.size, self.memory.get("steps", 0)
        squares = np.diagonal(gramian)
        rows, parts = np.arange(m), np.eye(m)  # row i holds the weights of d_i
        for others in projection_orders(self.seed, steps, m).T:
            products = np.einsum("ij,ij->i", parts, gramian[others])  # d_iᵀ g_j
            divisors = np.where(squares[others] > 0.0, squares[others], np.inf)
            parts[rows, others] -= np.minimum(products, 0.0) / divisors
        self.learn(steps=steps + 1)
        weights = parts.sum(axis=0)
        status = "stationary" if direction_is_zero(gramian, weights) else "ok"
        return Report(weights=torch.from_numpy(weights), status=status)


def projection_orders(seed: int, step: int, tasks: int) -> NDArray[np.intp]:
    """Return for each task the other tasks in the order of its projections, [m, m − 1].

    Example:
        >>> projection_orders(0, 0, 2).tolist()
        [[1], [0]]
    """
    if tasks <= 2:  # there is one order
        return np.arange(tasks)[::-1].reshape(tasks, 1)[:, : tasks - 1]
    draws = np.random.Generator(np.random.PCG64([seed, step])).random((tasks, tasks))
    np.fill_diagonal(draws, 2.0)  # the task itself comes last
    return np.argsort(draws, axis=1)[:, : tasks - 1]
