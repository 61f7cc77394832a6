"""Options that are checked whenever they are assigned, and the ones that every method takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, TypedDict, TypeVar, overload

from pyfront._utils.arguments import choice, integer, number
from pyfront.distributed.choose import ProcessGroupLike
from pyfront.gradients.engines import EngineName
from pyfront.optimizer.delegating import DelegatingOptimizer
from pyfront.optimizer.roles import GramianOver

__all__ = ["CommonOptions", "Option", "at_least", "integer_from", "number_in", "one_of"]

T = TypeVar("T")


class CommonOptions(TypedDict, total=False):
    """The keywords that every method takes; :class:`~pyfront.MultiTaskOptimizer` explains them."""

    engine: EngineName
    gramian_over: GramianOver
    task_gradients: Literal["weighted", "own"]
    scale: Literal["mean", "sum"]
    weight_smoothing: float
    every: int
    upper_bound: bool
    process_group: ProcessGroupLike
    track_rises: bool


class Option(Generic[T]):
    """An attribute of an optimizer that is checked at every assignment, as in the constructor.

    The value is kept in what an optimizer shares with wrappers and shallow copies of it, so that an
    assignment on one of them holds for all.

    Args:
        check: from the option's name and a value to what is kept; raises for a value out of range.
    """

    def __init__(self, check: Callable[[str, Any], T]) -> None:
        self._check = check
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Option[T]: ...

    @overload
    def __get__(self, instance: DelegatingOptimizer, owner: type) -> T: ...

    def __get__(self, instance: DelegatingOptimizer | None, owner: type) -> T | Option[T]:
        if instance is None:
            return self
        value: T = instance._shared.options[self._name]
        return value

    def __set__(self, instance: DelegatingOptimizer, value: Any) -> None:
        instance._shared.options[self._name] = self._check(self._name, value)


def one_of(*choices: Any) -> Callable[[str, Any], Any]:
    """Return a check for one of these values."""

    def check(name: str, value: Any) -> Any:
        choice(name, value, choices)
        return value

    return check


def number_in(
    *,
    lowest: float = -math.inf,
    above: float = -math.inf,
    highest: float = math.inf,
    below: float = math.inf,
) -> Callable[[str, Any], float]:
    """Return a check for a finite number within these bounds."""
    return partial(number, lowest=lowest, above=above, highest=highest, below=below)


def at_least(lowest: float) -> Callable[[str, Any], float]:
    """Return a check for a finite number of at least ``lowest``."""
    return partial(number, lowest=lowest)


def integer_from(lowest: int) -> Callable[[str, Any], int]:
    """Return a check for an integer of at least ``lowest``."""
    return partial(integer, lowest=lowest)
