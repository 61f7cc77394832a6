"""The direction on which the tasks agree when they bargain."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray, number
from pyfront.methods._fairness import fair_weights
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option
from pyfront.report import Report

__all__ = ["NashMTL"]


def _checked_limit(name: str, value: Any) -> float | None:
    return None if value is None else number(name, value, above=0.0)


class NashMTL(MultiTaskOptimizer):
    """Steps along Nash's bargaining solution: the largest product of the rates of all losses.

    The solution's weights solve C α = 1/α entry by entry, exactly and uniquely, so that every loss
    falls to first order, g_jᵀ d = 1/α_j > 0, and the direction does not depend on the losses'
    scales: a promise about d, not about the update that a base such as Adam makes of it. Since its
    length is √m wherever one is, it is multiplied by the root of C's Frobenius norm, w = √‖C‖ α, as
    the authors' code does, and cut to ``max_norm``. Where no direction lowers every loss the
    weights are those of a convex combination that is zero, status ``"stationary"``. Gradients that
    are zero take no part. ``report.gap`` is the largest relative residual of the equation.

    Args:
        base: the optimizer that makes the step, or a list of them.
        max_norm: the largest length of d, > 0, or None for no limit. It holds for the weights
            that the method gives, before ``scale`` and ``weight_smoothing``.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`; ``every`` is what the
            authors call the period of the weights' update.

    Raises:
        TypeError, ValueError: a ``max_norm`` that is not > 0.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = NashMTL(torch.optim.SGD([x], lr=0.1))
        >>> report = opt.step([x[0], 5 * x[1]])
        >>> (report.weights * torch.tensor([1, 5])).round(decimals=4).tolist()  # d, of length 1
        [0.7071, 0.7071]

    Source: Navon et al., Multi-Task Learning as a Bargaining Game, 2022, claim 3.1 and algorithm 1;
    solved by Newton's method on min ½ αᵀCα − Σ log α, which is convex and has the same solution, in
    place of the paper's sequence of convex programs, which stops at a residual of 1e-3.
    """

    max_norm = Option[float | None](_checked_limit)

    def __init__(
        self,
        base: Base,
        *,
        max_norm: float | None = 1.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, **common)
        self.max_norm = max_norm

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return √‖C‖ α, cut to the largest length."""
        assert gramian is not None
        weights, residual, status = fair_weights(gramian, 1.0)
        if status == "stationary":
            return Report(weights=torch.from_numpy(weights), gap=residual, status=status)
        largest = float(gramian.max())  # so that no square overflows
        factor = float(np.sqrt(largest * np.linalg.norm(gramian / largest)))
        length = factor * float(np.sqrt(np.count_nonzero(weights)))  # αᵀCα = m
        if self.max_norm is not None and length > self.max_norm:
            factor *= self.max_norm / length
        return Report(weights=torch.from_numpy(factor * weights), gap=residual, status=status)
