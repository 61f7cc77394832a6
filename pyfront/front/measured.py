"""`MeasuredSolutions`: the measures of a `Front`, none of which changes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfront._utils.arguments import VectorLike, finite_numbers, require, vector
from pyfront._utils.loss_space import as_preference
from pyfront._utils.tables import html_table
from pyfront.front import measures
from pyfront.front.measures import Hypervolume
from pyfront.front.solution import SPLIT_WORDS, DataSplit, Solution
from pyfront.front.tables import count_of, solution_rows

__all__ = ["MeasuredSolutions"]


class MeasuredSolutions(Sequence[Solution], ABC):
    """A sequence of solutions of the same tasks, with its measures. `Front` is the public class.

    Every measure takes `split`, "train" or "test". By default it is `common_split`: "test" if every
    solution has test losses, otherwise "train".
    """

    @abstractmethod
    def __init__(self, solutions: Iterable[Solution] = ()) -> None:
        """Hold these solutions."""

    def by_method(self) -> dict[str, Self]:
        """Return the solutions of each method, the methods in the order of their first solution.

        Example:
            >>> from pyfront import Front
            >>> a = Solution(method="a", train_losses=[1.0, 3.0])
            >>> b = Solution(method="b", train_losses=[2.0, 4.0])
            >>> front = Front([a, b])
            >>> {name: len(part) for name, part in front.by_method().items()}
            {'a': 1, 'b': 1}
        """
        methods = dict.fromkeys(s.method for s in self)
        return {name: type(self)(s for s in self if s.method == name) for name in methods}

    @property
    def common_split(self) -> DataSplit:
        """The default of `split`: "test" if every solution has test losses, otherwise "train".

        Example:
            >>> from pyfront import Front
            >>> a = Solution(method="a", train_losses=[1.0, 3.0])
            >>> b = Solution(method="b", train_losses=[2.0, 4.0])
            >>> front = Front([a, b])
            >>> front.common_split  # without test losses
            'train'
        """
        return "train" if any(s.test_losses is None for s in self) else "test"

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the m tasks; "task 1", "task 2", … where the solutions have none.

        Example:
            >>> from pyfront import Front
            >>> a = Solution(method="a", train_losses=[1.0, 3.0])
            >>> b = Solution(method="b", train_losses=[2.0, 4.0])
            >>> front = Front([a, b])
            >>> front.tasks
            ('task 1', 'task 2')
        """
        if not self:
            return ()
        return tuple(self[0].tasks or (f"task {task + 1}" for task in range(self[0].num_tasks)))

    def losses(self, split: DataSplit | None = None) -> NDArray[np.float64]:
        """Return the losses of all solutions, [len, m] float64.

        Args:
            split: "train", "test" or, by default, `common_split`.

        Raises:
            ValueError: another split, or a solution without test losses; names its index.

        Example:
            >>> from pyfront import Front
            >>> a = Solution(method="a", train_losses=[1.0, 3.0])
            >>> b = Solution(method="b", train_losses=[2.0, 4.0])
            >>> front = Front([a, b])
            >>> front.losses().tolist()
            [[1.0, 3.0], [2.0, 4.0]]
        """
        split = self.common_split if split is None else split
        if split not in ("train", "test"):
            raise ValueError(f"split = {split!r}: expected 'train' or 'test'")
        rows = [s.losses(split) for s in self]
        for index, row in enumerate(rows):
            if row is None:
                raise ValueError(f"solution {index} has no {split} losses")
        tasks = self[0].num_tasks if self else 0
        return np.array(rows, dtype=np.float64).reshape(len(self), tasks)

    def metric(self, name: str) -> NDArray[np.float64]:
        """Return one metric of all solutions, [len] float64.

        Raises:
            ValueError: a solution that has no metric of this name; names it and those it has.

        Example:
            >>> from pyfront import Front
            >>> s = Solution(method="a", train_losses=[1.0], metrics={"accuracy": 0.5})
            >>> Front([s]).metric("accuracy").tolist()
            [0.5]
        """
        for index, s in enumerate(self):
            if name not in s.metrics:
                known = ", ".join(map(repr, s.metrics)) or "none"
                raise ValueError(f"solution {index} has no metric {name!r}; it has: {known}")
        return np.array([s.metrics[name] for s in self], dtype=np.float64)

    def non_dominated(self, split: DataSplit | None = None) -> Self:
        """Return the solutions that no other one dominates, in order; equal ones are all kept.

        k dominates i when l_k ≤ l_i in every task and l_k < l_i in at least one.

        Args:
            split: "train", "test" or, by default, `common_split`.

        Example:
            >>> from pyfront import Front
            >>> a = Solution(method="a", train_losses=[1.0, 3.0])
            >>> b = Solution(method="b", train_losses=[2.0, 4.0])
            >>> front = Front([a, b])
            >>> [s.method for s in front.non_dominated()]
            ['a']
        """
        kept = measures.non_dominated(self.losses(split))
        return type(self)(s for s, keep in zip(self, kept, strict=True) if keep)

    def reference_point(self, split: DataSplit | None = None) -> NDArray[np.float64]:
        """Return a reference point for `hypervolume`: a tenth beyond each task's worst loss, [m].

        Fronts are compared at one point: take it from all of them, ``Front.merge(fronts)``.

        Args:
            split: "train", "test" or, by default, `common_split`.

        Raises:
            ValueError: an empty front.

        Example:
            >>> from pyfront import Front
            >>> Front([Solution(method="a", train_losses=[1.0, 2.0])]).reference_point("train")
            array([1.1, 2.2])
        """
        self._require_solutions()
        return measures.reference_point(self.losses(split))

    def hypervolume(self, reference: ArrayLike, split: DataSplit | None = None) -> Hypervolume:
        """Return the volume of {z : l_k ≤ z ≤ reference for some solution k}; bigger is better.

        Args:
            reference: m finite numbers, none below a loss of any solution.
            split: "train", "test" or, by default, `common_split`.

        Returns:
            A float. It is exact unless that would take too long (many solutions and more than 6
            tasks or so): see ``.exact``; an approximation prints with "≈". Two hypervolumes with
            different ``.reference`` or ``.split`` cannot be compared.

        Raises:
            ValueError: an empty front, more than 31 tasks, a reference of the wrong shape or not
                finite, or a loss above it (leaving such a solution out silently would make fronts
                look alike that are not).
            ImportError: moocore is not installed.

        Example:
            >>> from pyfront import Front
            >>> Front([Solution(method="a", train_losses=[1.0, 1.0])]).hypervolume([3, 2], "train")
            2.0
        """
        self._require_solutions()
        corner = np.asarray(reference, dtype=np.float64)
        points = self.losses(split)
        if corner.shape != points.shape[1:]:
            raise ValueError(f"reference: shape {corner.shape}, expected {points.shape[1:]}")
        finite_numbers("reference", corner.tolist())
        for index, task in np.argwhere(points > corner):
            raise ValueError(
                f"reference[{task}] = {corner[task]:g} is below loss {task} of solution {index}, "
                f"{points[index, task]:g}"
            )
        return measures.hypervolume(points, corner, self.common_split if split is None else split)

    def igd_plus(
        self, target: MeasuredSolutions | ArrayLike, split: DataSplit | None = None
    ) -> float:
        """Measure how far the solutions are from covering a target front; less is better.

        IGD+ = mean over z in target of min over solutions l of ‖max(l − z, 0)‖₂. It is 0 when
        every point of the target is reached or dominated.

        Args:
            target: a `Front`, whose losses on the same split count, or points [k, m], for example
                of a front that is known in closed form.
            split: "train", "test" or, by default, `common_split`.

        Raises:
            ValueError: no solution, more than 31 tasks, or a target that is empty, not finite or of
                another number of tasks.
            ImportError: moocore is not installed.

        Example:
            >>> from pyfront import Front
            >>> front = Front([Solution(method="a", train_losses=[1.0, 1.0])])
            >>> front.igd_plus([[0.0, 1.0], [1.0, 0.5]], "train")
            0.75

        Source: Ishibuchi et al., Modified distance calculation in generational distance and
        inverted generational distance, 2015.
        """
        self._require_solutions()
        split = self.common_split if split is None else split
        losses = target.losses(split) if isinstance(target, MeasuredSolutions) else target
        points = np.asarray(losses, dtype=np.float64)
        tasks = self[0].num_tasks
        if points.ndim != 2 or len(points) == 0 or points.shape[1] != tasks:
            raise ValueError(f"target: shape {points.shape}, expected (k, {tasks}) with k ≥ 1")
        for index, row in enumerate(points):
            finite_numbers(f"target[{index}]", row.tolist())
        return measures.igd_plus(self.losses(split), points)

    def angles(self, split: DataSplit | None = None) -> NDArray[np.float64]:
        """Return the angle of each solution's losses to its preference's ray, [len] in degrees.

        The ray is l ∝ 1/r, where EPO is meant to end; NaN for a solution without a preference, 0
        where all losses are 0. If r_j = 0 for some tasks, the ray is the limit of equal small
        entries there: l is the same in these tasks and 0 in the others.

        Args:
            split: "train", "test" or, by default, `common_split`.

        Example:
            >>> from pyfront import Front
            >>> s = Solution(method="a", preference=[0.8, 0.2], train_losses=[1.0, 4.0])
            >>> Front([s]).angles("train").round(9).tolist()
            [0.0]
        """
        return measures.angles(self.losses(split), measures.rays(self._preferences()))

    def relative_losses(self, split: DataSplit | None = None) -> NDArray[np.float64]:
        """Return the relative losses r∘l of each solution, with r scaled to sum 1, [len, m].

        It is flat where the losses are in the proportion that was asked for; NaN for a solution
        without a preference.

        Args:
            split: "train", "test" or, by default, `common_split`.

        Example:
            >>> from pyfront import Front
            >>> s = Solution(method="a", preference=[4, 1], train_losses=[1.0, 4.0])
            >>> Front([s]).relative_losses("train").tolist()
            [[0.8, 0.8]]

        Source: Mahapatra and Rajan, EPO search, 2020, figure 8.
        """
        r = self._preferences()
        return np.asarray(r / r.sum(axis=1, keepdims=True) * self.losses(split))

    def choose(
        self,
        *,
        preference: VectorLike | None = None,
        weights: VectorLike | None = None,
        split: DataSplit | None = None,
    ) -> Solution:
        """Choose one of the non-dominated solutions; the first where several are equally good.

        With a preference, the solution whose losses make the smallest angle with the ray l ∝ 1/r;
        with weights, the one with the least Σ_j w_j l_j; without either, the knee. The knee scales
        the losses of every task to z from 0 (best) to 1 (worst), so the units of the losses do not
        matter. It is the solution farthest below the plane Σ_j z_j = 1 and, where none lies below
        it (a concave front), the one with the least max_j z_j, then the least Σ_j z_j. Solutions
        whose difference may be rounding are equally good.

        Args:
            preference: r, m numbers ≥ 0, one of them > 0.
            weights: w, the same.
            split: "train", "test" or, by default, `common_split`.

        Raises:
            ValueError: an empty front, both a preference and weights, or numbers that are not as
                above.

        Example:
            >>> from pyfront import Front
            >>> points = [[0, 1], [0.2, 0.3], [1, 0]]
            >>> front = Front(Solution(method="a", train_losses=p) for p in points)
            >>> front.choose().train_losses
            (0.2, 0.3)
            >>> front.choose(weights=[9, 1]).train_losses
            (0.0, 1.0)

        Source: Das, On characterizing the "knee" of the Pareto curve based on normal-boundary
        intersection, 1999, for the plane.
        """
        self._require_solutions()
        if preference is not None and weights is not None:
            raise ValueError("choose: takes a preference or weights, not both")
        best = self.non_dominated(split)
        points = best.losses(split)
        if preference is not None:
            r = as_preference(preference, positive=False, length=self[0].num_tasks)
            ray = measures.rays(r[None])
            index = measures.first_least(
                measures.angles(points, ray), measures.ROUNDING * r.size * 90.0
            )
        elif weights is not None:
            w = vector("weights", weights, self[0].num_tasks)
            require("weights", w, lowest=0.0)
            if not w.any():
                raise ValueError("weights: at least one entry must be > 0")
            size = (np.abs(points) @ w).max()
            index = measures.first_least(points @ w, measures.ROUNDING * w.size * size)
        else:
            index = measures.knee(points)
        return best[index]

    def _repr_html_(self) -> str:
        return html_table(self._caption(), solution_rows(self))

    def _caption(self) -> str:
        """Say how many solutions and tasks there are, and whose losses are shown."""
        tasks = "1 task" if len(self.tasks) == 1 else f"{len(self.tasks)} tasks"
        words = SPLIT_WORDS[self.common_split]
        return f"Front: {count_of(len(self))}, {tasks}, {words} losses" if self else "Front: empty"

    def _require_solutions(self) -> None:
        if not self:
            raise ValueError("front: holds no solution")

    def _preferences(self) -> NDArray[np.float64]:
        """Return r of all solutions, [len, m]; NaN for those without one."""
        tasks = self[0].num_tasks if self else 0
        rows = [s.preference or [np.nan] * tasks for s in self]
        return np.array(rows, dtype=np.float64).reshape(len(self), tasks)
