"""The direction near the mean gradient along which the slowest loss falls fastest."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.backend.solvers import dual_cone, min_norm
from pyfront.methods._unit_gradients import ROUNDING, direction_is_zero
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, at_least
from pyfront.report import Report

__all__ = ["CAGrad"]


class CAGrad(MultiTaskOptimizer):
    """Maximises min_j g_jᵀ d over the ball ‖d − g_0‖ ≤ c ‖g_0‖ around the mean gradient g_0.

    By duality d = g_0 + (c ‖g_0‖ / ‖g_v‖) g_v with g_v = Jᵀ v and v on the simplex minimising
    g_vᵀ g_0 + c ‖g_0‖ ‖g_v‖, so that w = 1/m + (c ‖g_0‖ / ‖g_v‖) v. With c < 1 training ends
    where g_0 = 0; c = 0 is the mean gradient, and the larger c, the nearer to MGDA's direction.
    Where g_v = 0 is optimal, d is not unique: the projection of g_0 onto {d : Jd ≥ 0} is taken,
    which is an optimal one. ``report.gap`` is the difference of the two optimal values. Status
    ``"stationary"`` where d is zero.

    Args:
        base: the optimizer that makes the step, or a list of them.
        c: radius of the ball relative to ‖g_0‖, ≥ 0.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: a ``c`` that is not ≥ 0.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0, 0.0]))
        >>> opt = CAGrad(torch.optim.SGD([x], lr=0.1), c=0.5)
        >>> opt.step([x[0] + x[1], x[0] - 3 * x[1]]).weights.round(decimals=3).tolist()
        [1.0, 0.5]

    Source: Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning, 2021, algorithm 1;
    solved exactly by a sequence of min-norm problems. LibMTL's default divides d by 1 + c².
    """

    c = Option[float](at_least(0.0))

    def __init__(self, base: Base, *, c: float = 0.5, **common: Unpack[CommonOptions]) -> None:
        super().__init__(base, **common)
        self.c = c

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return 1/m + (c ‖g_0‖ / ‖g_v‖) v."""
        assert gramian is not None
        mean = np.full(losses.size, 1.0 / losses.size)
        if direction_is_zero(gramian, mean):
            return Report(weights=torch.from_numpy(mean), gap=0.0, status="stationary")
        largest = float(np.diagonal(gramian).max())
        unit = gramian / largest
        radius = self.c * float(np.sqrt(mean @ unit @ mean))
        if self.c <= ROUNDING:
            return Report(weights=torch.from_numpy(mean), gap=0.0)
        weights, dual = _solve(unit, mean, radius)
        status = "stationary" if direction_is_zero(unit, weights) else "ok"
        gap = largest * max(dual - float((unit @ weights).min()), 0.0)
        return Report(weights=torch.from_numpy(weights), gap=gap, status=status)


def _solve(c: FloatArray, mean: FloatArray, radius: float) -> tuple[FloatArray, float]:
    """Return w, and the dual value g_vᵀ g_0 + ρ ‖g_v‖ that certifies it."""
    nearest = min_norm(c).weights
    if not direction_is_zero(c, nearest):
        v = _dual_point(c, mean, radius, float(nearest @ c @ nearest))
    else:
        moved = dual_cone(c, mean[None]).weights[0] - mean
        beyond = math.sqrt(max(float(moved @ c @ moved), 0.0)) / radius
        if beyond <= 1.0:
            return mean + moved, 0.0  # none of the ball lowers every loss, this raises none
        v = _dual_point(c, mean, radius, 0.0)
        if direction_is_zero(c, v.weights):  # beyond the ball by rounding alone
            return mean + moved / beyond, 0.0
    length = math.sqrt(v.square)
    dual = float(v.weights @ c @ mean) + radius * length
    return mean + radius / length * v.weights, dual


class _DualPoint(NamedTuple):
    """The minimiser v of ½ vᵀCv + τ bᵀv over the simplex, b = C 1/m."""

    x: float  # τ²
    weights: FloatArray
    square: float  # q = ‖g_v‖²
    excess: float  # q − ρ² x: zero where v minimises bᵀv + ρ √(vᵀCv)


def _dual_point(c: FloatArray, mean: FloatArray, radius: float, least: float) -> _DualPoint:
    """Return the v at which τ = ‖g_v‖ / ρ, ρ the radius of the ball.

    As a function of x = τ², q is piecewise linear and does not fall, and q / x does not rise: the
    secant is exact once both ends of the bracket lie on the piece of the root.
    """
    linear = c @ mean

    def at(x: float) -> _DualPoint:
        v = min_norm(c, float(np.sqrt(x)) * linear).weights
        square = max(float(v @ c @ v), 0.0)
        return _DualPoint(x, v, square, square - radius**2 * x)

    high = at(1.0 / radius**2)  # no ‖g_v‖ exceeds 1
    low = at(least / radius**2) if least > 0.0 else _below(at, high)
    for turn in range(120):
        if high.x - low.x <= 1e-15 * high.x or low.excess <= 0.0 or high.excess >= 0.0:
            break
        x = low.x + (high.x - low.x) * low.excess / (low.excess - high.excess)
        if turn % 2 and high.x > 1.5 * low.x:
            x = math.sqrt(low.x * high.x)
        if not low.x < x < high.x:
            break
        point = at(x)
        if abs(point.excess) <= 1e-15 * point.square:
            return point
        low, high = (point, high) if point.excess > 0.0 else (low, point)
    return low if abs(low.excess) * high.square < abs(high.excess) * low.square else high


def _below(at: Callable[[float], _DualPoint], high: _DualPoint) -> _DualPoint:
    """Return a point with an excess > 0; there is one where zero is in the hull, not optimal."""
    point = high
    for _ in range(80):
        if point.excess > 0.0:
            break
        point = at(point.x / 16.0)
    return point
