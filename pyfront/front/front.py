"""`Front`: the record of the solutions that runs with different preferences and methods found."""

from collections.abc import Iterable, Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from pyfront.front import files as front_files
from pyfront.front.measured import MeasuredSolutions
from pyfront.front.solution import Solution, Split

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Front", "Solution", "Split"]


class Front(MeasuredSolutions):
    """Solutions in the order in which they were added, all with the same number of tasks.

    A sequence: `len`, iteration, `front[0]`; a slice is a `Front`. What is measured on it takes a
    split, "test" by default; solutions without test losses are measured with `split="train"`.

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
            TypeError: not a `Solution`.
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

    @classmethod
    def merge(cls, fronts: Iterable["Front"]) -> Self:
        """The solutions of several fronts, in order, in one.

        A solution that is equal to an earlier one in every field is a copy and is left out. Two
        runs of one method and preference that differ in any number are two solutions, and both
        stay.

        Raises:
            ValueError: solutions with another number of tasks than those before; names the front.

        Example:
            >>> front = Front([Solution(method="a", train_losses=[1.0, 1.0])])
            >>> len(Front.merge([front, front]))
            1
        """
        merged = cls()
        seen = set()
        for index, front in enumerate(fronts):
            for s in front:
                losses = (s.train_losses, s.test_losses, s.preference)
                identity = (s.method, *losses, frozenset(s.metrics.items()), s.checkpoint)
                if identity in seen:
                    continue
                if merged and s.num_tasks != merged[0].num_tasks:
                    raise ValueError(
                        f"fronts[{index}] has {s.num_tasks} tasks, those before it "
                        f"{merged[0].num_tasks}"
                    )
                seen.add(identity)
                merged.add(s)
        return merged

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
        return f"Front({len(self)} solutions: {', '.join(self.by_method())})"

    def to_pandas(self) -> "DataFrame":
        """A table with one row a solution, in order.

        Columns: ``method``, ``checkpoint``, then ``preference/0`` …, ``train_loss/0`` …,
        ``test_loss/0`` …, and ``metric/NAME``, those that any solution has; what a solution does
        not have is missing there.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> list(Front([Solution(method="a", train_losses=[1.0, 2.0])]).to_pandas())
            ['method', 'checkpoint', 'train_loss/0', 'train_loss/1']
        """
        return front_files.to_table(self)

    @classmethod
    def from_pandas(cls, table: "DataFrame") -> Self:
        """The front in a table that `to_pandas` made; rows may have been left out or reordered.

        Raises:
            TypeError: not a `DataFrame`.
            ValueError: a column that `to_pandas` does not write, a value that is missing or is not
                a finite number; names the row and the column.
            ImportError: pandas is not installed.
        """
        return cls(front_files.read_table(table))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the front as JSON, all or nothing: a file of that name is replaced in one step.

        Raises:
            OSError: the place cannot be written.
        """
        front_files.write_json(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a front that `save` wrote; the numbers come back bit for bit.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not JSON, not a front, or of a version that is not known here; names the
                file and, where there is one, the solution and the field.
        """
        solutions = front_files.read_json(path)
        try:
            return cls(solutions)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
