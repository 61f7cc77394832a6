"""Fixed weights of tasks inside a method, where it has some."""

from __future__ import annotations

from typing import Unpack

import numpy as np

from pyfront._utils.arguments import FloatArray, VectorLike, require, vector
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option

__all__ = ["TaskWeightedMethod", "check_task_weights", "per_task"]


def check_task_weights(name: str, value: VectorLike | None) -> FloatArray | None:
    """Return ``value`` as an array that cannot be written to, or None for equal weights.

    Raises:
        TypeError, ValueError: no numbers, or an entry that is negative or not finite, or all zero.
    """
    if value is None:
        return None
    weights = vector(name, value).copy()
    require(name, weights, lowest=0.0)
    if not weights.any():
        raise ValueError(f"{name}: all entries are 0")
    weights.flags.writeable = False
    return weights


def per_task(weights: FloatArray | None, tasks: int, equal: float) -> FloatArray:
    """Return the weights for ``tasks`` tasks: those given, or ``equal`` for each.

    Raises:
        ValueError: another number of tasks than weights were given for.

    Example:
        >>> per_task(None, 2, 0.5).tolist()
        [0.5, 0.5]
    """
    if weights is None:
        return np.full(tasks, equal)
    if weights.size != tasks:
        raise ValueError(
            f"losses: expected {weights.size}, one per entry of task_weights, got {tasks}"
        )
    return weights


class TaskWeightedMethod(MultiTaskOptimizer):
    """A method that combines one vector per task with fixed weights.

    Args:
        base: the optimizer that makes the step, or a list of them.
        task_weights: [m], entries ≥ 0 and not all 0; None is equal weights.
        **common: keywords of :class:`~pyfront.MultiTaskOptimizer`.
    """

    task_weights = Option[FloatArray | None](check_task_weights)

    def __init__(
        self,
        base: Base,
        *,
        task_weights: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, **common)
        self.task_weights = task_weights

    def check_tasks(self, tasks: int) -> None:
        """Require as many losses as ``task_weights`` has entries."""
        per_task(self.task_weights, tasks, 1.0)
