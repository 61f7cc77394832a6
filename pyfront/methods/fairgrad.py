"""A direction that shares out the fall of the losses fairly."""

from __future__ import annotations

from typing import Unpack

import torch

from pyfront._utils.arguments import FloatArray
from pyfront.methods._fairness import fair_weights
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, number_in
from pyfront.report import Report

__all__ = ["FairGrad"]


class FairGrad(MultiTaskOptimizer):
    """Steps along the direction of greatest α-fair utility of the rates at which losses fall.

    d maximises Σ_j (g_jᵀ d)^(1−α) / (1 − α) over the directions of one length (Σ_j log g_jᵀ d for
    α = 1). Its weights solve C w = w^(−1/α) entry by entry, exactly: every loss falls to first
    order, g_jᵀ d = w_j^(−1/α) > 0, a promise about d, not about what a base such as Adam makes of
    it. α near 0 is the sum of the gradients, 1 proportional fairness
    (Nash's bargain), large α lets the slowest count for all. Where no direction lowers every loss
    the weights are those of a convex combination that is zero, status ``"stationary"``. Gradients
    that are zero take no part. ``report.gap`` is the largest relative residual of the equation.

    Gradients whose lengths lie more than some ten decades apart can be beyond float64 for α of 10
    and more: status ``"iteration_limit"``.

    The length of d depends on α and on that of the gradients: for α = 1 it is √m whatever they are,
    so that the learning rate alone makes steps small at the end.

    Args:
        base: the optimizer that makes the step, or a list of them.
        alpha: α > 0, 0.05 to 50 in practice.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an ``alpha`` that is not > 0.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = FairGrad(torch.optim.SGD([x], lr=0.1), alpha=2.0)
        >>> opt.step([x[0], 8 * x[1]]).weights.round(decimals=4).tolist()
        [1.0, 0.0625]

    Source: Ban and Ji, Fair Resource Allocation in Multi-Task Learning, 2024, eq. (4); solved by
    Newton's method on the convex problem whose optimum it is, not as nonlinear least squares.
    """

    alpha = Option[float](number_in(above=0.0))

    def __init__(self, base: Base, *, alpha: float = 1.0, **common: Unpack[CommonOptions]) -> None:
        super().__init__(base, **common)
        self.alpha = alpha

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the α-fair weights."""
        assert gramian is not None
        weights, residual, status = fair_weights(gramian, self.alpha)
        return Report(weights=torch.from_numpy(weights), gap=residual, status=status)
