"""Fixed weights of tasks inside a method, where it has some."""

from __future__ import annotations

import numpy as np

from pyfront._utils.arguments import FloatArray, VectorLike, require, vector

__all__ = ["check_task_weights", "per_task"]


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
