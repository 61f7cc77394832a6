"""Names of tasks: losses and preferences by name, in one order; errors that use the names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

from torch import Tensor

from pyfront._utils.arguments import VectorLike, VectorsLike
from pyfront._utils.task_names import check_tasks
from pyfront.optimizer.batch import Losses
from pyfront.optimizer.call import Call

__all__ = [
    "NamedLosses",
    "NamedVector",
    "NamedVectors",
    "by_position",
    "call_by_position",
    "errors_by_name",
    "errors_by_place",
    "losses_by_position",
]

NamedLosses: TypeAlias = "Losses | Mapping[str, Tensor | None]"
NamedVector: TypeAlias = "VectorLike | Mapping[str, float]"
NamedVectors: TypeAlias = "VectorsLike | Mapping[str, float]"


def by_position(name: str, values: Mapping[str, Any], tasks: Sequence[str]) -> list[Any]:
    """Return the values in the order of ``tasks``.

    Raises:
        ValueError: a task without a value, or a value without a task; both are named.
    """
    known = ", ".join(map(repr, tasks))
    for key in values:
        if key not in tasks:
            raise ValueError(f"{name}[{key!r}]: is no task of this optimizer, which has {known}")
    for task in tasks:
        if task not in values:
            hint = "; give None where it has no data in this batch" if name == "losses" else ""
            raise ValueError(f"{name}: {task!r} is missing, of the tasks {known}{hint}")
    return [values[task] for task in tasks]


def losses_by_position(
    losses: Any, tasks: tuple[str, ...] | None, num_tasks: int | None
) -> tuple[Any, tuple[str, ...] | None]:
    """Return losses as a list or tensor, and the names of the tasks, None where they have none.

    Args:
        losses: by name, by position, or one scalar for an optimizer of one task.
        tasks: the names so far.
        num_tasks: the number of tasks so far, None where nothing tells.
    """
    if type(losses) is list:
        return losses, tasks
    if isinstance(losses, Mapping):
        if tasks is None:
            if not losses:
                raise ValueError("losses: expected at least one loss, got none")
            tasks = check_tasks(tuple(losses))
        return by_position("losses", losses, tasks), tasks
    if isinstance(losses, Tensor) and losses.dim() == 0:
        if num_tasks != 1:
            what = "an unknown number of" if num_tasks is None else f"{num_tasks}"
            raise ValueError(
                f"losses: expected a list, got one scalar for {what} tasks; give the losses before "
                "they are summed, or [loss] for a single task"
            )
        return [losses], tasks
    return losses, tasks


def call_by_position(
    losses: Any, tasks: tuple[str, ...] | None, num_tasks: int | None, **given: Any
) -> Call:
    """Return a call whose losses and preference are in the order of the tasks.

    Args:
        losses, tasks, num_tasks: as for :func:`losses_by_position`.
        **given: further fields of :class:`Call`.

    Raises:
        ValueError: a preference by name for losses without names; names that do not fit.
    """
    losses, tasks = losses_by_position(losses, tasks, num_tasks)
    for name in ("preference", "second"):
        values = given.get(name)
        if values is not None and isinstance(values, Mapping):
            if tasks is None:
                raise ValueError(f"{name}: it is by name, so losses must be a dict by name too")
            given[name] = by_position(name, values, tasks)
    if (replay := given.get("replay")) is not None:
        replay.tasks = tasks
    return Call(losses, tasks=tasks, **given)


def errors_by_name(tasks: tuple[str, ...] | None) -> AbstractContextManager[None]:
    """Let errors say ``losses['depth']`` in place of ``losses[1]``."""
    return _renamed([repr(task) for task in tasks]) if tasks else nullcontext()


def errors_by_place(places: Sequence[int]) -> AbstractContextManager[None]:
    """Let errors about the tasks present say ``losses[2]`` in place of ``losses[1]``."""
    return _renamed([str(place) for place in places])


@contextmanager
def _renamed(keys: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (_with_keys(error.args[0], keys),)
        raise


def _with_keys(text: str, keys: Sequence[str]) -> str:
    def name(match: re.Match[str]) -> str:
        task = int(match[2])
        return f"{match[1]}[{keys[task]}]" if task < len(keys) else match[0]

    return re.sub(r"\b(losses|second|preference)\[(\d+)\]", name, text)
