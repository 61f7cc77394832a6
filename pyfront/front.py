"""`Front`: the record of the solutions that runs with different preferences and methods found."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfront._extras import require

__all__ = ["Front", "Solution", "Split"]

Split = Literal["train", "test"]
_FORMAT = "pyfront.front"
_VERSION = 1


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError(f"{name} = {value}: expected a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} = {value!r}: expected a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} = {number}: expected a finite number")
    return number


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: expected a sequence of numbers")
    out = tuple(_number(f"{name}[{index}]", value) for index, value in enumerate(values))
    if not out:
        raise ValueError(f"{name}: expected at least one number")
    return out


@dataclass(frozen=True, kw_only=True)
class Solution:
    """One trained model: what was asked for, and what came out.

    Args:
        method: the name of the method.
        train_losses: l on the training set, m finite numbers.
        test_losses: l on the test set, m finite numbers, or None.
        preference: r, m numbers ≥ 0, or None for a method that takes none.
        metrics: any further finite numbers by name (accuracies, seconds, …).
        checkpoint: where the trained model lies, or None.

    Raises:
        ValueError: a number that is not finite, a preference that is < 0, or differing lengths.

    Example:
        >>> Solution(method="EPO", preference=[0.5, 0.5], train_losses=[0.2, 0.2]).num_tasks
        2
    """

    method: str
    train_losses: Sequence[float]
    test_losses: Sequence[float] | None = None
    preference: Sequence[float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        """Check and freeze what was given."""
        for name, optional in (("method", False), ("checkpoint", True)):
            value = getattr(self, name)
            if not (isinstance(value, str) or (optional and value is None)):
                raise ValueError(f"{name} = {value!r}: expected a string")
        object.__setattr__(self, "train_losses", _numbers("train_losses", self.train_losses))
        for name in ("test_losses", "preference"):
            values = getattr(self, name)
            if values is None:
                continue
            checked = _numbers(name, values)
            if len(checked) != self.num_tasks:
                raise ValueError(f"{name}: {len(checked)} values for {self.num_tasks} tasks")
            object.__setattr__(self, name, checked)
        for index, value in enumerate(self.preference or ()):
            if value < 0.0:
                raise ValueError(f"preference[{index}] = {value}: expected a number ≥ 0")
        if not isinstance(self.metrics, Mapping):
            raise ValueError(f"metrics = {self.metrics!r}: expected numbers by name")
        metrics = {str(k): _number(f"metrics[{k!r}]", v) for k, v in self.metrics.items()}
        object.__setattr__(self, "metrics", metrics)

    @property
    def num_tasks(self) -> int:
        """m."""
        return len(self.train_losses)


class Front(Sequence[Solution]):
    """Solutions in the order in which they were added, all with the same number of tasks.

    A sequence: `len`, iteration, `front[0]`; a slice is a `Front`.

    Args:
        solutions: what to begin with.

    Raises:
        ValueError: solutions with different numbers of tasks.

    Example:
        >>> front = Front()
        >>> front.add(Solution(method="a", train_losses=[1.0, 3.0]))
        >>> front.add(Solution(method="b", train_losses=[2.0, 4.0]))
        >>> [s.method for s in front.non_dominated("train")]
        ['a']
    """

    def __init__(self, solutions: Iterable[Solution] = ()) -> None:
        """See the class."""
        self._solutions: list[Solution] = []
        for solution in solutions:
            self.add(solution)

    def add(self, solution: Solution) -> None:
        """Append one solution.

        Raises:
            TypeError: not a :class:`Solution`.
            ValueError: another number of tasks than the solutions before it.
        """
        if not isinstance(solution, Solution):
            raise TypeError(f"solution: expected a Solution, got {type(solution).__name__}")
        if self._solutions and solution.num_tasks != self[0].num_tasks:
            raise ValueError(
                f"solution {len(self)} has {solution.num_tasks} tasks, those before it "
                f"{self[0].num_tasks}"
            )
        self._solutions.append(solution)

    def __len__(self) -> int:
        """Number of solutions."""
        return len(self._solutions)

    def __iter__(self) -> Iterator[Solution]:
        """The solutions in order."""
        return iter(self._solutions)

    def __getitem__(self, index: Any) -> Any:
        """One solution, or a `Front` for a slice."""
        found = self._solutions[index]
        return Front(found) if isinstance(index, slice) else found

    def __eq__(self, other: object) -> bool:
        """Equal solutions in the same order."""
        return isinstance(other, Front) and self._solutions == other._solutions

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        """The size and the methods."""
        methods = ", ".join(dict.fromkeys(solution.method for solution in self))
        return f"Front({len(self)} solutions: {methods})"

    def losses(self, split: Split = "test") -> NDArray[np.float64]:
        """The losses of all solutions, [len, m] float64.

        Args:
            split: "train" or "test".

        Raises:
            ValueError: another split, or a solution without test losses; names its index.
        """
        if split not in ("train", "test"):
            raise ValueError(f"split = {split!r}: expected 'train' or 'test'")
        rows = [s.train_losses if split == "train" else s.test_losses for s in self]
        for index, row in enumerate(rows):
            if row is None:
                raise ValueError(f"solution {index} has no {split} losses")
        tasks = self[0].num_tasks if self else 0
        return np.array(rows, dtype=np.float64).reshape(len(self), tasks)

    def non_dominated(self, split: Split = "test") -> "Front":
        """The solutions that no other one dominates, in order; equal ones stay together.

        k dominates i when l_k ≤ l_i in every task and l_k < l_i in at least one.
        """
        points = self.losses(split)
        dominated = [
            bool(((points <= point).all(axis=1) & (points < point).any(axis=1)).any())
            for point in points
        ]
        return Front(s for s, out in zip(self, dominated, strict=True) if not out)

    def hypervolume(self, reference: ArrayLike, split: Split = "test") -> float:
        """The volume of {z : l_k ≤ z ≤ reference for some solution k}; bigger is better.

        Args:
            reference: m finite numbers, none below a loss of any solution.
            split: "train" or "test".

        Returns:
            The exact hypervolume; 0 for an empty front.

        Raises:
            ValueError: a reference of the wrong shape or not finite, or a loss above it (leaving
                such a solution out silently would make fronts look alike that are not).
            ImportError: moocore is not installed.

        Example:
            >>> Front([Solution(method="a", train_losses=[1.0, 1.0])]).hypervolume([3, 2], "train")
            2.0
        """
        corner = np.asarray(reference, dtype=np.float64)
        points = self.losses(split)
        if corner.ndim != 1 or corner.size == 0 or (self and len(corner) != points.shape[1]):
            expected = f"({points.shape[1]},)" if self else "(m,)"
            raise ValueError(f"reference: shape {corner.shape}, expected {expected}")
        _numbers("reference", corner.tolist())
        if not self:
            return 0.0
        for index, task in np.argwhere(points > corner):
            raise ValueError(
                f"reference[{task}] = {corner[task]:g} is below loss {task} of solution {index}, "
                f"{points[index, task]:g}"
            )
        return float(require("moocore", "front").hypervolume(points, ref=corner))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the front as JSON, all or nothing: a file of that name is replaced in one step.

        Raises:
            OSError: the place cannot be written.
        """
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "solutions": [asdict(solution) for solution in self],
        }
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        target = Path(path)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a front that `save` wrote; the numbers come back bit for bit.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not JSON, not a front, or of a version that is not known here; names the
                file and, where there is one, the solution.
        """
        try:
            document = json.loads(Path(path).read_bytes())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not a JSON file ({error})") from error
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ValueError(f"{path}: not a front saved by pyfront")
        if document.get("version") != _VERSION:
            raise ValueError(
                f"{path}: version {document.get('version')!r}, this pyfront reads {_VERSION}"
            )
        solutions = document.get("solutions")
        if not isinstance(solutions, list):
            raise ValueError(f"{path}: 'solutions' is not a list")
        front = cls()
        for index, entry in enumerate(solutions):
            try:
                front.add(_solution(entry))
            except ValueError as error:
                raise ValueError(f"{path}: solution {index}: {error}") from error
        return front


def _solution(entry: Any) -> Solution:
    names = {item.name for item in fields(Solution)}
    if not isinstance(entry, dict) or set(entry) != names:
        raise ValueError(f"expected an object with the keys {', '.join(sorted(names))}")
    return Solution(**entry)
