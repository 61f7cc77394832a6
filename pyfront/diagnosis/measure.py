"""Inner products of the task gradients of one batch after another, and who reaches what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.task_gradients import Row, TaskGradients, as_real
from pyfront.diagnosis.batches import BatchOfLosses
from pyfront.gradients.engines import choose_engine
from pyfront.optimizer.names import errors_by_name

__all__ = ["Measured", "measure"]


@dataclass
class Measured:
    """What the batches have shown; NaN stands for a task without data.

    Attributes:
        params: T tensors.
        tasks: the names of the m tasks, or None.
        losses: [B, m].
        gramians: C of each batch over the shared parameters, [B, m, m].
        squares: ‖g_j‖² of each batch over all parameters, [B, m].
        across: ⟨g_i, g_j'⟩ of gradients of different batches over the shared parameters, [P, m, m],
            symmetrised. Each batch is in one of the P pairs where all tasks have data.
        squares_across: ⟨g_j, g_j'⟩ likewise over all parameters, [P, m].
        reaching: for each of the T parameters, the tasks that reach it.
        block_bytes: the memory that a gradient of each takes, [T].
    """

    params: Sequence[Tensor]
    tasks: tuple[str, ...] | None
    losses: FloatArray
    gramians: FloatArray
    squares: FloatArray
    across: FloatArray
    squares_across: FloatArray
    reaching: list[set[int]]
    block_bytes: list[int]

    @property
    def row_bytes(self) -> int:
        """The memory of the m task gradients; a gradient takes none where a task does not reach."""
        pairs = zip(self.block_bytes, self.reaching, strict=True)
        return sum(size * len(tasks) for size, tasks in pairs)


@dataclass
class _Products:
    """⟨g_i, g_j'⟩ of some tasks i and j, those at parameters that one task alone reaches apart."""

    left: list[int]
    right: list[int]
    shared: FloatArray
    alone: list[tuple[int, int, float]] = field(default_factory=list)  # block, task, ⟨g_j, g_j'⟩


Rows: TypeAlias = dict[int, Row]


def measure(batches: Iterable[BatchOfLosses], params: Sequence[Tensor]) -> Measured:
    """Return the inner products of the task gradients of all batches.

    Two sets of gradients are held at a time: those of the batch, and of each task those of the
    earlier batch that it is to be paired with.

    Raises:
        ValueError: no batch, or none with data; a gradient that is not finite; the task is named.
    """
    within: list[_Products] = []
    across: list[_Products] = []
    losses: list[FloatArray] = []
    held: Rows = {}
    reaching: list[set[int]] = [set() for _ in params]
    block_bytes = [0] * len(params)
    tasks: tuple[str, ...] | None = None
    m = 0
    for batch in batches:
        m, tasks = batch.num_tasks, batch.tasks
        losses.append(_spread(batch.values, batch.places, m))
        with errors_by_name(tasks):
            rows = dict(zip(batch.places, _rows(batch, params), strict=True))
            _look(rows, params, reaching, block_bytes)
            within.append(_products(rows, rows, reaching))
            _check_finite(within[-1])
        batch.losses.clear()  # its graph may go before the next one comes
        if held and rows:
            across.append(_products(held, rows, reaching))
        for task, row in rows.items():  # each gradient is paired once with one of its own task
            if held.pop(task, None) is None:
                held[task] = row
    if not any(products.left for products in within):
        raise ValueError("losses: there is no batch with data for a task")
    gramians, squares = _completed(within, reaching, m)
    return Measured(
        params,
        tasks,
        np.array(losses),
        gramians,
        squares,
        *_completed(across, reaching, m),
        reaching,
        block_bytes,
    )


def _look(
    rows: Rows, params: Sequence[Tensor], reaching: list[set[int]], block_bytes: list[int]
) -> None:
    """Note which tasks reach which parameters, and what a gradient of each takes."""
    for task, row in rows.items():
        for block, (g, p) in enumerate(zip(row, params, strict=True)):
            if g is not None:
                reaching[block].add(task)
                block_bytes[block] = max(block_bytes[block], _bytes(g, p))


def _rows(batch: BatchOfLosses, params: Sequence[Tensor]) -> list[Row]:
    """Return the gradients of the losses that are there; their graph is kept."""
    if not batch.losses:
        return []
    engine = choose_engine("auto", batch.losses)
    rows = engine.rows(batch.losses, params, retain_graph=True, names=batch.names)
    if batch.stacked:
        rows = [[g if g is not None and g.any() else None for g in row] for row in rows]
    return [
        [g if g is None or g.dtype.itemsize >= 4 else g.float() for g in as_real(row)]
        for row in rows
    ]


def _bytes(gradient: Tensor | None, p: Tensor) -> int:
    """Return the memory of a gradient, which may be held here in a wider type than in a step."""
    if gradient is None or not gradient.is_sparse:
        return p.numel() * p.element_size()
    found = gradient.coalesce()
    return found.values().nbytes + found.indices().nbytes


def _products(left: Rows, right: Rows, reaching: Sequence[set[int]]) -> _Products:
    """Return ⟨g_i, g_j'⟩ for the rows g_i on the left and g_j' on the right."""
    shared = [block for block, tasks in enumerate(reaching) if len(tasks) > 1]
    found = _Products(list(left), list(right), np.zeros((len(left), len(right))))
    if shared:
        others = [] if left is right else list(right.values())
        c = TaskGradients([*left.values(), *others]).select(shared).gramian()
        found.shared = c[: len(left), len(c) - len(right) :]
    for block, tasks in enumerate(reaching):
        if len(tasks) == 1 and (task := next(iter(tasks))) in left and task in right:
            pair = [[left[task][block]], [right[task][block]]]
            found.alone.append((block, task, TaskGradients(pair).gramian()[0, 1]))
    return found


def _check_finite(products: _Products) -> None:
    for task, c_jj in zip(products.left, np.diagonal(products.shared), strict=True):
        total = c_jj + sum(square for _, owner, square in products.alone if owner == task)
        if not np.isfinite(total):
            raise ValueError(f"losses[{task}]: its gradient is not finite (squared norm {total:g})")


def _completed(
    found: Sequence[_Products], reaching: Sequence[set[int]], m: int
) -> tuple[FloatArray, FloatArray]:
    """Return products over what all batches show to be shared, [k, m, m], and over all, [k, m]."""
    shared = np.full((len(found), m, m), np.nan)
    squares = np.full((len(found), m), np.nan)
    for c, over_all, products in zip(shared, squares, found, strict=True):
        c[np.ix_(products.left, products.right)] = products.shared
        over_all[:] = np.diagonal(c)
        for block, task, square in products.alone:
            over_all[task] += square
            if len(reaching[block]) > 1:
                c[task, task] += square
        one_way = np.where(np.isnan(c), c.T, c)
        c[:] = 0.5 * (one_way + np.where(np.isnan(c.T), c, c.T))
    return shared, squares


def _spread(values: FloatArray, places: Sequence[int], m: int) -> FloatArray:
    out = np.full(m, np.nan)
    out[places] = values
    return out
