"""The regions of loss space around reference vectors, for the tasks present and without memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pyfront._utils.arguments import FloatArray
from pyfront.backend.solvers import min_norm
from pyfront.report import Report

__all__ = ["Rows", "alternating", "least", "rows_of", "vectors_among", "with_first"]

SAME = 1e-12  # difference of unit vectors that count as one


def alternating(
    losses: FloatArray,
    gramian: FloatArray,
    vectors: FloatArray,
    index: int | None,
    places: Sequence[int] | None = None,
) -> Report:
    """Return one step without memory: w = Mᵀ λ with the min-norm weights λ of M C Mᵀ.

    The rows of M are the active u_j − u_k of a subproblem k that is outside its region, and unit
    vectors, one per loss, for one that is inside.

    Args:
        losses: [m] for one subproblem; for all [K m], those of subproblem 0 first.
        gramian: C of these losses.
        vectors: [K, m].
        index: the subproblem, or None for all of them.
        places: of the losses among K m, where some have no data.
    """
    if index is not None:
        return least(gramian, [rows_of(losses, with_first(vectors, index))])
    count, tasks = vectors.shape
    present = np.arange(count * tasks) if places is None else np.array(places)
    blocks = []
    for k in range(count):
        mine = present // tasks == k
        if mine.any():
            own_first = with_first(vectors, k)
            if np.count_nonzero(mine) < tasks:
                own_first = vectors_among(own_first, present[mine] - k * tasks)
            blocks.append(rows_of(losses[mine], own_first))
    return least(gramian, blocks)


class Rows(NamedTuple):
    """The part of M that is of one subproblem."""

    matrix: FloatArray
    outside: bool


def rows_of(losses: FloatArray, vectors: FloatArray) -> Rows:
    """Return the active constraints, or unit vectors where there are none; the own vector first."""
    away = vectors[1:] - vectors[:1]
    active = away[away @ losses >= 0.0]
    return Rows(active, True) if len(active) else Rows(np.eye(losses.size), False)


def least(gramian: FloatArray, blocks: Sequence[Rows]) -> Report:
    """Return Mᵀ λ for these blocks on the diagonal of M."""
    rows, columns = np.cumsum([[0, 0], *(block.matrix.shape for block in blocks)], axis=0).T
    matrix = np.zeros((rows[-1], columns[-1]))
    for place, block in enumerate(blocks):
        matrix[rows[place] : rows[place + 1], columns[place] : columns[place + 1]] = block.matrix
    solution = min_norm(matrix @ gramian @ matrix.T)
    return Report(
        weights=torch.from_numpy(matrix.T @ solution.weights),
        phase="feasibility" if any(block.outside for block in blocks) else "convergence",
        status=solution.status,
        gap=solution.gap,
    )


def with_first(vectors: FloatArray, index: int) -> FloatArray:
    """Return the vectors with this one first and the others in their order."""
    return np.concatenate([vectors[index : index + 1], np.delete(vectors, index, axis=0)])


def vectors_among(vectors: FloatArray, places: Sequence[int] | NDArray[np.intp]) -> FloatArray:
    """Return the vectors for the tasks at these places, of unit length, the own one first.

    Those that are zero there, or the same as an earlier one, drop out; all where the own one does.
    """
    restricted = vectors[:, places]
    lengths = np.linalg.norm(restricted, axis=1)
    kept: list[FloatArray] = []
    for u, length in zip(restricted, lengths, strict=True):
        if length > 0.0 and all(np.abs(u / length - v).max() >= SAME for v in kept):
            kept.append(u / length)
        elif not kept:
            break
    return np.stack(kept) if kept else np.zeros((0, len(places)))
