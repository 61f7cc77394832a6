"""What a method decided at one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Report"]


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What a method saw and decided at one step.

    Args:
        losses: task losses as the user computed them, [m] float64; None in what
            :mod:`pyfront.functional` returns.
        weights: w, [m] float64: the direction is Σ_j w_j g_j. After smoothing and scaling.
        gramian: C, [m, m] float64, or None as for losses and where the method needs losses only.
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
        >>> pyfront.functional.epo_weights([1.0, 2.0], [[1, 0], [0, 1]], [0.5, 0.5]).phase
        'balance'
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

    def name_tasks(self, tasks: tuple[str, ...]) -> None:
        """Name the tasks of a report that nobody has seen yet."""
        object.__setattr__(self, "tasks", tasks)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values: lists, floats, strings, None."""
        return {
            name: value.tolist() if isinstance(value, torch.Tensor) else value
            for name in self.__dataclass_fields__
            for value in (getattr(self, name),)
        }

    def metrics(self) -> dict[str, float]:
        """Return the numbers as a flat dict for a logger.

        Keys are ``"loss/0"``, ``"weight/0"``, …, or ``"loss/depth"`` for a task with a name.
        """
        names = range(self.weights.numel()) if self.tasks is None else self.tasks
        flat: dict[str, float] = {}
        for name, values in (("loss", self.losses), ("weight", self.weights)):
            if values is not None:
                flat |= {
                    f"{name}/{task}": value
                    for task, value in zip(names, values.tolist(), strict=True)
                }
        for name in ("gap", "non_uniformity"):
            value = getattr(self, name)
            if value is not None:
                flat[name] = float(value)
        return flat
