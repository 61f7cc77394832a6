"""Values by position or by name, and targets such as ``">=0.95"``."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray, number, require, vector

__all__ = ["Key", "PerValue", "Tasks", "Values", "as_target"]

Key: TypeAlias = "int | str"
Values: TypeAlias = "Mapping[str, float | None] | Sequence[float | None] | FloatArray"
PerValue: TypeAlias = "Mapping[str, float] | Sequence[float] | FloatArray"

_TARGET = re.compile(r"\s*(<=|>=|≤|≥)\s*([-+0-9.eE]+)\s*")


class Tasks(NamedTuple):
    """How many values there are and, where they have names, which.

    Args:
        size: m.
        names: [m], or None where values go by position.
    """

    size: int
    names: tuple[str, ...] | None

    @classmethod
    def of(cls, name: str, value: PerValue) -> Tasks:
        """Return the tasks that an argument with one number per task has."""
        if isinstance(value, Mapping):
            if not value:
                raise ValueError(f"{name}: expected at least one task")
            return cls(len(value), tuple(value))
        return cls(vector(name, value).size, None)

    def place(self, name: str, key: Key) -> int:
        """Return the position of a task that is given by name or by position."""
        if self.names is not None and key in self.names:
            return self.names.index(key)
        if isinstance(key, int) and not isinstance(key, bool) and 0 <= key < self.size:
            return key
        known = range(self.size) if self.names is None else self.names
        raise ValueError(f"{name}: no task {key!r}; there are {', '.join(map(repr, known))}")

    def placed(self, name: str, entries: Mapping[Any, Any]) -> dict[int, Any]:
        """Return the entries by position."""
        return {self.place(name, key): value for key, value in entries.items()}

    def vector(self, name: str, value: PerValue) -> FloatArray:
        """Return one number per task, in order."""
        if isinstance(value, Mapping):
            self._check_names(name, value)
            value = [value[key] for key in self.names or ()]
        return vector(name, value, self.size)

    def values(self, values: Values) -> tuple[FloatArray, BoolArray]:
        """Return the values [m], 0 where there is none, and which are present [m]."""
        if isinstance(values, Mapping):
            self._check_names("values", values)
            values = [values[key] for key in self.names or ()]
        present = np.array([value is not None for value in values], dtype=bool)
        array = vector("values", [0.0 if v is None else v for v in values], self.size)
        if not present.any():
            raise ValueError("values: expected at least one that is not None")
        require("values", array)
        return array, present

    def named(self, array: FloatArray) -> FloatArray | dict[str, float]:
        """Return the array, or a dict of it where tasks have names."""
        if self.names is None:
            return array
        return dict(zip(self.names, array.tolist(), strict=True))

    def signs(self, maximize: bool | Collection[Key]) -> FloatArray:
        """Return −1 for a value that is to rise, 1 for one that is to fall, [m]."""
        signs = np.ones(self.size)
        for key in range(self.size) if maximize is True else maximize or ():
            signs[self.place("maximize", key)] = -1.0
        return signs

    def _check_names(self, name: str, value: Mapping[str, object]) -> None:
        if self.names is None or set(value) != set(self.names):
            wanted = "a list" if self.names is None else ", ".join(self.names)
            raise ValueError(f"{name}: expected {wanted}, got {', '.join(map(str, value))}")


def as_target(name: str, value: float | str, sign: float) -> float:
    """Return b with sign · value ≤ sign · b from a number, ``"<=200"`` or ``">=0.95"``.

    Args:
        name: of the argument, for errors.
        value: the target.
        sign: −1 for a value that is to rise, whose bound is from below, 1 for one that is to fall.

    Example:
        >>> as_target("bounds", "<=200", 1.0), as_target("bounds", ">= 0.95", -1.0)
        (200.0, 0.95)
    """
    if not isinstance(value, str):
        return number(name, value)
    match = _TARGET.fullmatch(value)
    if match is None:
        raise ValueError(f'{name} = {value!r}: expected a number, "<=NUMBER" or ">=NUMBER"')
    if (match[1] in (">=", "≥")) != (sign < 0.0):
        kind = "rise (maximize)" if sign < 0.0 else "fall; name it in maximize= if it is to rise"
        raise ValueError(f"{name} = {value!r}: this value is to {kind}")
    try:
        return number(name, float(match[2]))
    except ValueError:
        raise ValueError(f"{name} = {value!r}: its bound is no finite number") from None
