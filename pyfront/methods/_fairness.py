"""α-fair weights: C w = w^(−1/α), what bargaining and fair allocation among tasks come to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pyfront._utils.arguments import FloatArray
from pyfront.backend.solvers import min_norm
from pyfront.methods._unit_gradients import ROUNDING, direction_is_zero, unit_gramian

__all__ = ["FairWeights", "fair_weights"]

TOLERANCE = 1e-13  # of the relative residual, beside its rounding
CAP = 200  # steps of Newton's method; 5 to 20 are usual
LARGEST_STEP = 0.9  # of a weight, downwards


class FairWeights(NamedTuple):
    """Answer of :func:`fair_weights`."""

    weights: FloatArray
    residual: float  # max_j |w_j^(1/α) (Cw)_j − 1| over the tasks that take part
    status: str


def fair_weights(gramian: FloatArray, alpha: float) -> FairWeights:
    """Return the w > 0 with C w = w^(−1/α), entry by entry.

    w is where the convex function ½ wᵀCw − Σ_j φ(w_j), φ' = w^(−1/α), is least, found by Newton's
    method with a line search. In the units w = a ∘ x with a_j = ‖g_j‖^(−2α/(1+α)), which solve the
    problem of orthogonal gradients, it reads Ĉx = x^(−1/α) with Ĉ of unit diagonal up to one factor
    per row. A gradient that is zero takes no part, its weight is 0. Where some convex combination
    of the gradients is zero there is no such w: those weights are returned, ``"stationary"``.

    Args:
        gramian: C, [m, m], finite.
        alpha: α > 0.

    Returns:
        w [m], its residual, and ``"ok"``, ``"stationary"`` or ``"iteration_limit"``.

    Example:
        >>> fair_weights(np.array([[1.0, 0.0], [0.0, 4.0]]), 1.0).weights.round(6).tolist()
        [1.0, 0.5]
    """
    unit, norms = unit_gramian(gramian)
    there = norms > 0.0
    weights = np.zeros_like(norms)
    if not there.any():
        return FairWeights(np.full_like(norms, 1.0 / norms.size), 0.0, "stationary")
    unit, norms = unit[np.ix_(there, there)], norms[there]
    hull = min_norm(unit)
    if direction_is_zero(unit, hull.weights):
        shares = hull.weights * (norms.min() / norms)
        weights[there] = shares / shares.sum()
        return FairWeights(weights, 0.0, "stationary")
    # the common factor of all norms, taken out: C = ν² C' has w = ν^(−2α/(1+α)) w'
    power = -2.0 * alpha / (1.0 + alpha)
    common = float(np.exp(np.log(norms).mean()))
    units: FloatArray = (norms / common) ** power
    strengths: FloatArray = (norms / common) * units  # ‖a_j g_j‖, whose square is a_j^(1 − 1/α)
    x, residual, exact = _newton(unit * np.outer(strengths, strengths), strengths**2, 1.0 / alpha)
    weights[there] = units * x * common**power
    return FairWeights(weights, residual, "ok" if exact else "iteration_limit")


def _newton(c: FloatArray, scales: FloatArray, beta: float) -> tuple[FloatArray, float, bool]:
    """Minimise ½ xᵀCx − Σ_j s_j φ(x_j), φ' = x^(−β); return x, its residual, its success."""
    x = np.ones_like(scales)
    x *= (scales.sum() / (x @ c @ x)) ** (1.0 / (1.0 + beta))  # the least value along this ray
    sizes = 4.0 * x.size * ROUNDING * np.abs(c)
    for _ in range(CAP):
        pulls, slopes = scales * x ** (1.0 - beta), x * (c @ x)  # x_j times the two derivatives
        errors, noise = np.abs(slopes - pulls) / pulls, x * (sizes @ x) / pulls
        if (errors <= TOLERANCE + noise).all():
            return x, float(errors.max()), True
        hessian = c * np.outer(x, x)
        hessian[np.diag_indices_from(hessian)] += beta * pulls
        roots = np.sqrt(np.diagonal(hessian))
        hessian /= np.outer(roots, roots)
        hessian[np.diag_indices_from(hessian)] += x.size * ROUNDING  # so that it can be inverted
        ratios = np.linalg.solve(hessian, (pulls - slopes) / roots) / roots
        x = x * (1.0 + _step(c, x, scales, beta, ratios) * ratios)  # ratios are Δx_j / x_j
    return x, float(errors.max()), False


def _step(
    c: FloatArray, x: FloatArray, scales: FloatArray, beta: float, ratios: FloatArray
) -> float:
    """Return a length of the Newton step at which the slope has fallen, but not below −½."""
    descent = float((scales * x ** (1.0 - beta) - x * (c @ x)) @ ratios)
    step = min(1.0, LARGEST_STEP / max(float(-ratios.min()), LARGEST_STEP))
    for _ in range(60):
        moved = x * (1.0 + step * ratios)
        slope = float((scales * moved ** (-beta) - c @ moved) @ (x * ratios))
        if slope >= -0.5 * descent:
            break
        step *= 0.5
    return step
