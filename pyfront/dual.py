"""Steps on multipliers: projections, and a length that needs no knowledge of scale."""

from __future__ import annotations

import numpy as np

from pyfront._arguments import FloatArray

__all__ = ["onto_simplex", "step_length"]


def onto_simplex(v: FloatArray) -> FloatArray:
    """The nearest point to v in {w ≥ 0, Σ w = 1}: max(v − τ, 0).

    Example:
        >>> onto_simplex(np.array([1.0, 0.5])).tolist()
        [0.75, 0.25]

    Source: Held, Wolfe and Crowder 1974.
    """
    descending = np.sort(v)[::-1]
    excess = (np.cumsum(descending) - 1.0) / np.arange(1, v.size + 1)
    tau = excess[np.flatnonzero(descending > excess)[-1]]
    w: FloatArray = np.maximum(v - tau, 0.0)
    w /= w.sum()
    return w


def step_length(rate: float, gradient: FloatArray, squares: float) -> tuple[float, float]:
    """ρ / √(Σ_t ‖gradient_t‖²) and the sum: AdaGrad's length, the same for losses of any scale.

    Args:
        rate: ρ > 0, the length of the first step.
        gradient: of this step.
        squares: the sum over the steps before.
    """
    squares += float(gradient @ gradient)
    return (rate / np.sqrt(squares) if squares > 0.0 else 0.0), squares
