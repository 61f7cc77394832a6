"""Slow, obvious answers of the methods that people migrate with, from explicit gradients J [m, n].

Each returns the direction d [n].
"""

import itertools

import numpy as np
from scipy.optimize import nnls


def unit_rows(jacobian):
    norms = np.linalg.norm(jacobian, axis=1)
    return jacobian / np.where(norms > 0, norms, 1.0)[:, None], norms


def onto_dual_cone(jacobian, vector):
    """The nearest d to the vector with Jd ≥ 0: vector + Uᵀλ with the least norm, λ ≥ 0."""
    units, _ = unit_rows(jacobian)
    multipliers, _ = nnls(units.T, -vector, maxiter=10_000)
    return vector + units.T @ multipliers


def upgrad(jacobian, weights):
    return sum(a * onto_dual_cone(jacobian, g) for a, g in zip(weights, jacobian, strict=True))


def pcgrad(jacobian, orders):
    total = np.zeros(jacobian.shape[1])
    for gradient, order in zip(jacobian, orders, strict=True):
        part = gradient.copy()
        for j in order:
            product = part @ jacobian[j]
            if product < 0:
                part -= product / (jacobian[j] @ jacobian[j]) * jacobian[j]
        total += part
    return total


def cagrad(jacobian, c):
    """By every support of v: v = a + τ b solves the equations, and τ = ‖g_v‖ / ρ a quadratic.

    For few tasks, independent gradients and c < 1.
    """
    m = len(jacobian)
    gramian, mean = jacobian @ jacobian.T, np.full(m, 1.0 / m)
    linear, radius = gramian @ mean, c * np.sqrt(mean @ gramian @ mean)
    best, answer = np.inf, None
    for size in range(1, m + 1):
        for support in map(list, itertools.combinations(range(m), size)):
            system = np.ones((size + 1, size + 1))
            system[:size, :size], system[size, size] = gramian[np.ix_(support, support)], 0.0
            right = np.zeros((size + 1, 2))
            right[size, 0], right[:size, 1] = 1.0, -linear[support]
            a, b = np.linalg.solve(system, right)[:size].T
            block = gramian[np.ix_(support, support)]
            # (a + τb)ᵀ C (a + τb) = ρ² τ²
            for tau in np.roots([b @ block @ b - radius**2, 2 * a @ block @ b, a @ block @ a]):
                v = np.zeros(m)
                v[support] = a + tau.real * b
                if abs(tau.imag) > 1e-12 * abs(tau) or tau.real <= 0 or v.min() < -1e-12:
                    continue
                length = np.sqrt(v @ gramian @ v)
                value = v @ linear + radius * length
                if value < best:
                    best, answer = value, jacobian.T @ (mean + radius / length * v)
    return answer


def imtl_g(jacobian):
    """Equation (5) of the paper, with differences to the first task."""
    units, _ = unit_rows(jacobian)
    if len(jacobian) == 1:
        return jacobian[0]
    d, u = jacobian[0] - jacobian[1:], units[0] - units[1:]
    rest = jacobian[0] @ u.T @ np.linalg.inv(d @ u.T)
    return jacobian.T @ np.append(1.0 - rest.sum(), rest)


def config(jacobian, weights):
    units, _ = unit_rows(jacobian)
    direction = np.linalg.pinv(units) @ weights
    direction /= np.linalg.norm(direction)
    return (jacobian @ direction).sum() * direction


def aligned_mtl(jacobian, weights):
    left, singular, right = np.linalg.svd(jacobian, full_matrices=False)
    kept = singular > singular[0] * 1e-7
    return singular[kept].min() * (weights @ left[:, kept]) @ right[kept]


def fair(jacobian, alpha):
    """w = exp(y) that solves C w = w^(−1/α), by Newton's method on y − … with tiny steps."""
    gramian = jacobian @ jacobian.T
    w = np.diagonal(gramian) ** (-alpha / (1 + alpha))
    for _ in range(20_000):
        residual = gramian @ w - w ** (-1 / alpha)
        slope = gramian + np.diag(w ** (-1 / alpha - 1) / alpha)
        step = np.linalg.solve(slope, -residual)
        w = w + min(0.2, 0.2 / np.abs(step / w).max()) * step
        if np.abs(residual * w ** (1 / alpha)).max() < 1e-14:
            break
    return jacobian.T @ w
