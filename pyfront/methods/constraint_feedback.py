"""Constraints by feedback: one loss is minimised while others stay below their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray, integer
from pyfront.control import ConstraintRule, Suggestion
from pyfront.control.constraint import Settings, constraint_rule, feasibility
from pyfront.control.gains import largest_rate
from pyfront.control.suggestion import suggestion
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, at_least, number_in
from pyfront.optimizer.presence import Presence
from pyfront.report import Report

__all__ = ["ConstraintFeedback"]


class ConstraintFeedback(MultiTaskOptimizer):
    """Minimise one loss, or a weighted sum, subject to l_j ≤ b_j: one backward pass.

    A proportional-integral controller holds the violations v of the bounds at or below zero:

        l̄ = running average of l          v = (l̄ − b) / max(u, 5σ), clipped to ±3
        s ← s + i v, 0 ≤ s ≤ log 10⁴      integral part, starts at 0
        λ = exp(max(s + k v, 0)) − 1      multipliers
        w = (a + (L / u) λ) / (Σ a + Σ λ)

    with a the objective's weights, L = |Σ a_j l_j| at the first step, and σ the running deviation
    of a loss from its average: where it is noisy, or swings, the gains fall. At rest a bound holds
    with v = 0, or v < 0 and λ = 0: the conditions of Karush, Kuhn and Tucker. A bound that holds
    with room to spare costs nothing, and s stops at 0 meanwhile, so that it answers as soon as the
    bound is missed.

    Args:
        base: the optimizer that makes the step, or a list of them.
        objective: the position of the loss to minimise, or a weight > 0 for each of several.
        bounds: b_j for each bounded loss, by position; losses in neither have weight 0.
        proportional: k ≥ 0; it damps, and makes points on concave fronts stable.
        integral: i ≥ 0.
        averaging: β in [0, 1): how much of l̄ is kept in a step; 0 with full batches.
        unit: u_j > 0 for bounded losses, in which violations count: |b_j| by default. Needed where
            b_j = 0.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    A difference between groups, such as in fairness, is best bounded from both sides, as two losses
    d and −d: the absolute value of a difference in a batch is biased by its noise.

    Where a bound is missed by more than 5% of its unit and the bounds have had more than 99% of the
    weights for 100 decisions in a row, the status is ``"infeasible"``.

    Raises:
        ValueError, TypeError: an argument out of its range, and at a step a loss that is NaN or
            infinite, or fewer losses than the bounds name.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([0.0]))
        >>> base = torch.optim.SGD([x], lr=0.05)
        >>> opt = ConstraintFeedback(base, objective=0, bounds={1: 0.25}, averaging=0.0)
        >>> for _ in range(1000):
        ...     report = opt.step([(x - 1).square().sum(), x.square().sum()])
        >>> round(x.item(), 2), report.status  # x² ≤ 1/4
        (0.5, 'ok')

    Source: ours. Relatives: PI control of Lagrange multipliers (Stooke et al. 2020), νPI (Sohrabi
    et al. 2024), the augmented Lagrangian.
    """

    needs: ClassVar[Needs] = "losses"

    proportional = Option[float](at_least(0.0))
    integral = Option[float](at_least(0.0))
    averaging = Option[float](number_in(lowest=0.0, below=1.0))

    def __init__(
        self,
        base: Base,
        objective: int | Mapping[int, float] = 0,
        bounds: Mapping[int, float] | None = None,
        *,
        proportional: float = 0.3,
        integral: float = 0.003,
        averaging: float = 0.9,
        unit: Mapping[int, float] | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        if not bounds:
            raise ValueError("bounds: expected at least one, such as {1: 0.05}")
        goals = objective if isinstance(objective, Mapping) else {objective: 1.0}
        tasks = 1 + max(integer("objective or bounds", key, 0) for key in (*goals, *bounds))
        settings = Settings(proportional, integral, averaging)
        rule = constraint_rule(tasks, goals, bounds, unit or {}, settings)
        super().__init__(base, **common)
        self.proportional = proportional
        self.integral = integral
        self.averaging = averaging
        self._rule = rule

    @property
    def rule(self) -> ConstraintRule:
        """The rule with the present options.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([0.5]))
            >>> base = torch.optim.SGD([x], lr=0.05)
            >>> opt = ConstraintFeedback(base, objective=0, bounds={1: 1.0})
            >>> opt.rule.bounds.tolist()
            [inf, 1.0]
        """
        return replace(
            self._rule,
            proportional=self.proportional,
            integral=self.integral,
            averaging=self.averaging,
        )

    def check_tasks(self, tasks: int) -> None:
        """Require a loss for every task that the objective and the bounds name."""
        if tasks < self._rule.bounds.size:
            raise ValueError(
                f"losses: got {tasks}, but objective and bounds name task "
                f"{self._rule.bounds.size - 1}"
            )

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the objective's weights and the multipliers; no weights, no bound is missed."""
        present = self.present or Presence(list(range(losses.size)), losses.size)
        table, here = np.zeros(present.tasks), np.zeros(present.tasks, dtype=bool)
        table[present.places], here[present.places] = losses, True
        rate = largest_rate([group.get("lr") for group in self.param_groups])
        decision, changed = self.rule.wide(present.tasks).decide(
            table, self.memory, rate=rate, present=here
        )
        self.memory.update(changed)
        weights = decision.weights[present.places]
        status = decision.status if weights.any() else "feasible"  # the objective has no data
        return Report(weights=torch.from_numpy(weights), status=status)

    def status_between_decisions(self) -> str:
        """Return the status by the decisions so far."""
        return feasibility(self.memory)

    def suggest_weights(self) -> Suggestion:
        """Return constant weights that end where this run is, as of :class:`PreferenceFeedback`.

        The mean of the weights so far, in which step t with learning rate λ counts as t³ λ.

        Raises:
            ValueError: before the first step.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([0.5]))
            >>> base = torch.optim.SGD([x], lr=0.05)
            >>> opt = ConstraintFeedback(base, objective=0, bounds={1: 1.0})
            >>> for _ in range(2000):  # the first is least at x = 1; the second is ≤ 1 where x ≤ 0
            ...     report = opt.step([(x - 1).square().sum(), (x + 1).square().sum()])
            >>> weights, holds = opt.suggest_weights()
            >>> round(float(weights[0] / weights[1]), 1), holds
            (1.0, True)
        """
        return suggestion(self.memory, self.averaging, geometric=False)
