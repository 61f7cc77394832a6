"""Min-norm weights from an [m, m] Gramian, called from Python, beside other solvers.

`extra_info["excess"]` is wᵀCw over the optimum, minus 1, in exact arithmetic.
"""

import importlib
from functools import partial

import numpy as np
import oracles
import pytest
from samplers import SAMPLERS

from pyfront.backend import _core

COMPETITORS = ("torchjd", "quadprog", "cvxpy")
FAMILIES = {"generic": "generic", "hard": "near_zero_hull"}


def ours(gramian):
    """The compiled solver; the Gramian is a NumPy array already."""
    return partial(_core.min_norm, gramian), lambda result: result[0]


def frank_wolfe(gramian):
    """Sener and Koltun 2018, algorithm 2: uniform start, exact line search, 250 iterations."""

    def solve():
        m = len(gramian)
        if m == 2:
            curvature = gramian[0, 0] - 2 * gramian[0, 1] + gramian[1, 1]
            first = np.clip((gramian[1, 1] - gramian[0, 1]) / curvature, 0.0, 1.0)
            return np.array([first, 1.0 - first])
        w = np.full(m, 1.0 / m)
        for _ in range(250):
            slopes = gramian @ w
            best = slopes.argmin()
            value = w @ slopes
            curvature = value - 2 * slopes[best] + gramian[best, best]
            step = min((value - slopes[best]) / curvature, 1.0) if curvature > 0 else 0.0
            if step < 1e-5:
                break
            w *= 1.0 - step
            w[best] += step
        return w

    return solve, lambda result: result


def torchjd(gramian):
    """TorchJD's MGDA weighting with its defaults."""
    torch = importlib.import_module("torch")
    weighting = importlib.import_module("torchjd.aggregation").MGDAWeighting()
    return partial(weighting, torch.from_numpy(gramian)), lambda result: result.numpy()


def quadprog(gramian):
    """Goldfarb and Idnani's dual method, called directly, constraints prepared once."""
    module = importlib.import_module("quadprog")
    m = len(gramian)
    constraints = np.concatenate([np.ones((m, 1)), np.eye(m)], axis=1)
    bounds = np.concatenate([[1.0], np.zeros(m)])
    solve = partial(module.solve_qp, gramian, np.zeros(m), constraints, bounds, 1)
    return solve, lambda result: np.maximum(result[0], 0.0) / np.maximum(result[0], 0.0).sum()


def cvxpy(gramian):
    """A parametrised problem built once; each solve sets the Gramian's square root."""
    cp = importlib.import_module("cvxpy")
    values, vectors = np.linalg.eigh(gramian)
    root = cp.Parameter(gramian.shape)
    w = cp.Variable(len(gramian), nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(root @ w)), [cp.sum(w) == 1])

    def solve():
        root.value = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
        problem.solve(solver=cp.CLARABEL)
        return w.value

    return solve, lambda result: np.maximum(result, 0.0) / np.maximum(result, 0.0).sum()


SOLVERS = {solver.__name__: solver for solver in (ours, frank_wolfe, torchjd, quadprog, cvxpy)}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("m", [2, 3, 8, 20, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_min_norm(benchmark, family, m, solver):
    benchmark.group = f"min-norm {family} m={m}"
    if solver in COMPETITORS:
        pytest.importorskip(solver, reason=f"{solver} is not installed")
    jacobian = SAMPLERS[FAMILIES[family]](np.random.default_rng(m), m)
    gramian = jacobian @ jacobian.T
    solve, weights_of = SOLVERS[solver](gramian)
    weights = weights_of(benchmark(solve))
    optimum = oracles.min_norm_certificate(gramian, _core.min_norm(gramian)[0]).objective
    objective = oracles.min_norm_certificate(gramian, weights).objective
    benchmark.extra_info["excess"] = float(objective / optimum - 1)
