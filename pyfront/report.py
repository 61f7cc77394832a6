"""What a method decided at one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyfront._utils.tables import aligned, html_table, task_labels

__all__ = ["Report"]

MOST_TASKS = 20  # that are printed


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Report:
    """What a method saw and decided at one step.

    Args:
        losses: task losses as the user computed them, [m] float64, NaN for a task without data;
            None in what :mod:`pyfront.functional` returns.
        weights: w, [m] float64: the direction is Σ_j w_j g_j. After smoothing and scaling; 0 for a
            task without data.
        gramian: C, [m, m] float64, NaN in rows and columns of tasks without data; None as for
            losses and where the method needs losses only.
        phase: ``"balance"`` or ``"descent"`` (EPO); ``"feasibility"``, ``"descent"`` or
            ``"convergence"`` (Pareto MTL); None for methods without phases and on steps that keep
            earlier weights.
        status: ``"ok"``, or what to look at: ``"stationary"`` (all gradients or losses are
            zero, or constraints cancel), ``"feasible"``, ``"iteration_limit"``,
            ``"fallback_relaxed"``, ``"fallback_min_norm"``,
            ``"unreachable"`` (feedback: the front does not seem to meet the ray),
            ``"infeasible"`` (constraints by feedback: the bounds do not seem to hold together),
            ``"out_of_range"`` (gradients whose squared lengths are more than 200 decades apart: all
            weight is on the shortest), ``"nonfinite"`` (nothing was solved; the weights are NaN,
            but for fixed ones).
        gap: certificate of the min-norm solver, ≥ 0 and zero at the optimum.
        non_uniformity: μ of EPO, ≥ 0, zero exactly on the preference ray.
        reachable_preference: r' ∝ 1/l̄, [m] float64 of sum 1, of the ray on which the losses are,
            where the status is ``"unreachable"``; else None.
        tasks: the names of the m tasks, or None.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = pyfront.MGDA(torch.optim.SGD([x], lr=0.1))
        >>> report = opt.step({"segmentation": x[0] ** 2, "depth": 3 * x[1] ** 2})
        >>> report  # √C is the length of a task's gradient
        Report: ok
          task          loss  √C  weight
          segmentation     1   2     0.9
          depth            3   6     0.1
        >>> report.weights.round(decimals=12).tolist()
        [0.9, 0.1]
    """

    weights: Tensor
    losses: Tensor | None = None
    gramian: Tensor | None = None
    phase: str | None = None
    status: str = "ok"
    gap: float | None = None
    non_uniformity: float | None = None
    reachable_preference: Tensor | None = None
    tasks: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        """Show a table of the tasks; numbers on a device are waited for."""
        rows = aligned(self._rows(), texts=(0,))
        return "\n".join([self._caption(), *(f"  {row}" for row in rows)])

    def _repr_html_(self) -> str:
        return html_table(self._caption(), self._rows())

    def _caption(self) -> str:
        parts = [self.status, *filter(None, [self.phase])]
        if self.non_uniformity is not None:
            parts.append(f"non_uniformity {self.non_uniformity:.3g}")
        if self.gap is not None and self.status != "ok":  # then it is rounding
            parts.append(f"gap {self.gap:.3g}")
        if self.reachable_preference is not None:
            shares = ", ".join(f"{share:.3g}" for share in self.reachable_preference.tolist())
            parts.append(f"reachable_preference [{shares}]")
        return f"Report: {', '.join(parts)}"

    def _rows(self) -> list[list[str]]:
        weights = self.weights.tolist()
        columns = [["task", *task_labels(self.tasks, len(weights))]]
        if self.losses is not None:
            columns.append(["loss", *(f"{loss:.4g}" for loss in self.losses.tolist())])
        if self.gramian is not None:
            squares = self.gramian.diagonal().tolist()
            columns.append(["√C", *(f"{math.sqrt(square):.3g}" for square in squares)])
        columns.append(["weight", *(f"{weight:.3g}" for weight in weights)])
        rows = [list(row) for row in zip(*columns, strict=True)]
        more = [["…"] * len(columns)] if len(rows) > MOST_TASKS + 1 else []
        return rows[: MOST_TASKS + 1] + more

    def name_tasks(self, tasks: tuple[str, ...]) -> None:
        """Name the tasks of a report that nobody has seen yet.

        Example:
            >>> report = Report(torch.tensor([0.25, 0.75]))
            >>> report.name_tasks(("segmentation", "depth"))
            >>> report.tasks
            ('segmentation', 'depth')
        """
        object.__setattr__(self, "tasks", tasks)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values: lists, floats, strings, None.

        Example:
            >>> Report(torch.tensor([0.25, 0.75])).as_dict()["weights"]
            [0.25, 0.75]
        """
        return {
            name: value.tolist() if isinstance(value, torch.Tensor) else value
            for name in self.__dataclass_fields__
            for value in (getattr(self, name),)
        }

    def for_all(self, places: Sequence[int], tasks: int) -> Report:
        """Return the report of all tasks, from that of those that have data.

        Args:
            places: of the tasks that have data.
            tasks: m, the number of all.

        Example:
            >>> Report(torch.tensor([0.25, 0.75])).for_all([0, 2], 3).weights.tolist()
            [0.25, 0.0, 0.75]
        """
        if len(places) == tasks:
            return self
        return replace(self, **self._for_all(places, tasks))

    def _for_all(self, places: Sequence[int], tasks: int) -> dict[str, Any]:
        found: dict[str, Any] = {"weights": _placed(self.weights, places, tasks, 0.0)}
        if self.losses is not None:
            found["losses"] = _placed(self.losses, places, tasks, math.nan)
        if self.gramian is not None:
            columns = _placed(self.gramian, places, tasks, math.nan)
            found["gramian"] = _placed(columns.T, places, tasks, math.nan).T
        return found

    def metrics(self) -> dict[str, float]:
        """Return the numbers as a flat dict for a logger.

        Keys are ``"loss/0"``, ``"weight/0"``, …, or ``"loss/depth"`` for a task with a name. The
        loss of a task without data is left out.

        Example:
            >>> weights, losses = torch.tensor([0.25, 0.75]), torch.tensor([1.0, 2.0])
            >>> Report(weights, losses=losses, gap=0.0).metrics()
            {'loss/0': 1.0, 'loss/1': 2.0, 'weight/0': 0.25, 'weight/1': 0.75, 'gap': 0.0}
        """
        weights = self.weights.tolist()
        names = range(len(weights)) if self.tasks is None else self.tasks
        flat: dict[str, float] = {}
        if self.losses is not None:
            there = zip(names, self.losses.tolist(), weights, strict=True)
            flat = {
                f"loss/{task}": loss
                for task, loss, weight in there
                if not (math.isnan(loss) and weight == 0.0)
            }
        flat |= {f"weight/{task}": weight for task, weight in zip(names, weights, strict=True)}
        for name in ("gap", "non_uniformity"):
            value = getattr(self, name)
            if value is not None:
                flat[name] = float(value)
        return flat


def _placed(values: Tensor, places: Sequence[int], tasks: int, other: float) -> Tensor:
    """Return rows at their places among so many, and ``other`` in the rest; waits for no device."""
    rest = torch.full_like(values[:1], other)
    pieces = [rest] * tasks
    for row, place in enumerate(places):
        pieces[place] = values[row : row + 1]
    return torch.cat(pieces)
