"""Task gradients projected so that none conflicts, and summed."""

from __future__ import annotations

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.backend.solvers import dual_cone
from pyfront.methods._task_weights import TaskWeightedMethod, per_task
from pyfront.methods._unit_gradients import direction_is_zero
from pyfront.report import Report

__all__ = ["UPGrad"]


class UPGrad(TaskWeightedMethod):
    """Projects each task gradient onto the dual cone of all of them and combines the projections.

    With K = {d : g_jᵀ d ≥ 0 for all j}, d = Σ_i a_i π_K(g_i), where a = ``task_weights``. The
    projection of g_i is Jᵀ v with v = argmin vᵀ C v subject to v ≥ e_i, solved exactly by an active
    set. No loss rises to first order: g_jᵀ d ≥ 0 for all j: a promise about d, not about
    the update that a base such as Adam makes of it. Without conflict d is Σ_i a_i g_i.
    ``report.gap`` is the largest violation of the optimality conditions, in units of C. Status
    ``"stationary"`` where d is zero.

    Args:
        base: the optimizer that makes the step, or a list of them.
        task_weights: a, [m], entries ≥ 0 and not all 0, used as given; None is 1/m each.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an entry of ``task_weights`` that is negative or not finite, and at a
            step another number of losses than it has entries.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = UPGrad(torch.optim.SGD([x], lr=0.1))
        >>> report = opt.step([x[0] + x[1], x[0] - 3 * x[1]])  # they conflict
        >>> report.weights.round(decimals=3).tolist()
        [1.0, 0.6]

    Source: Quinton and Rey, Jacobian Descent for Multi-Objective Optimization, 2024, eq. (3) and
    proposition 1. TorchJD adds 1e-4 of the trace to C's diagonal before it solves; this adds
    5e-16 m of each gradient's own square, the rounding of C, and takes it out where C tells more.
    """

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the sum of the m projections' weights."""
        assert gramian is not None
        m, given = losses.size, self.task_weights
        weights = per_task(None if given is None else self.among(given), m, 1.0 / m)
        floors = np.diag(weights)
        projections, gap, status = dual_cone(gramian, floors)
        weights = projections.sum(axis=0)
        if status == "ok" and direction_is_zero(gramian, weights):
            status = "stationary"
        return Report(weights=torch.from_numpy(weights), gap=gap, status=status)
