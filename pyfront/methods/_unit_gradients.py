"""Gramians of gradients of length 1, in which the length of no task gradient matters."""

from __future__ import annotations

import numpy as np

from pyfront._utils.arguments import FloatArray

__all__ = ["direction_is_zero", "pseudo_solve", "unit_gramian"]

ROUNDING = float(np.finfo(np.float64).eps)


def unit_gramian(gramian: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return Ĉ_jk = C_jk / (‖g_j‖ ‖g_k‖), [m, m], and the norms ‖g_j‖, [m].

    Rows and columns of gradients that are zero are zero.

    Example:
        >>> c, norms = unit_gramian(np.array([[4.0, 3.0], [3.0, 9.0]]))
        >>> c.tolist(), norms.tolist()
        ([[1.0, 0.5], [0.5, 1.0]], [2.0, 3.0])
    """
    norms = np.sqrt(np.maximum(np.diagonal(gramian), 0.0))
    divisors = np.where(norms > 0.0, norms, np.inf)
    unit: FloatArray = gramian / divisors[:, None] / divisors
    np.fill_diagonal(unit, norms > 0.0)
    return unit, norms


def pseudo_solve(gramian: FloatArray, right: FloatArray) -> FloatArray:
    """Return C⁺ b: what minimises ‖C x − b‖, and ‖x‖ among those.

    Eigenvalues ≤ m ε λ_max count as 0, and so do components of b ≤ 4 m ε ‖b‖: rounding.

    Example:
        >>> pseudo_solve(np.array([[1.0, 1.0], [1.0, 1.0]]), np.array([1.0, 1.0])).round(6).tolist()
        [0.5, 0.5]
    """
    values, vectors = np.linalg.eigh(gramian)
    kept = values > values[-1] * values.size * ROUNDING
    components = vectors[:, kept].T @ right
    noise = 4.0 * values.size * ROUNDING * float(np.linalg.norm(right))
    components[np.abs(components) <= noise] = 0.0
    solution: FloatArray = vectors[:, kept] @ (components / values[kept])
    return solution


def direction_is_zero(gramian: FloatArray, weights: FloatArray) -> bool:
    """Whether ‖Jᵀw‖² is nothing but the rounding of wᵀCw.

    Example:
        >>> direction_is_zero(np.array([[1.0, -2.0], [-2.0, 4.0]]), np.array([1.0, 0.5]))
        True
    """
    unit, norms = unit_gramian(gramian)
    scaled = weights * norms
    largest = float(np.abs(scaled).max())
    if largest == 0.0:
        return True
    scaled /= largest
    square = float(scaled @ unit @ scaled)
    return square <= 4.0 * scaled.size * ROUNDING * float(np.abs(scaled).sum()) ** 2
