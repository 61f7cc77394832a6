"""Slow, obvious answers that the fast code is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

Vector = NDArray[np.float64]

# --- Min-norm point: minimise ½ wᵀCw + cᵀw over the simplex ---

UNIT_ROUNDOFF = 2.0**-53


class MinNormCertificate(NamedTuple):
    """How far weights are from the optimum, in exact arithmetic on the given numbers."""

    gap: Fraction  # Σ_i w_i (s_i − min_j s_j), s = Cw + c: bounds the excess of the objective
    allowed: float  # the stop rule: relative to the objective, down to the rounding floor
    objective: Fraction  # ½ wᵀCw + cᵀw


def exact(values: ArrayLike) -> list[Fraction]:
    """The given float64 numbers as fractions."""
    return [Fraction(value) for value in np.asarray(values, dtype=float).tolist()]


def whole(values: ArrayLike) -> tuple[list[int], int]:
    """The given float64 numbers as integers over one power of two."""
    ratios = [value.as_integer_ratio() for value in np.asarray(values, dtype=float).tolist()]
    unit = max(denominator for _, denominator in ratios)
    return [numerator * (unit // denominator) for numerator, denominator in ratios], unit


def min_norm_certificate(
    gramian: ArrayLike, weights: ArrayLike, linear: ArrayLike | None = None
) -> MinNormCertificate:
    """Gap of any weights, with the value that the stop rule allows it."""
    c_matrix = np.asarray(gramian, dtype=float)
    m = len(c_matrix)
    w, w_unit = whole(weights)
    entries, c_unit = whole(c_matrix.ravel())
    c, q_unit = whole(np.zeros(m) if linear is None else linear)
    support = [i for i in range(m) if w[i] != 0]
    # all in units of 1 / (w_unit · c_unit · q_unit)
    products = [q_unit * sum(entries[j * m + i] * w[i] for i in support) for j in range(m)]
    c = [value * w_unit * c_unit for value in c]
    slopes = [product + c[j] for j, product in enumerate(products)]
    smallest = min(slopes)
    unit = w_unit * w_unit * c_unit * q_unit
    gap = Fraction(sum(w[i] * (slopes[i] - smallest) for i in support), unit)
    objective = Fraction(sum(w[i] * (products[i] + 2 * c[i]) for i in support), 2 * unit)
    norm = float(np.asarray(weights, dtype=float) @ np.sqrt(np.maximum(np.diag(c_matrix), 0.0)))
    spread = float(Fraction(sum(w[i] * abs(c[i]) for i in support), unit))
    allowed = 2e-12 * abs(float(objective)) + 4 * UNIT_ROUNDOFF * m * (norm**2 + spread)
    return MinNormCertificate(gap, allowed, objective)


def solve_exactly(
    matrix: Sequence[Sequence[Fraction]], right: Sequence[Fraction]
) -> list[Fraction] | None:
    """Gaussian elimination without rounding; None where the matrix is singular."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = next((r for r in range(column, size) if rows[r][column] != 0), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for r in range(size):
            if r != column and rows[r][column] != 0:
                factor = rows[r][column] / rows[column][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[column], strict=True)]
    return [row[size] / row[i] for i, row in enumerate(rows)]


def min_norm_objective(gramian: ArrayLike, linear: ArrayLike | None = None) -> Fraction:
    """The optimal ½ wᵀCw + cᵀw without rounding, by trying every support.

    Some optimum has a support on which the optimality system has one solution, so singular
    systems can be passed over.
    """
    rows = [exact(row) for row in np.asarray(gramian, dtype=float)]
    m = len(rows)
    c = exact(np.zeros(m) if linear is None else linear)
    best: Fraction | None = None
    for size in range(1, m + 1):
        for support in itertools.combinations(range(m), size):
            # C w − λ 1 = −c on the support, Σ w = 1
            system = [[*(rows[i][j] for j in support), Fraction(-1)] for i in support]
            system.append([*(Fraction(1) for _ in support), Fraction(0)])
            solution = solve_exactly(system, [*(-c[i] for i in support), Fraction(1)])
            if solution is None or min(solution[:-1]) < 0:
                continue
            *w, level = solution
            value = (level + sum((w[k] * c[i] for k, i in enumerate(support)), Fraction(0))) / 2
            best = value if best is None else min(best, value)
    assert best is not None  # a single vertex always qualifies
    return best


def frank_wolfe_weights(gramian: NDArray[np.float64], iterations: int) -> NDArray[np.float64]:
    """Plain Frank-Wolfe with an exact line search: nothing to get wrong, and slow."""
    w = np.full(len(gramian), 1.0 / len(gramian))
    for _ in range(iterations):
        slopes = gramian @ w
        best = int(np.argmin(slopes))
        descent = w @ slopes - slopes[best]
        curvature = w @ slopes - 2 * slopes[best] + gramian[best, best]
        if descent <= 0 or curvature <= 0:
            break
        step = min(1.0, descent / curvature)
        w = (1 - step) * w
        w[best] += step
    return w


# --- EPO Search (Mahapatra and Rajan 2020) --------------------------------------------------------


class EpoAnswer(NamedTuple):
    weights: Vector | None  # None: the program has no feasible point
    objective: float
    phase: str
    non_uniformity: float
    adjustments: Vector  # a
    decreasing: list[int]  # J
    dominant: list[int]  # J*


def simplex_program(cost: Vector, rows: Vector, lower: Vector) -> tuple[Vector | None, float]:
    """Maximise costᵀβ over the simplex subject to rows β ≥ lower, each row first scaled to 1."""
    size = np.abs(rows).max(axis=1, initial=0.0)
    size[size == 0.0] = 1.0
    unit = np.abs(cost).max() or 1.0
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    answer = linprog(
        -cost / unit,
        A_ub=-rows / size[:, None] if len(rows) else None,
        b_ub=-lower / size if len(rows) else None,
        A_eq=np.ones((1, len(cost))),
        b_eq=[1.0],
        bounds=(0.0, None),
        options=tight,
    )
    if answer.status == 2:
        return None, -np.inf
    assert answer.status == 0, answer.message
    return answer.x, float(cost @ answer.x)


def epo_program(
    losses: Vector, gramian: Vector, preference: Vector, epsilon: float, descent: str
) -> EpoAnswer:
    """Program (24) as the paper writes it; `restricted` is its appendix B."""
    m = len(losses)
    r = preference / preference.sum()
    share = r * losses / (r * losses).sum()  # (11)
    mu = sum(s * np.log(m * s) for s in share if s > 0.0)  # (9)
    a = r * (np.log(np.maximum(m * share, 1e-12)) - mu)  # (13)
    dominant = [j for j in range(m) if share[j] >= (1.0 - 1e-12) * share.max()]  # (23)
    if len(dominant) == m:
        a = np.zeros(m)  # exactly uniform: what is left in a is rounding
    unit = gramian.diagonal().max()
    c = gramian / unit
    ca = c @ a
    decreasing = [j for j in range(m) if ca[j] > 0.0]  # (17)
    if mu > epsilon:
        phase, cost = "balance", ca
        indicator = 1.0 if decreasing else 0.0
        bound = {j: ca[j] * indicator for j in range(m) if j not in decreasing}  # (24b)
        bound |= {j: 0.0 for j in dominant}  # (24c)
        rows = np.array([c[j] for j in bound])
        lower = np.array(list(bound.values()))
    else:
        phase, cost = "descent", c @ np.ones(m)
        rows, lower = c, np.zeros(m)  # (21)
        if descent == "restricted":
            rows, lower = np.vstack([rows, ca]), np.append(lower, min(ca.max(), 0.0))
    weights, objective = simplex_program(cost, rows, lower)
    return EpoAnswer(weights, objective * unit, phase, mu, a, decreasing, dominant)


# --- Gramian and combination of task gradients: rows of tensors, or None for zeros ---

Rows = Sequence[Sequence[torch.Tensor | None]]


def jacobian(rows: Rows) -> NDArray[np.float64]:
    """J [m, n] in float64: the blocks flattened one after the other."""
    sizes = [
        max(0 if block is None else block.numel() for block in column)
        for column in zip(*rows, strict=True)
    ]
    flat = [
        [
            np.zeros(size) if block is None else block.double().flatten().numpy()
            for block, size in zip(row, sizes, strict=True)
        ]
        for row in rows
    ]
    return np.array([np.concatenate([np.zeros(0), *row]) for row in flat])


def gramian(rows: Rows) -> NDArray[np.float64]:
    """C = J Jᵀ, its sums rounded once; float32 and narrower products are exact in float64."""
    j = jacobian(rows)
    lower = [[math.fsum((a * b).tolist()) for b in j[: i + 1]] for i, a in enumerate(j)]
    return np.array([[lower[max(i, k)][min(i, k)] for k in range(len(j))] for i in range(len(j))])


def combine(rows: Rows, weights: ArrayLike) -> NDArray[np.longdouble]:
    """d = Jᵀ w in extended precision."""
    return np.asarray(weights, dtype=np.longdouble) @ jacobian(rows).astype(np.longdouble)


def spacing(values: ArrayLike, dtype: torch.dtype) -> NDArray[np.float64]:
    """Distance between neighbours of `dtype` at the given finite values, subnormal included."""
    info = torch.finfo(dtype)
    magnitude = np.maximum(np.abs(np.asarray(values, dtype=np.float64)), info.smallest_normal)
    return np.ldexp(info.eps, np.frexp(magnitude)[1] - 1)


def round_once(values: ArrayLike, dtype: torch.dtype) -> torch.Tensor:
    """Nearest number of `dtype` to each float64 value, ties to even, beyond the range ∞."""
    values = np.asarray(values, dtype=np.float64)
    step = spacing(values, dtype)
    nearest = np.copysign(np.rint(values / step) * step, values)
    return torch.from_numpy(nearest).to(dtype)  # representable, so that this is exact
