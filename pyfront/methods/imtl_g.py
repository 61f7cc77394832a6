"""A direction that makes the same angle with every task gradient."""

from __future__ import annotations

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.methods._unit_gradients import ROUNDING, pseudo_solve, unit_gramian
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.report import Report

__all__ = ["IMTLG"]


class IMTLG(MultiTaskOptimizer):
    """Gives the sum of weights 1 to the direction with equal projections onto all unit gradients.

    With Ĉ the Gramian of the unit gradients g_j / ‖g_j‖, the weights w_j ∝ (Ĉ⁺ 1)_j / ‖g_j‖ make
    dᵀ g_j / ‖g_j‖ the same for all j. Weights can be negative. Where gradients differ much in
    length the common projection itself can be: d then **raises** every loss, and where the weights
    before division sum to about 0, d is very long. :class:`ConFIG` has the same direction without
    these two. Gradients that are zero take no part. Where no direction has equal projections, or
    the weights cannot be made to sum to 1, d is zero, status ``"stationary"``.

    Args:
        base: the optimizer that makes the step, or a list of them.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = IMTLG(torch.optim.SGD([x], lr=0.1))
        >>> opt.step([x[0] + x[1], 3 * x[0] - 3 * x[1]]).weights.round(decimals=3).tolist()
        [0.75, 0.25]

    Source: Liu et al., Towards Impartial Multi-task Learning, 2021, eq. (5), without the balancing
    of losses (IMTL-L); for dependent gradients by a pseudo-inverse, as Quinton and Rey 2024 do, but
    of Ĉ in place of C, so that the answer does not depend on the gradients' lengths.
    """

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return Ĉ⁺ 1 in weights of the plain gradients, divided by their sum."""
        assert gramian is not None
        unit, norms = unit_gramian(gramian)
        there = norms > 0.0
        shares = pseudo_solve(unit, there.astype(np.float64))
        if not shares.any():
            return Report(weights=torch.from_numpy(np.zeros_like(norms)), status="stationary")
        smallest = norms[there].min()
        weights = shares * np.divide(smallest, norms, out=np.zeros_like(norms), where=there)
        total = float(weights.sum())
        if abs(total) <= weights.size * ROUNDING * float(np.abs(weights).sum()):
            return Report(weights=torch.from_numpy(np.zeros_like(norms)), status="stationary")
        return Report(weights=torch.from_numpy(weights / total))
