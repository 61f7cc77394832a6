"""Instances of the EPO program, ordinary and degenerate, and one checked call of the solver."""

from __future__ import annotations

import numpy as np

EPSILON = 1e-4
SIZES = [2, 3, 5, 8, 13, 20, 40]
GRAMIANS = ["plain", "shared", "tall", "rank", "twice", "opposite", "zero", "scaled", "near"]


def jacobian(rng, m, kind):
    """Task gradients, ordinary and degenerate."""
    n = {"tall": 20 * m, "rank": max(1, m // 2)}.get(kind, m + 3)
    g = rng.normal(size=(m, n))
    if kind == "shared":
        g += 2.0 * rng.normal(size=n)
    elif kind == "twice":
        g[m // 2] = g[0]
    elif kind == "opposite":
        g[m - 1] = -g[0]
    elif kind == "zero":
        g[m - 1] = 0.0
    elif kind == "scaled":
        g *= 10.0 ** rng.uniform(-2, 2, size=(m, 1))
    elif kind == "near":
        g = g[0] + 1e-3 * g
    return g


def instance(rng, m, kind="plain", balanced=False):
    g = jacobian(rng, m, kind)
    preference = rng.uniform(0.05, 1.0, size=m)
    deviation = 1e-3 if balanced else 1.0
    losses = np.exp(deviation * rng.normal(size=m)) / preference
    return losses, g @ g.T, preference


def half_rank(m, decades, seed):
    """Losses and gradients whose norms span many decades, in half as many dimensions as tasks."""
    rng = np.random.default_rng(seed)
    norms = 10.0 ** (decades * (rng.random((m, 1)) - 0.5))
    return np.exp(1e-3 * rng.normal(size=m)), norms * rng.normal(size=(m, max(1, m // 2)))


def solve(solver, losses, gramian, preference, descent="restricted", epsilon=EPSILON):
    weights, phase, status, mu, objective = solver.solve(
        losses, gramian, preference, epsilon, descent == "restricted"
    )
    assert (weights >= 0.0).all()
    assert abs(weights.sum() - 1.0) < 1e-12
    return weights, phase, status, mu, objective


def cost_scale(gramian, expected):
    """Size of the terms that the objective sums."""
    along = expected.adjustments if expected.phase == "balance" else np.ones(len(gramian))
    return np.abs(gramian @ along).max()
