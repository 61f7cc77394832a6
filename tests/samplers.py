"""Jacobians [m, n] of the kinds that training produces, ordinary and degenerate."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], Array]


def generic(rng: np.random.Generator, m: int) -> Array:
    """Independent gradients of many parameters: every task usually gets weight."""
    return rng.standard_normal((m, 4 * m + 8))


def correlated(rng: np.random.Generator, m: int) -> Array:
    """A common part that makes some tasks redundant."""
    return rng.standard_normal((m, m + 4)) + 0.5 * rng.standard_normal(m + 4)


def near_zero_hull(rng: np.random.Generator, m: int) -> Array:
    """The hull misses 0 by about 1e-4: a point of the hull is subtracted, a little offset added."""
    jacobian = rng.standard_normal((m, m + 4))
    inside = rng.dirichlet(np.ones(m)) @ jacobian
    return jacobian - inside + 1e-4 * rng.standard_normal(m + 4) / np.sqrt(m + 4)


def rank_deficient(rng: np.random.Generator, m: int) -> Array:
    """Fewer parameters than tasks: the hull usually contains 0 and the weights are not unique."""
    return rng.standard_normal((m, max(1, m // 2)))


def rank_deficient_one_sided(rng: np.random.Generator, m: int) -> Array:
    """Fewer parameters than tasks, 0 outside of the hull."""
    jacobian = rng.standard_normal((m, max(2, m // 2)))
    jacobian[:, 0] = 1.0 + rng.random(m)
    return jacobian


def rank_one(rng: np.random.Generator, m: int) -> Array:
    """Parallel gradients of different lengths."""
    return np.outer(rng.uniform(0.5, 2.0, m), rng.standard_normal(5))


def duplicated(rng: np.random.Generator, m: int) -> Array:
    """Several tasks share one gradient exactly."""
    jacobian = rng.standard_normal((m, m + 2))
    return jacobian[rng.integers(0, max(1, m // 2), m)]


def nearly_duplicated(rng: np.random.Generator, m: int) -> Array:
    """Tasks whose gradients differ by a relative 1e-7."""
    jacobian = duplicated(rng, m)
    return jacobian * (1.0 + 1e-7 * rng.standard_normal(jacobian.shape))


def opposite(rng: np.random.Generator, m: int) -> Array:
    """Tasks that pull against each other exactly: the hull contains 0."""
    half = rng.standard_normal((m, m + 2))
    half[m // 2 :] = -half[: m - m // 2]
    return half


def almost_opposite(rng: np.random.Generator, m: int) -> Array:
    """Tasks that pull against each other but for a relative 1e-16 to 1e-4."""
    jacobian = rng.standard_normal((m, m + 2))
    half = m // 2
    closeness = 10.0 ** rng.uniform(-16, -4)
    noise = rng.standard_normal((half, m + 2))
    jacobian[half : 2 * half] = -jacobian[:half] * (1.0 + closeness * noise)
    return jacobian


def zero_rows(rng: np.random.Generator, m: int) -> Array:
    """At least one task that has converged: its gradient is 0."""
    jacobian = rng.standard_normal((m, m + 2))
    jacobian[rng.integers(0, m, max(1, m // 4))] = 0.0
    return jacobian


def scaled_rows(rng: np.random.Generator, m: int) -> Array:
    """Losses of different units: norms over 16 decades."""
    return rng.standard_normal((m, m + 2)) * 10.0 ** rng.uniform(-8, 8, (m, 1))


def scaled_rows_low_rank(rng: np.random.Generator, m: int) -> Array:
    """Different units and fewer parameters than tasks."""
    return rng.standard_normal((m, max(1, m // 2))) * 10.0 ** rng.uniform(-8, 8, (m, 1))


def scaled_columns(rng: np.random.Generator, m: int) -> Array:
    """Parameters of very different sensitivity."""
    return rng.standard_normal((m, m + 2)) * 10.0 ** rng.uniform(-8, 8, m + 2)


def diagonal(rng: np.random.Generator, m: int) -> Array:
    """Orthogonal gradients over 16 decades, such as C = diag(1, 1e-12, 1e-16)."""
    return np.diag(10.0 ** rng.uniform(-8, 8, m))


SAMPLERS: dict[str, Sampler] = {
    sampler.__name__: sampler
    for sampler in (
        generic,
        correlated,
        near_zero_hull,
        rank_deficient,
        rank_deficient_one_sided,
        rank_one,
        duplicated,
        nearly_duplicated,
        opposite,
        almost_opposite,
        zero_rows,
        scaled_rows,
        scaled_rows_low_rank,
        scaled_columns,
        diagonal,
    )
}
