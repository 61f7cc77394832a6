"""Weights that sum to 1."""

from __future__ import annotations

import numpy as np

from pyfront._utils.arguments import FloatArray

__all__ = ["tilted"]


def tilted(q: FloatArray | float, exponent: FloatArray) -> FloatArray:
    """Return q exp(exponent) / Σ; the softmax of the exponent for q = 1.

    Example:
        >>> tilted(1.0, np.array([1000.0, 1000.0])).tolist()
        [0.5, 0.5]
    """
    weights: FloatArray = q * np.exp(exponent - exponent.max())
    weights /= weights.sum()
    return weights
