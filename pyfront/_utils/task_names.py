"""Names of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["check_tasks"]


def check_tasks(tasks: Any, count: int | None = None) -> tuple[str, ...]:
    """Check names of tasks: different, not empty, and no numbers, which are places in tables.

    Raises:
        ValueError: anything else, or another number of names than `count`; names the entry.
    """
    if isinstance(tasks, str) or not isinstance(tasks, Sequence) or not tasks:
        raise ValueError(f"tasks = {tasks!r}: expected a sequence of names")
    for index, name in enumerate(tasks):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"tasks[{index}] = {name!r}: expected a name")
        if name.isdecimal():
            raise ValueError(f"tasks[{index}] = {name!r}: expected a name, got a number")
        if name in tasks[:index]:
            raise ValueError(f"tasks[{index}] = {name!r}: the same as tasks[{tasks.index(name)}]")
    if count is not None and len(tasks) != count:
        raise ValueError(f"tasks: {len(tasks)} names for {count} tasks")
    return tuple(tasks)
