"""Steps on multipliers: onto the simplex, and a length that needs no knowledge of scale."""

from __future__ import annotations

from typing import TypedDict

import numpy as np

from pyfront._utils.arguments import FloatArray

__all__ = ["Pace", "gathered", "onto_simplex", "step_length"]

AGREEMENT = 0.015  # per step that repeats the slope of the last
OPPOSITION = 10.0  # less: the weights swing more at their end; more: noise shortens the steps


def onto_simplex(v: FloatArray) -> FloatArray:
    """Return the nearest point to v in {w ≥ 0, Σ w = 1}: max(v − τ, 0).

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


def gathered(shares: FloatArray, total: float) -> tuple[FloatArray, float]:
    """Return shares scaled to a sum, and the factor that takes them back.

    Of the tasks that are present: the shares of others stay as they are, and so does the ratio of
    the sums. NaN, a task that has had none yet, counts as the mean of the others; shares that are
    all 0 become equal ones, and go back to 0.

    Example:
        >>> gathered(np.array([0.1, 0.3]), 1.0)
        (array([0.25, 0.75]), 0.4)
    """
    known = shares[~np.isnan(shares)]
    mean = float(known.mean()) if known.size else total / shares.size
    filled = np.where(np.isnan(shares), mean, shares)
    found = float(filled.sum())
    if not found > 0.0:
        return np.full_like(filled, total / filled.size), 0.0
    if abs(found - total) <= 1e-9 * total:
        return filled, 1.0
    return filled * (total / found), found / total


class Pace(TypedDict):
    """What is carried from one step to the next; JSON knows it."""

    squares: float  # s, at least the square of the last slope
    slope: list[float]  # the last one


def step_length(rate: float, slope: FloatArray, pace: Pace | None) -> tuple[float, Pace]:
    """Return ρ / √s, where the sum of squares s follows the slopes, whatever their scale.

    With c the cosine of the angle between this slope p and the last one:

        s ← s exp(−0.015 c) + ‖p‖² (1 + 10 max(−c, 0))

    Where noise turns the slopes, c is zero on average and this is AdaGrad, whose sum alone would
    keep a large slope for ever. Where they agree, the multipliers are too slow and s falls, by up
    to 1.5% a step, so that a slope f times as large as those that follow is forgotten within about
    130 log f of such steps. Where they oppose each other, the length is beyond what the dual's
    curvature allows, and s rises. No step is longer than ρ, none opposite to the last than a third.

    Args:
        rate: ρ > 0, the length of the first step.
        slope: p of this step.
        pace: that of the step before, None at the first one.

    Returns:
        The factor of p, 0 where there has been no slope yet, and the pace for the next step.

    Example:
        >>> length, pace = step_length(0.5, np.array([3.0, 4.0]), None)
        >>> length, step_length(0.5, np.array([3.0, 4.0]), pace)[0] < length
        (0.1, True)

    Source: the sum is AdaGrad's (Duchi et al. 2011, one length for all entries), its factor the
    multiplicative hypergradient of Baydin et al. 2018; the weight of opposed slopes is ours.
    """
    squares, last = (0.0, slope) if pace is None else (pace["squares"], np.array(pace["slope"]))
    norms = float(np.linalg.norm(slope)) * float(np.linalg.norm(last))
    cosine = float(slope @ last) / norms if norms > 0.0 else 0.0
    squares *= float(np.exp(-AGREEMENT * cosine))
    squares += float(slope @ slope) * (1.0 + OPPOSITION * max(-cosine, 0.0))
    length = rate / float(np.sqrt(squares)) if squares > 0.0 else 0.0
    return length, Pace(squares=squares, slope=slope.tolist())
