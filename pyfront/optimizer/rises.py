"""Whether a loss rises to first order under the update that the base really makes.

What a method promises to first order holds for its direction d. The base makes another update Δθ of
it: momentum, second moments, weight decay. With ``track_rises`` the task gradients g_j of a step
are kept until the base has made it, and the change of loss j is ⟨g_j, Δθ⟩.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.cuda import capturing
from pyfront.backend.sparse import inner
from pyfront.backend.task_gradients import Row, TaskGradients, as_real
from pyfront.optimizer.presence import Presence
from pyfront.optimizer.shared import Memory

if TYPE_CHECKING:
    from pyfront.optimizer.method import Method
    from pyfront.optimizer.step import Step

__all__ = ["KeptGradients", "gradients_to_keep", "measured", "rise_metrics"]


class KeptGradients(NamedTuple):
    """Task gradients that wait for the base's step.

    Attributes:
        rows: one per task that has data, T real tensors or None.
        params: the T parameters.
        unit: the gradient scaler's factor on the rows.
        presence: these tasks.
    """

    rows: list[Row]
    params: list[Tensor]
    unit: float
    presence: Presence


def gradients_to_keep(step: Step, rows: Sequence[Row]) -> KeptGradients | None:
    """Return what :func:`measured` needs of a step, None where rises are not tracked.

    Raises:
        ValueError: the rows end at features.
    """
    if not step.method.track_rises:
        return None
    if step.method.upper_bound:
        raise ValueError("track_rises: with upper_bound no task gradient is known")
    return KeptGradients(list(rows[: step.tasks]), step.params, step.batch.unit, step.presence)


def measured(method: Method) -> AbstractContextManager[None]:
    """Compare the parameters before and after the base's step, where gradients wait for it.

    Raises:
        RuntimeError: a CUDA graph is being captured.
    """
    shared = method._shared
    kept: KeptGradients | None = shared.kept
    shared.changes = None
    return nullcontext() if kept is None else _compared(method, kept)


@contextmanager
def _compared(method: Method, kept: KeptGradients) -> Iterator[None]:
    shared = method._shared
    if capturing(kept.params[0].device):
        raise RuntimeError("track_rises: its numbers come to the host, which no CUDA graph can do")
    reached = [any(g is not None for g in column) for column in zip(*kept.rows, strict=True)]
    local = method.processes().local
    targets = [p.detach() for p in local(kept.params)]
    before = [p.clone() if r else None for p, r in zip(targets, reached, strict=True)]
    yield  # where the base raises, the gradients wait for another try
    shared.kept = None
    changes = _changes(method, kept, targets, before)
    shared.changes = np.full(kept.presence.tasks, np.nan)
    shared.changes[kept.presence.places] = changes
    if np.isfinite(changes).all():
        _count(method.memory, bool((changes > 0.0).any()))


def _changes(
    method: Method, kept: KeptGradients, after: Sequence[Tensor], before: Sequence[Tensor | None]
) -> FloatArray:
    """Return ⟨g_j, θ_after − θ_before⟩ of the tasks that have data; ``before`` is used up."""
    for p, old in zip(after, before, strict=True):
        if old is not None:
            old.neg_().add_(p)
    update = as_real(before)
    sparse = {b for row in kept.rows for b, g in enumerate(row) if g is not None and g.is_sparse}
    found = _products(
        [_without(row, sparse) for row in kept.rows], _without(update, sparse), method
    )
    for task, row in enumerate(kept.rows):
        for block in sparse:
            g, u = row[block], update[block]
            if g is not None and u is not None:
                found[task] += inner(g, u)
    return found / kept.unit


def _products(rows: Sequence[Row], update: Row, method: Method) -> FloatArray:
    """Return ⟨g_j, Δθ⟩ of dense rows."""
    columns = zip(update, *rows, strict=True)
    update = [
        u if u is None else u.to(next(g for g in gradients if g is not None).dtype)
        for u, *gradients in columns
    ]
    c, _ = method.processes().squares(TaskGradients([*rows, update]), None, None)
    products: FloatArray = c[:-1, -1].copy()
    return products


def _without(row: Row, blocks: set[int]) -> Row:
    return [None if block in blocks else g for block, g in enumerate(row)] if blocks else row


def _count(memory: Memory, rising: bool) -> None:
    steps, risen = memory.get("rises", (0, 0))
    memory["rises"] = [steps + 1, risen + rising]


def rise_metrics(method: Method) -> dict[str, float]:
    """Return the changes in the last step, by task, and the share of steps with a rise so far."""
    changes: FloatArray | None = method._shared.changes
    if not method.track_rises or changes is None:
        return {}
    tasks = method.tasks or range(changes.size)
    found = {
        f"change/{task}": change
        for task, change in zip(tasks, changes.tolist(), strict=True)
        if change == change  # a task without data has none
    }
    steps, risen = method.memory.get("rises", (0, 0))
    return {**found, "rising": risen / steps} if steps else found
