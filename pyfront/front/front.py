"""`Front`: the solutions that runs with different preferences and methods found."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

from pyfront._utils.tables import aligned
from pyfront._utils.task_names import check_tasks
from pyfront.front import comparison
from pyfront.front import files as front_files
from pyfront.front.measured import MeasuredSolutions
from pyfront.front.solution import DataSplit, Solution
from pyfront.front.tables import solution_rows

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Front", "Solution"]


class Front(MeasuredSolutions):
    """Solutions of the same tasks, in the order in which they were added.

    A sequence: `len`, iteration, `front[0]`; a slice is a `Front`. Its measures take a `split`,
    "train" or "test"; the default, `common_split`, is "test" if every solution has test losses.

    Args:
        solutions: the first solutions.
        tasks: m names, which solutions without names get when they are added.

    Raises:
        ValueError: solutions with different numbers or names of tasks; a name that is empty, a
            number or there twice.

    Example:
        >>> front = Front(tasks=["segmentation", "depth"])
        >>> front.add(Solution(method="a", train_losses=[1.0, 3.0]))
        >>> front.add(Solution(method="b", train_losses=[2.0, 4.0]))
        >>> front
        Front: 2 solutions, 2 tasks, training losses
           method  preference  segmentation  depth
        0  a       any                    1      3
        1  b       any                    2      4
        >>> [s.method for s in front.non_dominated()]
        ['a']
    """

    def __init__(
        self, solutions: Iterable[Solution] = (), *, tasks: Sequence[str] | None = None
    ) -> None:
        """See the class."""
        self._solutions: list[Solution] = []
        self._tasks = None if tasks is None else check_tasks(tasks)
        for solution in solutions:
            self.add(solution)

    def add(self, solution: Solution) -> None:
        """Append one solution.

        Raises:
            TypeError: not a `Solution`.
            ValueError: another number of tasks, or other names, than the solutions before it.

        Example:
            >>> front = Front([Solution(method="a", train_losses=[1.0, 3.0])])
            >>> front.add(Solution(method="b", train_losses=[2.0, 1.0]))
            >>> len(front)
            2
        """
        self._add(solution, f"solution {len(self)}")

    def _add(self, solution: Solution, source: str) -> None:
        """Append one solution; errors name its `source`."""
        if not isinstance(solution, Solution):
            raise TypeError(f"solution: expected a Solution, got {type(solution).__name__}")
        if self._tasks is not None and solution.tasks is None:
            solution = replace(solution, tasks=check_tasks(self._tasks, solution.num_tasks))
        if self._solutions and solution.num_tasks != self[0].num_tasks:
            raise ValueError(
                f"{source} has {solution.num_tasks} tasks, those before it {self[0].num_tasks}"
            )
        names = self._tasks or (self[0].tasks if self else solution.tasks)
        if solution.tasks != names:
            raise ValueError(
                f"{source} has tasks {_list(solution.tasks)}, those before it "
                f"{_list(names)}; Front(solutions, tasks=...) names those without"
            )
        self._solutions.append(solution)

    @classmethod
    def merge(cls, fronts: Iterable["Front"]) -> Self:
        """Join the solutions of several fronts, in order.

        A solution that is equal to an earlier one in every field is a copy and is left out. Two
        runs of one method and preference that differ in any number are two solutions, and both
        stay.

        Raises:
            ValueError: solutions with other tasks than those before; names the front.

        Example:
            >>> front = Front([Solution(method="a", train_losses=[1.0, 1.0])])
            >>> len(Front.merge([front, front]))
            1
        """
        merged = cls()
        seen = set()
        for index, front in enumerate(fronts):
            for s in front:
                losses = (s.train_losses, s.test_losses, s.preference, s.tasks)
                identity = (s.method, *losses, frozenset(s.metrics.items()), s.checkpoint)
                if identity in seen:
                    continue
                seen.add(identity)
                merged._add(s, f"fronts[{index}]")
        return merged

    def __len__(self) -> int:
        """Return the number of solutions."""
        return len(self._solutions)

    def __iter__(self) -> Iterator[Solution]:
        """Iterate over the solutions in order."""
        return iter(self._solutions)

    def __getitem__(self, index: Any) -> Any:
        """Return one solution, or a `Front` for a slice."""
        found = self._solutions[index]
        return Front(found) if isinstance(index, slice) else found

    def __eq__(self, other: object) -> bool:
        """Tell whether the solutions are equal and in the same order."""
        return isinstance(other, Front) and self._solutions == other._solutions

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        """Show a table of the solutions; the middle of a long front is left out."""
        rows = aligned(solution_rows(self), texts=(1, 2)) if self else []
        return "\n".join([self._caption(), *rows])

    def compare(
        self, baseline: str = "linear", *, split: DataSplit | None = None
    ) -> comparison.Comparison:
        """Set the solutions of other methods beside the baseline's at the same preference.

        For each, the angle to its ray, the largest relative loss max_j r_j l_j and the mean loss,
        and those of the baseline. :func:`pyfront.sweep` trains linear weights with ``linear=True``.

        Args:
            baseline: the method to compare with.
            split: "train", "test" or, by default, `common_split`.

        Returns:
            One row per solution of another method whose preference the baseline has too, in order;
            its `repr` is a table. Two preferences are the same where their rays are. Where the
            baseline has several solutions at a preference, the mean of their figures counts.

        Raises:
            ValueError: no solution of the baseline has a preference, or one without losses on the
                split.

        Example:
            >>> r = [0.5, 0.5]
            >>> front = Front([
            ...     Solution(method="feedback", preference=r, train_losses=[0.5, 0.5]),
            ...     Solution(method="linear", preference=r, train_losses=[0.25, 0.75]),
            ... ])
            >>> front.compare()
            Beside linear: 1 solution, training losses; worst r·l below at 1
            method    preference      angle  linear  worst r·l  linear  mean loss  linear
            feedback  (0.500, 0.500)  0.00°  26.57°       0.25   0.375        0.5     0.5
        """
        return comparison.compare(self, baseline, split)

    def to_pandas(self) -> "DataFrame":
        """Return a table with one row per solution, in order.

        Columns: ``method``, ``checkpoint``, then ``preference/0`` …, ``train_loss/0`` …,
        ``test_loss/0`` …, and ``metric/NAME``, those that any solution has; what a solution does
        not have is missing there. Tasks with names have them in place of the numbers:
        ``train_loss/depth``.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> list(Front([Solution(method="a", train_losses=[1.0, 2.0])]).to_pandas())
            ['method', 'checkpoint', 'train_loss/0', 'train_loss/1']
        """
        return front_files.to_table(self)

    @classmethod
    def from_pandas(cls, table: "DataFrame") -> Self:
        """Read a table that `to_pandas` made; rows may have been left out or reordered.

        Raises:
            TypeError: not a `DataFrame`.
            ValueError: a column that `to_pandas` does not write, a value that is missing or is not
                a finite number; names the row and the column.
            ImportError: pandas is not installed.

        Example:
            >>> front = Front([Solution(method="a", train_losses=[1.0, 3.0])])
            >>> Front.from_pandas(front.to_pandas()) == front
            True
        """
        return cls(front_files.read_table(table))

    def save(self, path: str | PathLike[str]) -> None:
        """Write the front as JSON, all or nothing: a file of that name is replaced in one step.

        Args:
            path: of the file; its folder exists.

        Raises:
            OSError: the place cannot be written.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> front = Front([Solution(method="a", train_losses=[1.0, 3.0])])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     front.save(Path(folder) / "front.json")
            ...     Front.load(Path(folder) / "front.json") == front
            True
        """
        front_files.write_json(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read a front that `save` wrote; the numbers come back bit for bit.

        Args:
            path: of the file.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not JSON, not a front, or of a version that is not known here; names the
                file and, where there is one, the solution and the field.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> front = Front([Solution(method="a", train_losses=[1.0, 3.0])])
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     front.save(Path(folder) / "front.json")
            ...     Front.load(Path(folder) / "front.json") == front
            True
        """
        solutions = front_files.read_json(path)
        try:
            return cls(solutions)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _list(tasks: Sequence[str] | None) -> str:
    return "without names" if tasks is None else ", ".join(tasks)
