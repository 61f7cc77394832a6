"""The backward passes of a step whose method needs every task's gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pyfront.backend.task_gradients import Row, add_rows
from pyfront.distributed.processes import Arrived

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = ["averaged_rows", "row_passes"]


def averaged_rows(step: Step) -> list[Row]:
    """Return the task gradients, averaged over the processes; the next step may write into them."""
    return step.processes.averaged(
        lambda send: row_passes(step, send),
        step.tasks + len(step.batch.losses) - step.batch.tasks,
        _roots(step),
        None if step.method.track_rises else step.method._shared.buckets,
    )


def _roots(step: Step) -> list[list[Tensor]]:
    """Return the loss behind each row where one backward pass makes a whole row, else nothing."""
    if step.split is not None or step.collected is not None:
        return []
    return [[loss] for loss in step.batch.losses]


def row_passes(step: Step, arrived: Arrived) -> list[Row]:
    """Give each task gradient of this process to ``arrived``; return what that returns.

    Gradients of micro-batches before are in them. The fixed loss, if there is one, comes last.
    """
    if step.collected is None:
        return _of_batch(step, arrived)
    places, before = step.batch.presence.places, step.collected.presence.places
    rows = _of_batch(step, _with_collected(step, arrived))
    found = dict(zip(places, rows, strict=False))
    for place, row in zip(before, step.collected.rows, strict=True):
        if place not in found:  # it has no data in the last micro-batch
            found[place] = arrived(row)
    return [found[place] for place in sorted(found)] + rows[len(places) :]


def _of_batch(step: Step, send: Arrived) -> list[Row]:
    batch, split = step.batch, step.split
    m, params = batch.tasks, step.params
    retain = step.call.retain_graph
    if split is None:
        return _by_engine(step, range(len(batch.losses)), send, retain)
    rows = split.rows(batch.names, retain or len(batch.losses) > m, send)
    # the fixed loss is not split: it may reach the trunk beside the features
    for row in _by_engine(step, range(m, len(batch.losses)), send, retain=True):
        rows.append([*row, *[None] * (len(rows[0]) - len(params))])
    return rows


def _by_engine(step: Step, tasks: Sequence[int], send: Arrived, retain: bool) -> list[Row]:
    batch, absent, names = step.batch, step.without_data, step.batch.names
    runs = [[task] for task in tasks] if absent else [list(tasks)]
    last = max([task for task in tasks if task not in absent], default=-1)
    rows: list[Row] = []
    for run in runs:
        if run and run[0] in absent:
            rows.append(send([None] * len(step.params)))
            continue
        rows += step.engine.rows(
            [batch.losses[task] for task in run],
            step.params,
            retain_graph=retain or (bool(absent) and run[0] != last),
            names=[names[task] for task in run],
            arrived=send,
        )
    return rows


def _with_collected(step: Step, arrived: Arrived) -> Arrived:
    """Return a function that adds the micro-batches' gradient to each row that arrives."""
    assert step.collected is not None
    known = dict(zip(step.collected.presence.places, step.collected.rows, strict=True))
    rows = [known.get(place) for place in step.batch.presence.places]
    waiting = iter(zip(rows, step.factors, strict=False))

    def summed(row: Row) -> Row:
        before, factor = next(waiting, (None, 1.0))
        if before is None:
            return arrived(row)
        if factor != 1.0:
            before = [None if g is None else factor * g for g in before]
        return arrived(add_rows(before, row))

    return summed
