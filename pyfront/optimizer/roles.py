"""Which parameters are shared by the tasks, belong to one of them, or are named by the user."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

from torch import Tensor

from pyfront._utils.arguments import choice
from pyfront.backend.task_gradients import Row

__all__ = ["GramianOver", "as_gramian_over", "left_out", "own_blocks", "task_specific"]

GramianOver: TypeAlias = "Literal['all', 'shared'] | Iterable[Tensor]"


def as_gramian_over(
    value: GramianOver, param_groups: Sequence[dict[str, Any]]
) -> str | frozenset[int]:
    """``"all"``, ``"shared"``, or where the named parameters stand among those of all groups.

    Places and not tensors are kept: the tensors of a group may be replaced or copied.

    Raises:
        TypeError: an entry that is no tensor, or nothing to iterate over.
        ValueError: another word, no entry, or one that is no parameter of these groups.
    """
    if isinstance(value, str):
        choice("gramian_over", value, ("all", "shared"))
        return value
    if isinstance(value, Tensor) or not isinstance(value, Iterable):
        raise TypeError(f"gramian_over: expected a list of parameters, got {type(value).__name__}")
    place_of = {id(p): place for place, p in enumerate(_parameters(param_groups))}
    found = set()
    for index, p in enumerate(value):
        if not isinstance(p, Tensor):
            raise TypeError(f"gramian_over[{index}]: expected a tensor, got {type(p).__name__}")
        if id(p) not in place_of:
            raise ValueError(f"gramian_over[{index}]: is no parameter of this optimizer")
        found.add(place_of[id(p)])
    if not found:
        raise ValueError("gramian_over: names no parameter")
    return frozenset(found)


def left_out(
    over: str | frozenset[int], own: list[int] | None, param_groups: Sequence[dict[str, Any]]
) -> list[int] | None:
    """The blocks that C is not over, given those that belong to one task; None if it is over all.

    Raises:
        ValueError: every named parameter is frozen.
    """
    if isinstance(over, str):
        return own if over == "shared" else None
    trained = [place for place, p in enumerate(_parameters(param_groups)) if p.requires_grad]
    if over.isdisjoint(trained):
        raise ValueError("gramian_over: none of the named parameters requires a gradient")
    return [block for block, place in enumerate(trained) if place not in over]


def own_blocks(flags: Sequence[bool | None], param_groups: Sequence[dict[str, Any]]) -> list[int]:
    """The blocks of task-specific parameters, among those that require a gradient."""
    params = _parameters(param_groups)
    trained = [flag for p, flag in zip(params, flags, strict=True) if p.requires_grad]
    return [block for block, flag in enumerate(trained) if flag]


def _parameters(param_groups: Sequence[dict[str, Any]]) -> list[Tensor]:
    return [p for group in param_groups for p in group["params"]]


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
