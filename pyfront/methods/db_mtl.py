"""Gradients of the losses' logarithms, all made as long as the longest."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.methods._unit_gradients import direction_is_zero
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, number_in
from pyfront.report import Report

__all__ = ["DBMTL"]


class DBMTL(MultiTaskOptimizer):
    """Balances losses by their logarithms and gradients by the largest of their norms.

    With h_j = g_j / (l_j + ε), the gradient of log(l_j + ε), d = Σ_j (max_k ‖h_k‖ / ‖h_j‖) h_j:
    every task adds a part of the same length, that of the longest h. In weights of the plain
    gradients, w_j = max_k (‖g_k‖ / (l_k + ε)) / ‖g_j‖, read off C's diagonal. The length of d grows
    as losses approach zero. Gradients that are zero take no part. No promise that no loss rises.
    Status ``"stationary"`` where d is zero.

    **Left out:** the paper balances a running average of each h_j over the steps, which needs all m
    averaged gradients in memory and cannot be had from C; this is its algorithm with the average's
    β = 0. ``weight_smoothing`` averages weights, which is something else. A parameter that one
    loss alone reaches gets w_j g_j as any other, where the authors give it h_j.

    Args:
        base: the optimizer that makes the step, or a list of them.
        epsilon: ε > 0, which keeps the logarithm finite.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an ``epsilon`` that is not > 0; at a step a loss that is negative.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = DBMTL(torch.optim.SGD([x], lr=0.1))
        >>> report = opt.step([x[0] ** 2, 100 * x[1] ** 2])
        >>> x.grad.round(decimals=3).tolist()
        [2.0, 2.0]

    Source: Lin et al., Dual-Balancing for Multi-Task Learning, 2023, sections 3.1 and 3.2.
    """

    epsilon = Option[float](number_in(above=0.0))

    def __init__(
        self, base: Base, *, epsilon: float = 1e-8, **common: Unpack[CommonOptions]
    ) -> None:
        super().__init__(base, **common)
        self.epsilon = epsilon

    def check_losses(self, losses: FloatArray) -> None:
        """Require losses that are finite and ≥ 0, since they have logarithms."""
        self.require_losses(losses, lowest=0.0, hint="; DB-MTL takes logarithms of losses")

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return max_k (‖g_k‖ / (l_k + ε)) / ‖g_j‖."""
        assert gramian is not None
        norms = np.sqrt(np.maximum(np.diagonal(gramian), 0.0))
        longest = float((norms / (losses + self.epsilon)).max())
        weights = np.divide(longest, norms, out=np.zeros_like(norms), where=norms > 0.0)
        status = "stationary" if direction_is_zero(gramian, weights) else "ok"
        return Report(weights=torch.from_numpy(weights), status=status)
