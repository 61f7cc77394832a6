"""Tasks without data in a batch: the places of those present, and the memory of the others.

A decision is made on the tasks present. On the way in, what is remembered per task is restricted to
them; on the way out it is put back beside that of the absent tasks, which stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

from pyfront._utils.arguments import FloatArray
from pyfront.optimizer.delegating import DelegatingOptimizer, Memory

__all__ = ["Places", "Presence", "RemembersTasks", "absorbed", "counted", "rarity", "restricted"]

FORGETTING = 1e-3  # per step, of how often a task had data
LARGEST_RARITY = 10.0

KEPT_PER_TASK = {"weights": math.nan}  # of every method that smooths or keeps its weights


class Presence(NamedTuple):
    """Which tasks have data in a call.

    Attributes:
        places: their places among all tasks, ascending.
        tasks: m, the number of all.
    """

    places: list[int]
    tasks: int

    @property
    def complete(self) -> bool:
        """Whether no task is absent."""
        return len(self.places) == self.tasks

    def names(self, name: str = "losses") -> list[str]:
        """Return what errors call their values."""
        return [f"{name}[{place}]" for place in self.places]

    def union(self, other: Sequence[int]) -> Presence:
        """Return the tasks that are present in either."""
        return Presence(sorted({*self.places, *other}), self.tasks)


Places: TypeAlias = Callable[[str], tuple[Sequence[int], int]]
"""From an entry's name to the places of its values that belong to tasks present, and their number
with those of all tasks."""


def counted(before: Memory | None, presence: Presence) -> Memory | None:
    """Return how often each task had data, with this call; None while no task was ever absent.

    A task is counted from its first call with data on; both sums forget 1/1000 per call.

    Example:
        >>> counts = counted(None, Presence([0, 1], 3))
        >>> counted(counts, Presence([0, 2], 3))
        {'with_data': [1.999, 0.999, 1.0], 'calls': [1.999, 1.999, 1.0]}
    """
    if before is None and presence.complete:
        return None
    kept = 1.0 - FORGETTING
    with_data, calls = [0.0] * presence.tasks, [0.0] * presence.tasks
    if before is not None and len(before["calls"]) == presence.tasks:
        with_data = [kept * value for value in before["with_data"]]
        calls = [kept * value + 1.0 if value else 0.0 for value in before["calls"]]
    for place in presence.places:
        with_data[place] += 1.0
        calls[place] = calls[place] or 1.0
    return {"with_data": with_data, "calls": calls}


def rarity(counts: Memory, presence: Presence) -> list[float]:
    """Return 1 / p for each task present, p the share of calls in which it has data; at most 10.

    With weights w_j / p_j the mean direction over the calls is Σ_j w_j ∇l_j, as if every task had
    data in each of them.

    Example:
        >>> rarity({"with_data": [2.0, 1.0], "calls": [2.0, 2.0]}, Presence([0, 1], 2))
        [1.0, 2.0]
    """
    return [
        min(counts["calls"][place] / counts["with_data"][place], LARGEST_RARITY)
        for place in presence.places
    ]


def restricted(memory: Memory, starts: dict[str, float], places: Places) -> Memory:
    """Return the memory with the entries per task restricted to the tasks present.

    Args:
        memory: of all tasks. An entry is a list, or a dict of lists; None in a list stands for a
            task that has never been present.
        starts: the names of entries with one value per task, and what is put in place of None.
            Where no task present has a value, the entry is left out, as at a first step.
        places: see :data:`Places`.

    Example:
        >>> restricted({"mean": [1.0, 2.0, None]}, {"mean": 0.0}, lambda _: ([1, 2], 3))
        {'mean': [2.0, 0.0]}
    """
    out = dict(memory)
    for name, start in starts.items():
        if name in out:
            value = _taken(out.pop(name), start, *places(name))
            if value is not None:
                out[name] = value
    return out


def _taken(value: Any, start: float, places: Sequence[int], count: int) -> Any:
    if isinstance(value, dict):
        parts = {key: _taken(part, start, places, count) for key, part in value.items()}
        return None if any(part is None for part in parts.values()) else parts
    if not isinstance(value, list):
        return value
    if len(value) != count:
        return None  # of another number of tasks
    kept = value if len(places) == count else [value[place] for place in places]
    if None not in kept:
        return kept
    if all(part is None for part in kept):
        return None
    return [start if part is None else part for part in kept]


def absorbed(memory: Memory, draft: Memory, names: Iterable[str], places: Places) -> Memory:
    """Return the memory of all tasks after a decision on some of them.

    Args:
        memory: as it was before the decision.
        draft: what the decision made of the restricted memory; what waits for the step is in it.
        names: the entries with one value per task.
        places: see :data:`Places`.

    Example:
        >>> draft = {"mean": [2.5, 0.5]}
        >>> absorbed({"mean": [1.0, 2.0, None]}, draft, ["mean"], lambda _: ([1, 2], 3))
        {'mean': [1.0, 2.5, 0.5]}
    """
    known = restricted(memory, dict.fromkeys(names, 0.0), places)
    out = dict(draft)
    waiting = dict(out.get("learned", {}))
    for name in names:
        if name in memory and name not in draft and name not in known:
            out[name] = memory[name]  # it was not shown
        for source, entries in ((draft, out), (waiting, waiting)):
            if name in source:
                entries[name] = _put(source[name], memory.get(name), *places(name))
    if waiting:
        out["learned"] = waiting
    return out


def _put(new: Any, old: Any, places: Sequence[int], count: int) -> Any:
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        return {key: _put(part, before.get(key), places, count) for key, part in new.items()}
    if not isinstance(new, list) or len(new) != len(places):
        return new
    out = list(old) if isinstance(old, list) and len(old) == count else [None] * count
    for place, value in zip(places, new, strict=True):
        out[place] = value
    return out


class RemembersTasks(DelegatingOptimizer):
    """An optimizer that knows which tasks a decision is about, and keeps what it knows of others.

    Attributes:
        per_task: the entries of the memory with one value per task, and what stands for the value
            of a task that starts later than others.
    """

    per_task: ClassVar[dict[str, float]] = {}

    def makes_up_for_absence(self) -> bool:
        """Return whether weights grow for tasks that seldom have data, by :func:`rarity`.

        To be overridden by methods that hold a proportion among the losses over many steps: without
        it a task is trained the less, the rarer its data.
        """
        return False

    @property
    def present(self) -> Presence | None:
        """The tasks that the decision under way is about; None outside one."""
        presence: Presence | None = self._shared.presence
        return presence

    def among(self, values: FloatArray) -> FloatArray:
        """Return the entries, one per task in the last dimension, of the tasks present.

        Args:
            values: [..., m].

        Example:
            >>> import numpy as np
            >>> import pyfront
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
            >>> with opt.drafting({}, Presence([0, 2], 3)):  # as for step([l0, None, l2])
            ...     opt.among(np.array([5.0, 6.0, 7.0])).tolist()
            [5.0, 7.0]
        """
        present = self.present
        return values if present is None or present.complete else values[..., present.places]

    def places(self, name: str, presence: Presence) -> tuple[Sequence[int], int]:
        """Return which values of an entry in ``per_task`` the tasks present have, and how many all.

        To be overridden where values do not go by tasks, such as multipliers of constraints.
        """
        return presence

    def memory_among(self, memory: Memory, presence: Presence) -> Memory:
        """Return the memory for a decision on the tasks present."""
        if KEPT_PER_TASK.keys().isdisjoint(memory) and self.per_task.keys().isdisjoint(memory):
            return dict(memory)
        starts = {**KEPT_PER_TASK, **self.per_task}
        return restricted(memory, starts, lambda name: self.places(name, presence))

    def memory_after(self, memory: Memory, draft: Memory, presence: Presence) -> Memory:
        """Return the memory of all tasks from that before a decision and the draft it worked on."""
        if presence.complete:
            return draft
        names = {**KEPT_PER_TASK, **self.per_task}
        return absorbed(memory, draft, names, lambda name: self.places(name, presence))
