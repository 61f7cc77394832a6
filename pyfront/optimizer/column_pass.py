"""The step of an engine that keeps no task gradients: C by columns, then d by a weighted pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.graph import reached
from pyfront.backend.task_gradients import Row
from pyfront.gradients.columns_engine import ColumnsEngine
from pyfront.gradients.engine import weighted_gradient
from pyfront.optimizer.arithmetic import Squares, inside_of
from pyfront.optimizer.roles import left_out
from pyfront.optimizer.step_parts import own_blocks
from pyfront.report import Report

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = ["column_pass"]


def column_pass(step: Step) -> tuple[Report, Row]:
    """Return the decision on C, and the direction.

    Raises:
        ValueError: features, gradients of micro-batches, or an option that needs rows.
    """
    engine, method, batch = step.engine, step.method, step.batch
    assert isinstance(engine, ColumnsEngine)
    _refuse_what_needs_rows(step)
    losses = batch.losses[: batch.tasks]
    patterns = _patterns(losses, step.params)
    own = own_blocks(step, patterns)
    outside = left_out(method.gramian_over, own, step.parameters)
    inside = inside_of(len(step.params), outside) if outside else None
    if step.call.replay is not None:
        step.call.replay.unit = batch.unit
    squares = None
    if not step.sound or (method.needs != "losses" and step.due):
        found = engine.squares(losses, step.params, inside, batch.names, step.call.replay)
        squares = Squares(*found)
    report = step.decided(squares)
    if not own or method.task_gradients != "own":
        direction = step.weighted_pass(report)
    else:
        direction = _with_own(step, report, own, patterns)
    return step.arithmetic.checked(step, report, direction), direction


def _refuse_what_needs_rows(step: Step) -> None:
    needed = {
        "features": step.split is not None,
        "accumulate()": step.collected is not None,
        "track_rises": step.method.track_rises,
    }
    for name, asked in needed.items():
        if asked:
            raise ValueError(f"engine='columns': {name} needs task gradients; set engine='auto'")


def _patterns(losses: list[Tensor], params: list[Tensor]) -> list[Row]:
    """Return what rows would be like: a tensor where the graph of a loss shows the parameter."""
    leaves = [reached([loss]) for loss in losses]
    return [[p if id(p) in found else None for p in params] for found in leaves]


def _with_own(step: Step, report: Report, own: list[int], patterns: list[Row]) -> Row:
    """Return the direction whose blocks ``own`` are their task's plain gradient: two passes."""
    weights = np.asarray(step.weights_with_fixed(report))
    there = {block for row in patterns for block, p in enumerate(row) if p is not None}
    shared = [block for block in range(len(step.params)) if block not in own]
    parts: list[tuple[list[int], FloatArray]] = [(own, 0.0 * weights + 1.0), (shared, weights)]
    parts = [(blocks, w) for blocks, w in parts if not there.isdisjoint(blocks)]
    direction: list[Tensor | None] = [None] * len(step.params)
    for place, (blocks, w) in enumerate(parts):
        row = weighted_gradient(
            step.batch.losses,
            w.tolist(),
            [step.params[block] for block in blocks],
            step.engine,
            step.call.retain_graph or place + 1 < len(parts),
        )
        for block, d in zip(blocks, row, strict=True):
            direction[block] = d
    return direction
