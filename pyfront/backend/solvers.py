"""The core's solvers for m weights, on float64 arrays that have been checked."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.backend import _core
from pyfront.backend.highs import Highs
from pyfront.report import Report

__all__ = [
    "Descent",
    "DualCone",
    "MinNorm",
    "ParetoMtlPhase",
    "dual_cone",
    "epo",
    "min_norm",
    "non_uniformity",
    "pareto_mtl",
    "require_finite_gramian",
    "require_solved",
]

#: Solvers that no call is using: each has a work space, and HiGHS once it has needed it.
_idle: list[_core.EpoSolver] = []

Descent: TypeAlias = Literal["restricted", "relaxed"]
ParetoMtlPhase: TypeAlias = Literal["feasibility", "descent", "convergence"]


def epo(
    losses: FloatArray,
    gramian: FloatArray,
    preference: FloatArray,
    epsilon: float,
    descent: Descent,
) -> Report:
    """Return EPO Search's weights; :func:`pyfront.functional.epo_weights` says what they are."""
    try:
        solver = _idle.pop()
    except IndexError:
        solver = _core.EpoSolver(Highs())
    weights, phase, status, mu, _ = solver.solve(
        losses, gramian, preference, epsilon, descent == "restricted"
    )
    _idle.append(solver)  # not after an error
    return Report(torch.from_numpy(weights), phase=phase, status=status, non_uniformity=mu)


def pareto_mtl(
    losses: FloatArray,
    gramian: FloatArray,
    vectors: FloatArray,
    index: int,
    phase: ParetoMtlPhase,
    epsilon: float,
) -> Report:
    """Return Pareto MTL's weights; see :func:`~pyfront.functional.pareto_mtl_weights`."""
    weights, status, gap = _core.pareto_mtl(losses, gramian, vectors, index, phase, epsilon)
    return Report(weights=torch.from_numpy(weights), phase=phase, status=status, gap=gap)


def non_uniformity(losses: FloatArray, preference: FloatArray) -> float:
    """Return μ of r∘l, as :func:`pyfront.functional.non_uniformity` defines it."""
    return _core.non_uniformity(losses, preference)


class MinNorm(NamedTuple):
    """Answer of the min-norm solver."""

    weights: FloatArray
    gap: float
    status: str


def min_norm(gramian: FloatArray, linear: FloatArray | None = None) -> MinNorm:
    """Return min-norm weights, as :func:`pyfront.functional.min_norm_weights`, with a status.

    With ``linear`` c, [m], they minimise ½ wᵀCw + cᵀw over the simplex.
    """
    weights, gap, status = _core.min_norm(gramian, linear)
    require_solved(status, gramian)
    return MinNorm(weights, gap, status)


def require_solved(status: str, gramian: FloatArray) -> None:
    """Raises a ``ValueError`` that names what kept the min-norm solver from this Gramian."""
    if status == "nonfinite":
        require_finite_gramian(gramian)
    if status == "out_of_range":
        squares = np.diag(gramian)
        i, j = int(squares.argmax()), int(squares.argmin())
        raise ValueError(
            f"gramian[{i}][{i}] = {squares[i]} and gramian[{j}][{j}] = {squares[j]}: more than 200 "
            "decades apart; scale the losses to each other"
        )


class DualCone(NamedTuple):
    """Projections onto the dual cone {d : Jd ≥ 0}."""

    weights: FloatArray  # [k, m], one per row
    gap: float  # the largest one; zero at the optimum
    status: str


def dual_cone(gramian: FloatArray, floors: FloatArray) -> DualCone:
    """Return weights v of the projections of Jᵀu, u ≥ 0 a row of ``floors``: min ½ vᵀCv, v ≥ u."""
    return DualCone(*_core.dual_cone(gramian, floors))


def require_finite_gramian(gramian: FloatArray) -> None:
    """Raise a ``ValueError`` that names the first entry that is NaN or infinite."""
    if not np.isfinite(gramian).all():
        i, j = np.argwhere(~np.isfinite(gramian))[0]
        raise ValueError(f"gramian[{i}][{j}] = {gramian[i, j]}: must be finite")
