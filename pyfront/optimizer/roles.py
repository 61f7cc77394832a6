"""Which parameters are shared by the tasks, belong to one of them, or are named by the user."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from torch import Tensor

from pyfront._utils.arguments import choice
from pyfront.backend.task_gradients import Row

__all__ = [
    "SHARED",
    "GramianOver",
    "ParameterValues",
    "as_gramian_over",
    "distinct_parameters",
    "left_out",
    "owners_after",
    "parameters_of",
    "task_specific",
]

GramianOver: TypeAlias = "Literal['all', 'shared'] | Iterable[Tensor]"
T = TypeVar("T")

SHARED = -1  # in place of the task that a parameter belongs to


def parameters_of(param_groups: Sequence[dict[str, Any]]) -> list[Tensor]:
    """Return the parameters of all groups, in their order."""
    return [p for group in param_groups for p in group["params"]]


def distinct_parameters(param_groups: Sequence[dict[str, Any]]) -> list[Tensor]:
    """Return the parameters of all groups, each once, as a checkpoint numbers them."""
    return list({id(p): p for p in parameters_of(param_groups)}.values())


class ParameterValues(Generic[T]):
    """A value for each of an optimizer's parameters, whatever becomes of its groups.

    Values are found by the tensors themselves, so that groups may be added, removed or reordered.
    After a copy, a checkpoint, or when every tensor has been replaced, they are found by position.

    Args:
        values: one per position; None where nothing is known.
        params: the tensors at these positions; None if they are not known yet.
    """

    def __init__(
        self, values: Sequence[T | None] = (), params: Sequence[Tensor] | None = None
    ) -> None:
        self.values = list(values)
        self._refs = None if params is None else [weakref.ref(p) for p in params]

    def rebase(self, params: Sequence[Tensor]) -> None:
        """Find values by the positions of these parameters from now on, as a copy has to."""
        self.values, self._refs = self.of(params), None

    def __getstate__(self) -> dict[str, object]:
        return {"values": self.values, "_refs": None}

    def of(self, params: Sequence[Tensor]) -> list[T | None]:
        """Return the value of each parameter, None where nothing is known."""
        alive = zip(self._refs or (), self.values, strict=False)
        known = {id(p): value for ref, value in alive if (p := ref()) is not None}
        if any(id(p) in known for p in params):
            return [known.get(id(p)) for p in params]
        return [self.values[k] if k < len(self.values) else None for k in range(len(params))]


# -------------------------------------------------------------------- parameters named by the user


def as_gramian_over(
    value: GramianOver | ParameterValues[bool], param_groups: Sequence[dict[str, Any]]
) -> str | ParameterValues[bool]:
    """Return ``"all"``, ``"shared"``, or which parameters are named.

    Raises:
        TypeError: an entry that is no tensor, or nothing to iterate over.
        ValueError: another word, no entry, or one that is no parameter of these groups.
    """
    if isinstance(value, ParameterValues):
        return value
    if isinstance(value, str):
        choice("gramian_over", value, ("all", "shared"))
        return value
    if isinstance(value, Tensor) or not isinstance(value, Iterable):
        raise TypeError(f"gramian_over: expected a list of parameters, got {type(value).__name__}")
    params = parameters_of(param_groups)
    ours = {id(p) for p in params}
    named = set()
    for index, p in enumerate(value):
        if not isinstance(p, Tensor):
            raise TypeError(f"gramian_over[{index}]: expected a tensor, got {type(p).__name__}")
        if id(p) not in ours:
            raise ValueError(f"gramian_over[{index}]: is no parameter of this optimizer")
        named.add(id(p))
    if not named:
        raise ValueError("gramian_over: names no parameter")
    return ParameterValues([id(p) in named for p in params], params)


def left_out(
    over: str | ParameterValues[bool], own: list[int] | None, params: Sequence[Tensor]
) -> list[int] | None:
    """Return the blocks that C is not over; None if it is over all.

    Args:
        over: ``"all"``, ``"shared"``, or which parameters are named.
        own: the blocks that belong to one task, if they are known.
        params: the parameters of all groups; those that require a gradient are the blocks.

    Raises:
        ValueError: every named parameter is frozen.
    """
    if isinstance(over, str):
        return own if over == "shared" else None
    pairs = zip(over.of(params), params, strict=True)
    named = [flag for flag, p in pairs if p.requires_grad]
    if not any(named):
        raise ValueError("gramian_over: none of the named parameters requires a gradient")
    return [block for block, flag in enumerate(named) if not flag]


# -------------------------------------------------------------------------- parameters of one task


def owners_after(
    known: Sequence[int | None], params: Sequence[Tensor], rows: Sequence[Row], tasks: Sequence[int]
) -> list[int | None]:
    """Return the task that each parameter belongs to, ``SHARED``, or None if nothing shows it.

    A parameter that two tasks reach, in one step or in different ones, is shared from then on. One
    that exactly one of several losses reaches belongs to that task. A single loss proves nothing.

    Args:
        known: the owners before, one per parameter.
        params: T' parameters, of which T require a gradient.
        rows: task gradients of T tensors or None, one row per task that is present.
        tasks: the places of these tasks among all.
    """
    columns = zip(*rows, strict=True)
    owners: list[int | None] = []
    for owner, p in zip(known, params, strict=True):
        if p.requires_grad:
            column = next(columns)
            reaching = [task for task, g in zip(tasks, column, strict=True) if g is not None]
            if len(reaching) > 1 or (owner is not None and any(task != owner for task in reaching)):
                owner = SHARED
            elif reaching and owner is None and len(tasks) > 1:
                owner = reaching[0]
        owners.append(owner)
    return owners


def task_specific(
    owners: Sequence[int | None], param_groups: Sequence[dict[str, Any]]
) -> list[int]:
    """Return the blocks of task-specific parameters, among those that require a gradient.

    The group key ``role="task"`` decides where any group has a role, otherwise the owners.
    """
    roles = [group.get("role") for group in param_groups for _ in group["params"]]
    if any(role is not None for role in roles):
        flags = [role == "task" for role in roles]
    else:
        flags = [owner is not None and owner != SHARED for owner in owners]
    pairs = zip(flags, parameters_of(param_groups), strict=True)
    return [block for block, flag in enumerate(f for f, p in pairs if p.requires_grad) if flag]
