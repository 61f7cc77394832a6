"""Inner products of the task gradients of one batch after another, and who reaches what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.task_gradients import Row, TaskGradients, add_rows, as_real
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
        along_earlier: ⟨Σ_{a<b} g_j^a, g_j^b⟩ of each batch b, [B, m].
        earlier: the number of batches a < b with data for task j, [B, m].
        reaching: for each of the T parameters, the tasks that reach it.
        block_bytes: the memory that a gradient of each takes, [T].
    """

    params: Sequence[Tensor]
    tasks: tuple[str, ...] | None
    losses: FloatArray
    gramians: FloatArray
    squares: FloatArray
    along_earlier: FloatArray
    earlier: FloatArray
    reaching: list[set[int]]
    block_bytes: list[int]

    @property
    def row_bytes(self) -> int:
        """The memory of the m task gradients; a gradient takes none where a task does not reach."""
        pairs = zip(self.block_bytes, self.reaching, strict=True)
        return sum(size * len(tasks) for size, tasks in pairs)


@dataclass
class _OfBatch:
    """Inner products of one batch, those of parameters that one task alone reaches apart."""

    places: list[int]
    gramian: FloatArray
    alone: list[tuple[int, int, float]] = field(default_factory=list)  # block, task, ‖g_j‖² there


def measure(batches: Iterable[BatchOfLosses], params: Sequence[Tensor]) -> Measured:
    """Return the inner products of the task gradients of all batches.

    Two sets of gradients are held at a time: those of the batch, and the sums of those before.

    Raises:
        ValueError: no batch, or none with data; a gradient that is not finite; the task is named.
    """
    found: list[_OfBatch] = []
    losses, along, earlier = [], [], []
    sums: dict[int, Row] = {}
    seen: dict[int, int] = {}
    reaching: list[set[int]] = [set() for _ in params]
    block_bytes = [0] * len(params)
    tasks: tuple[str, ...] | None = None
    m = 0
    for batch in batches:
        m, tasks = batch.num_tasks, batch.tasks
        losses.append(_spread(batch.values, batch.places, m))
        along.append(np.full(m, np.nan))
        earlier.append(np.array([seen.get(task, 0) for task in range(m)], dtype=float))
        with errors_by_name(tasks):
            rows = dict(zip(batch.places, _rows(batch, params), strict=True))
            _note_who_reaches(rows, reaching)
            for row in rows.values():
                sizes = map(_bytes, row, params)
                block_bytes = list(map(max, block_bytes, sizes))
            found.append(_products(rows, reaching))
        batch.losses.clear()  # its graph may go before the next one comes
        for task, row in rows.items():
            if task in sums:
                along[-1][task] = TaskGradients([sums[task], row]).gramian()[0, 1]
            sums[task] = add_rows(sums[task], row) if task in sums else row
            seen[task] = seen.get(task, 0) + 1
    if not seen:
        raise ValueError("losses: there is no batch with data for a task")
    gramians, squares = zip(*(_complete(b, reaching, m) for b in found), strict=True)
    return Measured(
        params,
        tasks,
        np.array(losses),
        np.array(gramians),
        np.array(squares),
        np.array(along),
        np.array(earlier),
        reaching,
        block_bytes,
    )


def _note_who_reaches(rows: dict[int, Row], reaching: Sequence[set[int]]) -> None:
    for task, row in rows.items():
        for block, g in enumerate(row):
            if g is not None:
                reaching[block].add(task)


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


def _products(rows: dict[int, Row], reaching: Sequence[set[int]]) -> _OfBatch:
    places = sorted(rows)
    shared = [block for block, tasks in enumerate(reaching) if len(tasks) > 1]
    gradients = [rows[task] for task in places]
    if shared and places:
        c = TaskGradients(gradients).select(shared).gramian()
    else:
        c = np.zeros((len(places), len(places)))
    found = _OfBatch(places, c)
    for block, tasks in enumerate(reaching):
        if len(tasks) == 1 and (task := next(iter(tasks))) in rows:
            square = TaskGradients([[rows[task][block]]]).gramian()[0, 0]
            found.alone.append((block, task, square))
    for task, c_jj in zip(places, np.diagonal(c), strict=True):
        total = c_jj + sum(square for _, owner, square in found.alone if owner == task)
        if not np.isfinite(total):
            raise ValueError(f"losses[{task}]: its gradient is not finite (squared norm {total:g})")
    return found


def _complete(
    batch: _OfBatch, reaching: Sequence[set[int]], m: int
) -> tuple[FloatArray, FloatArray]:
    """Return C [m, m] over what all batches show to be shared, and ‖g_j‖² [m] over all."""
    c = np.full((m, m), np.nan)
    c[np.ix_(batch.places, batch.places)] = batch.gramian
    squares = np.diagonal(c).copy()
    for block, task, square in batch.alone:
        squares[task] += square
        if len(reaching[block]) > 1:
            c[task, task] += square
    return c, squares


def _spread(values: FloatArray, places: Sequence[int], m: int) -> FloatArray:
    out = np.full(m, np.nan)
    out[places] = values
    return out
