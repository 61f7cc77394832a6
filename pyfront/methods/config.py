"""A direction without conflict whose length is what the task gradients have along it."""

from __future__ import annotations

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.methods._task_weights import TaskWeightedMethod, per_task
from pyfront.methods._unit_gradients import pseudo_solve, unit_gramian
from pyfront.report import Report

__all__ = ["ConFIG"]


class ConFIG(TaskWeightedMethod):
    """Steps along the direction whose cosines with the task gradients are in given proportions.

    With U the unit gradients in rows and a = ``task_weights``, the direction is e = U⁺ a / ‖U⁺ a‖,
    whose products with the unit gradients are in the proportions a, all equal by default, wherever
    the gradients are independent: then every loss falls to first order along d, if not along the
    update that a base such as Adam makes of it. Its length is that of the gradients along it:
    d = (Σ_j g_jᵀ e) e. Gradients that are zero take no part. Where gradients are dependent the
    proportions hold in the sense of least squares only, and a task may conflict. Status
    ``"stationary"`` where d is zero.

    Args:
        base: the optimizer that makes the step, or a list of them.
        task_weights: a, [m], entries ≥ 0 and not all 0; None is equal ones. Only ratios count.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an entry of ``task_weights`` that is negative or not finite, and at a
            step another number of losses than it has entries.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = ConFIG(torch.optim.SGD([x], lr=0.1))
        >>> report = opt.step([x[0] + x[1], 3 * x[0] - 3 * x[1]])
        >>> x.grad[0].round(decimals=3).item()  # and 0 across
        4.0

    Source: Liu, Chu and Thuerey, ConFIG: Towards Conflict-free Training of Physics Informed Neural
    Networks, 2024, eq. (2) and (3); not its momentum version. U⁺ is taken from the Gramian in
    float64: gradients whose directions differ by less than about 1e-7 count as dependent.
    """

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the weights of U⁺ = Uᵀ Ĉ⁺: Ĉ⁺ a for the unit gradients, up to the length."""
        assert gramian is not None
        unit, norms = unit_gramian(gramian)
        given = self.task_weights
        cosines = per_task(None if given is None else self.among(given), losses.size, 1.0)
        largest = cosines.max() or 1.0  # 0 where the tasks that have weights have no data
        shares = pseudo_solve(unit, np.where(norms > 0.0, cosines / largest, 0.0))
        if not shares.any():
            return Report(weights=torch.from_numpy(np.zeros_like(norms)), status="stationary")
        products = unit @ shares  # of each unit gradient with U⁺ a
        length = (norms @ products) / (shares @ products)
        weights = length * np.divide(shares, norms, out=np.zeros_like(norms), where=norms > 0.0)
        return Report(weights=torch.from_numpy(weights))
