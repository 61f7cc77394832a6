"""Pure functions from gradients, Gramians and losses to weights and directions.

Every function takes tensors, arrays or lists, keeps no state and draws no graph. What has size m is
computed and returned in float64, on the CPU, or on the device of a CUDA input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias, cast, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyfront._utils.arguments import (
    MatrixLike,
    VectorLike,
    choice,
    matrix,
    number,
    require,
    vector,
)
from pyfront._utils.loss_space import as_preference, as_reference_vectors, check_index
from pyfront.backend import cuda as devices
from pyfront.backend import solvers
from pyfront.backend.solvers import (
    Descent,
    ParetoMtlPhase,
    epo,
    min_norm,
    pareto_mtl,
    require_finite_gramian,
    require_solved,
)
from pyfront.backend.task_gradients import TaskGradients
from pyfront.backend.tensors import as_rows, as_weights, buffer_for, check_out
from pyfront.report import Report

__all__ = [
    "MinNormWeights",
    "combine",
    "epo_weights",
    "gramian",
    "min_norm_weights",
    "non_uniformity",
    "pareto_mtl_weights",
]

Gradients: TypeAlias = "Sequence[Sequence[Tensor | None]] | Tensor | NDArray[np.floating]"


def gramian(gradients: Gradients) -> Tensor:
    """Return the inner products of the task gradients, C = J Jᵀ.

    Products of float32 and narrower gradients are exact and summed in float64, in an order that
    does not depend on the number of threads: two calls give the same bits.

    Args:
        gradients: m sequences of T tensors or None (zeros), one block a parameter, of any shapes;
            or one [m, n] tensor or array. float32, float64, bfloat16 or float16, one dtype and one
            shape a block across the tasks; blocks may differ. A block that is sparse (COO) in every
            task that has it costs what its indices cost; other sparse tensors are densified.

    Returns:
        [m, m] float64, symmetric.

    Raises:
        ValueError: no task, rows of unequal length, a block of unequal shapes.
        TypeError: an entry that is no real floating-point tensor, or a block of unequal dtypes.

    Example:
        >>> gramian([[torch.ones(3), None], [torch.ones(3), torch.ones(2, 2)]]).tolist()
        [[3.0, 3.0], [3.0, 7.0]]
    """
    task_gradients = TaskGradients(as_rows(gradients))
    if task_gradients.device.type == "cuda":
        return devices.gramian(task_gradients.table)
    return torch.from_numpy(task_gradients.gramian())


@overload
def combine(
    gradients: Tensor | NDArray[np.floating], weights: VectorLike, out: Tensor | None = None
) -> Tensor: ...
@overload
def combine(
    gradients: Sequence[Sequence[Tensor | None]],
    weights: VectorLike,
    out: Sequence[Tensor | None] | None = None,
) -> list[Tensor | None]: ...
def combine(
    gradients: Gradients,
    weights: VectorLike,
    out: Sequence[Tensor | None] | Tensor | None = None,
) -> list[Tensor | None] | Tensor:
    """Return the direction d = Jᵀ w = Σ_j w_j g_j, summed in float64 and rounded once.

    Args:
        gradients: as for :func:`gramian`.
        weights: w, [m], finite; a CUDA tensor, which only CUDA gradients take, is not looked at.
        out: where to write: T dense tensors (None leaves a block out), or [n] for an [m, n] input.
            Same shapes and dtypes as the blocks, and no memory in common with them.

    Returns:
        T tensors shaped like the blocks, None where every task has None, sparse where all that
        there is is; or [n] for an [m, n] input. ``out`` where it is given.

    Raises:
        ValueError, TypeError: as for :func:`gramian`; weights of another length or not finite; an
            ``out`` that does not fit or shares memory with a gradient.

    Example:
        >>> combine(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), [0.5, 0.5]).tolist()
        [0.5, 1.0]
    """
    flat = isinstance(gradients, (Tensor, np.ndarray))
    task_gradients = TaskGradients(as_rows(gradients), sparse=out is None)
    w = as_weights(weights, task_gradients)
    likes = task_gradients.blocks()
    if out is None:
        targets: list[Tensor | None] = [g if g is None else torch.empty_like(g) for g in likes]
        task_gradients.combine(w, targets)
        return cast(Tensor, targets[0]) if flat else task_gradients.spread(targets)
    targets = [out] if isinstance(out, Tensor) else list(out)
    if (destination := task_gradients.destination(targets)) is not None:
        task_gradients.combine(w, destination)
        torch.autograd.graph.increment_version([t for t in targets if t is not None])
        return out if isinstance(out, Tensor) else targets
    check_out(task_gradients, likes, targets)
    buffers = [buffer_for(t, like) for t, like in zip(targets, likes, strict=True)]
    task_gradients.combine(w, buffers)
    with torch.no_grad():
        for target, buffer, like in zip(targets, buffers, likes, strict=True):
            if target is not None and like is None:
                target.zero_()
            elif target is not None and buffer is not None and buffer is not target:
                target.copy_(buffer)
            elif target is not None:
                torch.autograd.graph.increment_version(target)
    return out if isinstance(out, Tensor) else targets


class MinNormWeights(NamedTuple):
    """The answer of :func:`min_norm_weights`: the weights, how exact they are, and the outcome.

    Example:
        >>> weights, gap, status = min_norm_weights([[1.0, 0.0], [0.0, 1.0]])
        >>> weights.tolist(), gap, status
        ([0.5, 0.5], 0.0, 'ok')
    """

    weights: Tensor
    gap: float
    status: str


def min_norm_weights(gramian: MatrixLike) -> MinNormWeights:
    """Return the weights of the nearest point to the origin in the convex hull of the gradients.

    minimise wᵀ C w over the simplex {w ≥ 0, Σ w = 1}: the weights of MGDA. Exact: the gap
    wᵀCw − min_j (Cw)_j is zero at the optimum alone and bounds the excess of wᵀCw / 2.

    Args:
        gramian: C, [m, m], finite, any scale; symmetric positive semidefinite, which is not
            checked.

    Returns:
        (weights, gap, status): w [m] float64 with w ≥ 0 exactly and |Σw − 1| < 1e-12; the gap ≥ 0;
        and ``"ok"``, where gap ≤ 1e-12 wᵀCw + 4 u m (Σ_i w_i √C_ii)², u = 2⁻⁵³; ``"stationary"``
        and uniform weights for C = 0; or ``"iteration_limit"`` and a larger gap, where long
        gradients cancel to one so short that rounding of the weights outweighs it.

    Raises:
        ValueError: C is empty, not square, holds NaN or infinity, or its positive diagonal entries
            are more than 200 decades apart.

    Example:
        >>> weights, gap, status = min_norm_weights([[1.0, 0.0], [0.0, 3.0]])
        >>> weights.tolist(), status
        ([0.75, 0.25], 'ok')

    Source: Sener and Koltun 2018; Lin et al. 2019, eq. (14); solved by Wolfe's nearest-point method
    (Wolfe 1976) instead of plain Frank-Wolfe, so that it ends at machine precision.
    """
    if isinstance(gramian, Tensor) and devices.can_solve(gramian):
        return _min_norm_on_device(gramian)
    solution = min_norm(matrix("gramian", gramian))
    weights = _beside(torch.from_numpy(solution.weights), gramian)
    return MinNormWeights(weights, solution.gap, solution.status)


def non_uniformity(losses: VectorLike, preference: VectorLike) -> float:
    """Return how far r∘l is from uniform: μ = Σ_j l̂_j log(m l̂_j) with l̂ = r∘l / Σ r_j l_j.

    Args:
        losses: l, [m], finite and ≥ 0.
        preference: r, [m], finite and > 0, any scale.

    Returns:
        μ in [0, log m]: zero exactly on the ray l ∝ 1/r, and where all losses are zero.

    Raises:
        ValueError: lengths that differ, a loss < 0, a preference ≤ 0, NaN or infinity.

    Example:
        >>> round(non_uniformity([1.0, 3.0], [0.75, 0.25]), 12)
        0.0

    Source: Mahapatra and Rajan 2020, eq. (9) to (11).
    """
    r = as_preference(preference, positive=True)
    values = vector("losses", losses, r.size)
    require("losses", values, lowest=0.0)
    return solvers.non_uniformity(values, r)


def epo_weights(
    losses: VectorLike,
    gramian: MatrixLike,
    preference: VectorLike,
    *,
    epsilon: float = 1e-4,
    descent: Descent = "restricted",
) -> Report:
    """Return the weights of EPO Search at a point: one linear program over the simplex.

    While μ > ε, *balance*: max βᵀ C a, with the tasks furthest above the ray not allowed to rise.
    Else *descent*: max βᵀ C 1 subject to C β ≥ 0. a_j = r_j (log(m l̂_j) − μ) is the steepest way
    to the ray in loss space.

    Args:
        losses: l, [m], finite and ≥ 0.
        gramian: C, [m, m], finite, any scale; symmetric positive semidefinite, which is not
            checked.
        preference: r, [m], finite and > 0; normalised to sum 1.
        epsilon: ε ≥ 0, the non-uniformity below which all tasks descend.
        descent: ``"restricted"`` adds βᵀ C a ≥ min(max_j (C a)_j, 0) to the descent program, which
            damps the zig-zag around the ray; ``"relaxed"`` is the paper's (21).

    Returns:
        Report with weights β on the simplex, phase, status, non_uniformity. Status
        ``"fallback_relaxed"``: the restricted program was infeasible; ``"fallback_min_norm"``: no
        program had an answer; ``"stationary"``: all losses, or all gradients, are zero.

    Raises:
        ValueError: lengths that differ, a loss < 0, a preference ≤ 0, NaN or infinity; they are
            named.
        ImportError, RuntimeError: the program needs HiGHS, as one in a hundred degenerate programs
            does and no ordinary one, and highspy is missing, too old or broken.

    Example:
        >>> epo_weights([3.0, 1.0], [[1.0, 0.0], [0.0, 1.0]], [0.5, 0.5]).weights.tolist()
        [1.0, 0.0]

    Source: Mahapatra and Rajan 2020, eq. (24); C is scaled before the program is solved.
    """
    c = matrix("gramian", gramian)
    r = as_preference(preference, positive=True, length=c.shape[0])
    values = vector("losses", losses, c.shape[0])
    require("losses", values, lowest=0.0)
    require_finite_gramian(c)
    choice("descent", descent, get_args(Descent))
    epsilon = number("epsilon", epsilon, lowest=0.0)
    report = epo(values, c, r, epsilon, descent)
    return replace(report, weights=_beside(report.weights, gramian))


def pareto_mtl_weights(
    losses: VectorLike,
    gramian: MatrixLike,
    reference_vectors: MatrixLike,
    index: int,
    *,
    phase: ParetoMtlPhase = "descent",
    epsilon: float = 0.0,
) -> Report:
    """Return the weights of Pareto MTL for subproblem k of K reference vectors.

    Constraints G_j = (u_j − u_k)ᵀ l / ‖l‖₂ ≤ 0 for j ≠ k. With A the rows u_j − u_k of the active
    ones: *feasibility* (G_j ≥ 0 is active) takes the min-norm weights β of A C Aᵀ and w = Aᵀ β;
    *descent* (G_j ≥ −ε) those of M C Mᵀ with M = [I; A], (λ, β), and w = λ + Aᵀ β; *convergence*
    has no constraints.

    Args:
        losses: l, [m], finite.
        gramian: C, [m, m], finite; symmetric positive semidefinite, which is not checked.
        reference_vectors: U, [K, m] ≥ 0, directions in loss space, no duplicates; normalised here.
        index: k, 0 ≤ k < K.
        phase: ``"feasibility"``, ``"descent"`` or ``"convergence"``.
        epsilon: ε ≥ 0, of the descent phase.

    Returns:
        Report with weights, phase, gap and status: ``"feasible"`` and zero weights in the
        feasibility phase where no constraint is active; ``"stationary"`` there, and zero weights,
        where the active ones pull against each other.

    Raises:
        ValueError: lengths that differ; values that are not finite; vectors that are negative, zero
            or duplicate; an unknown phase.
        IndexError: ``index`` out of range.

    Example:
        >>> vectors = [[0.0, 1.0], [1.0, 0.0]]
        >>> pareto_mtl_weights([1.0, 2.0], [[1, 0], [0, 1]], vectors, 0, phase="feasibility").status
        'feasible'

    Source: Lin et al. 2019, eq. (9) to (14) and (18), for any m, with l / ‖l‖₂ in place of l.
    """
    c = matrix("gramian", gramian)
    values = vector("losses", losses, c.shape[0])
    require("losses", values)
    require_finite_gramian(c)
    vectors = as_reference_vectors(reference_vectors)
    if vectors.shape[1] != c.shape[0]:
        raise ValueError(
            f"reference_vectors: expected {c.shape[0]} columns, one per task, got "
            f"{vectors.shape[1]}"
        )
    check_index(index, vectors.shape[0])
    choice("phase", phase, get_args(ParetoMtlPhase))
    epsilon = number("epsilon", epsilon, lowest=0.0)
    report = pareto_mtl(values, c, vectors, index, phase, epsilon)
    return replace(report, weights=_beside(report.weights, gramian))


def _min_norm_on_device(gramian: Tensor) -> MinNormWeights:
    c = gramian.detach().double().contiguous()
    if c.shape[0] != c.shape[1] or c.numel() == 0:
        raise ValueError(f"gramian: expected a square matrix, got shape {list(c.shape)}")
    weights, outcome = devices.min_norm(c)
    assert outcome is not None
    number, gap = outcome.tolist()
    status = devices.STATUSES[int(number)]
    if status in ("nonfinite", "out_of_range"):
        require_solved(status, matrix("gramian", gramian))
    return MinNormWeights(weights, gap, status)


def _beside(weights: Tensor, like: object) -> Tensor:
    """Return the weights, on the device of a CUDA input."""
    return weights.to(like.device) if isinstance(like, Tensor) and like.is_cuda else weights
