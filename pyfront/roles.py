"""Which parameters are shared by the tasks and which belong to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyfront.gradients import Row

__all__ = ["task_specific"]


def task_specific(
    param_groups: Sequence[dict[str, Any]], rows: Sequence[Row], known: Sequence[bool | None]
) -> list[bool | None]:
    """For each parameter whether it belongs to one task; None while no loss has reached it.

    Named by the group key ``role="task"`` where any group has a role. Otherwise what is known
    stays, and a parameter that is not known yet belongs to a task if the gradient of exactly one of
    several losses reaches it.

    Args:
        param_groups: the optimizer's groups, with T' parameters of which T require a gradient.
        rows: m task gradients of T tensors or None.
        known: flags of earlier steps, for the first parameters.

    Returns:
        T' flags, in the order of the groups.
    """
    params = [(group.get("role"), p) for group in param_groups for p in group["params"]]
    if any(role is not None for role, _ in params):
        return [role == "task" for role, _ in params]
    columns = zip(*rows, strict=True)
    flags: list[bool | None] = []
    for index, (_, p) in enumerate(params):
        flag = known[index] if index < len(known) else None
        if p.requires_grad:
            reached = sum(gradient is not None for gradient in next(columns))
            if flag is None and reached:
                flag = len(rows) > 1 and reached == 1
        flags.append(flag)
    return flags
