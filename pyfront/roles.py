"""Which parameters are shared by the tasks and which belong to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyfront.gradients import Row

__all__ = ["task_specific"]


def task_specific(param_groups: Sequence[dict[str, Any]], rows: Sequence[Row]) -> list[bool]:
    """For each parameter that requires a gradient, whether it belongs to one task.

    Named by the group key ``role="task"`` where any group has a role; otherwise a parameter belongs
    to a task if the gradient of exactly one of several losses reaches it.

    Args:
        param_groups: the optimizer's groups.
        rows: m task gradients of T tensors or None.

    Returns:
        T flags, in the order of the groups.
    """
    if any("role" in group for group in param_groups):
        named = [(group.get("role"), p) for group in param_groups for p in group["params"]]
        return [role == "task" for role, p in named if p.requires_grad]
    reached = [sum(gradient is not None for gradient in block) for block in zip(*rows, strict=True)]
    return [len(rows) > 1 and count == 1 for count in reached]
