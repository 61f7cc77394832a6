"""What a step finds in its call: the tasks that have data, their goal, and a second batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray, require
from pyfront.backend.task_gradients import Row
from pyfront.gradients.losses import loss_values, losses_present
from pyfront.optimizer.agreement import NO_DATA
from pyfront.optimizer.device_report import DeviceReport
from pyfront.optimizer.presence import Presence
from pyfront.optimizer.roles import ParameterValues, owners_after, task_specific
from pyfront.optimizer.shared import Shared
from pyfront.report import Report

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = [
    "goal_of_all",
    "goal_present",
    "own_blocks",
    "presence_of",
    "remember_weights",
    "second_of",
]


def presence_of(step: Step) -> Presence:
    """Return which tasks have data, here or in micro-batches before.

    Raises:
        ValueError: none has, or in several processes others than in micro-batches before; or the
            micro-batches were of other parameters.
    """
    presence = step.batch.presence
    if step.collected is not None:
        if not step.collected.params.are(step.params):
            raise ValueError("losses: the parameters have changed since accumulate()")
        before = step.collected.presence
        if step.processes.several and before != presence:
            raise ValueError(
                "losses: in several processes all micro-batches of a step must have None in the "
                "same places; give share=0 where a process has no data for a task"
            )
        presence = presence.union(before.places)
    if step.whole and not presence.places and not step.processes.several:
        raise ValueError(NO_DATA)
    return presence


def goal_of_all(step: Step) -> FloatArray | None:
    """Return what the method decides towards: its preference, or the call's own.

    Raises:
        ValueError: there is none for so many tasks.
    """
    step.method.check_tasks(step.presence.tasks)
    return step.method.goal(step.call.preference, step.presence.tasks)


def goal_present(step: Step) -> FloatArray | None:
    """Return the part of the goal that is of the tasks present."""
    goal, presence = step.goal_of_all, step.presence
    if goal is None or presence.complete or not presence.places:
        return goal
    return step.method.goal_among(goal, presence)


def second_of(step: Step) -> list[Tensor] | None:
    """Return the losses on a second batch, of the tasks that have data in the first.

    Raises:
        ValueError: other tasks than in the first batch, or a loss that is not finite.
    """
    if step.call.second is None:
        return None
    if step.processes.sharded:
        raise ValueError(
            "second: the gradients of sharded parameters are made by hooks of whole backward "
            "passes, which cannot be differentiated for a product of two batches; leave it out (C "
            "is then that of one batch, by m passes), or train replicas (process_group=)"
        )
    if step.method.track_rises:
        raise ValueError("second: not with track_rises, which needs the gradients of one batch")
    second, places, count = losses_present(step.call.second, name="second")
    there, expected = step.presence
    if count != expected:
        raise ValueError(f"second: expected {expected} losses, got {count}")
    if odd := sorted({*places} ^ {*there}):
        raise ValueError(
            f"second[{odd[0]}] and losses[{odd[0]}]: one of them is None; the two batches must "
            "have data for the same tasks"
        )
    values = loss_values(second)
    if not step.batch.scaled:
        require("second", values, places=places)
    step.sound &= bool(np.isfinite(values).all())
    return second


def own_blocks(step: Step, rows: Sequence[Row]) -> list[int] | None:
    """Return the blocks of task-specific parameters, or None if no option asks for them."""
    method, parameters = step.method, step.parameters
    if method.gramian_over != "shared" and method.task_gradients == "weighted":
        return None
    known: ParameterValues[int] = method._shared.values.get("owners", ParameterValues())
    rows = [row[: len(step.params)] for row in rows]  # features may follow
    owners = owners_after(known.of(parameters), parameters, rows, step.presence.places)
    step.owners = ParameterValues(owners, parameters)
    return task_specific(owners, method.param_groups)


def remember_weights(shared: Shared, report: Report, presence: Presence) -> None:
    """Keep the report for its weights, and for each task without data the one that it was in last.

    On a device nobody looks at the status here.
    """
    if not isinstance(report, DeviceReport) and report.status == "nonfinite":
        return
    absent = () if presence.complete else set(range(presence.tasks)).difference(presence.places)
    shared.earlier = {task: shared.earlier.get(task, shared.solved) for task in absent}
    shared.solved = report
