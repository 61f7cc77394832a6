"""Task gradients whose principal components have been made equally long."""

from __future__ import annotations

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.methods._task_weights import TaskWeightedMethod, per_task
from pyfront.methods._unit_gradients import ROUNDING, direction_is_zero
from pyfront.report import Report

__all__ = ["AlignedMTL"]


class AlignedMTL(TaskWeightedMethod):
    """Combines the nearest gradients that are orthogonal to each other and equally long.

    With C = V Λ Vᵀ over the eigenvalues λ > 0 and σ² the smallest of them, the aligned gradients
    are the rows of σ V Λ^(−1/2) Vᵀ J, all of length σ and orthogonal where C is regular, and
    d = Σ_i a_i (aligned gradient i), a = ``task_weights``: w = σ V Λ^(−1/2) Vᵀ a. d is as short as
    the weakest component: nearly dependent gradients make small steps. Status ``"stationary"``
    where d is zero.

    Args:
        base: the optimizer that makes the step, or a list of them.
        task_weights: a, [m], entries ≥ 0 and not all 0, used as given; None is 1/m each.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an entry of ``task_weights`` that is negative or not finite, and at a
            step another number of losses than it has entries.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = AlignedMTL(torch.optim.SGD([x], lr=0.1))
        >>> opt.step([x[0], 5 * x[1]]).weights.round(decimals=3).tolist()
        [0.5, 0.1]

    Source: Senushkin et al., Independent Component Alignment for Multi-Task Learning, 2023,
    algorithm 1. λ ≤ m ε λ_max counts as zero. LibMTL has a = 1, which is m times the step.
    """

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return σ V Λ^(−1/2) Vᵀ a."""
        assert gramian is not None
        m, given = losses.size, self.task_weights
        combined = per_task(None if given is None else self.among(given), m, 1.0 / m)
        values, vectors = np.linalg.eigh(gramian)  # ascending
        if not values[-1] > 0.0:
            return Report(weights=torch.from_numpy(combined.copy()), status="stationary")
        kept = values > values[-1] * values.size * ROUNDING
        values, vectors = values[kept], vectors[:, kept]
        weights = vectors @ (np.sqrt(values[0] / values) * (vectors.T @ combined))
        status = "stationary" if direction_is_zero(gramian, weights) else "ok"
        return Report(weights=torch.from_numpy(weights), status=status)
