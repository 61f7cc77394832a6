"""Quantiles of Student's t, for errors of means of few values."""

from __future__ import annotations

import math

__all__ = ["student_quantile"]


def student_quantile(tail: float, freedom: int) -> float:
    """Return t with P(T > t) = tail for T of so many degrees of freedom.

    Args:
        tail: a probability in (0, 0.5].
        freedom: ν ≥ 1.

    Example:
        >>> round(student_quantile(0.025, 7), 3)
        2.365

    Source: the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4; solved by bisection.
    """
    low, high = 0.0, 0.5 * math.pi
    for _ in range(100):
        angle = 0.5 * (low + high)
        low, high = (angle, high) if 1.0 - _central(angle, freedom) > 2.0 * tail else (low, angle)
    return math.sqrt(freedom) * math.tan(low)


def _central(angle: float, freedom: int) -> float:
    """Return P(|T| < √ν tan angle)."""
    odd = freedom % 2
    cosine = math.cos(angle)
    term = total = cosine if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2.0 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))
