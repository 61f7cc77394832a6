"""Constraints by feedback, on plain numbers: which weights keep losses below their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray, number
from pyfront.control.gains import check_settings
from pyfront.control.run import Decision, State, averaged, recalled
from pyfront.control.suggestion import remembered

__all__ = ["ConstraintRule", "Settings", "constraint_rule"]

LARGEST_VIOLATION = 3.0  # of v
NOISE = 5.0  # σ that count as a violation of 1
SPREAD_KEPT = 0.98  # of σ² in a decision
LARGEST_INTEGRAL = float(np.log1p(1e4))  # a multiplier of 10⁴ leaves the objective nothing
TOLERANCE = 0.05  # of v: a bound that is missed by 5% of its unit
LEAST_SHARE = 0.01  # of the objective in the weights; below it the bounds have all there is
PATIENCE = 100  # decisions in a row before the status says so


@dataclass(frozen=True)
class ConstraintRule:
    """A proportional-integral rule from losses to multipliers; it keeps no state of its own.

        l̄ = running average of l          v = (l̄ − b) / max(u, 5σ), clipped to ±3
        s ← s + i v, 0 ≤ s ≤ log 10⁴      integral part, starts at 0
        λ = exp(max(s + k v, 0)) − 1
        w = (a + (L / u) λ) / (Σ a + Σ λ)

    with L = |Σ a_j l_j| at the first decision and σ the running deviation of l from l̄: where a loss
    is noisy, or swings, the gains fall. Near 0 the multipliers are additive, so that a bound that
    holds with room to spare costs nothing (λ = 0 exactly) and nothing winds up; large ones are
    multiplicative, so that their scale need not be known.

    Args:
        objective: a, [m], entries ≥ 0, some > 0.
        bounds: b, [m]; infinite where a task has none.
        unit: u, [m], entries > 0.
        proportional: k ≥ 0.
        integral: i ≥ 0.
        averaging: β in [0, 1).

    Raises:
        ValueError, TypeError: a setting out of its range; it is named.

    Example:
        >>> rule = ConstraintRule(
        ...     objective=np.array([1.0, 0.0]),
        ...     bounds=np.array([np.inf, 0.5]),
        ...     unit=np.array([1.0, 0.5]),
        ...     proportional=1.0, integral=0.01, averaging=0.0,
        ... )
        >>> decision, state = rule.decide(np.array([1.0, 0.4]), {})
        >>> decision.weights.tolist()  # the bound holds: it costs nothing
        [1.0, 0.0]
    """

    objective: FloatArray
    bounds: FloatArray
    unit: FloatArray
    proportional: float
    integral: float
    averaging: float

    def __post_init__(self) -> None:
        check_settings(self.proportional, self.integral, self.averaging)

    def wide(self, count: int) -> ConstraintRule:
        """Return the same rule for more tasks: the others have neither objective nor bound.

        Args:
            count: how many tasks, at least as many as now.

        Example:
            >>> rule = ConstraintRule(
            ...     objective=np.array([1.0, 0.0]),
            ...     bounds=np.array([np.inf, 0.5]),
            ...     unit=np.array([1.0, 0.5]),
            ...     proportional=1.0, integral=0.01, averaging=0.0,
            ... )
            >>> rule.wide(3).bounds.tolist()
            [inf, 0.5, inf]
        """
        more = count - self.bounds.size
        return replace(
            self,
            objective=np.append(self.objective, np.zeros(more)),
            bounds=np.append(self.bounds, np.full(more, np.inf)),
            unit=np.append(self.unit, np.ones(more)),
        )

    def decide(
        self,
        losses: FloatArray,
        state: State,
        *,
        rate: float = 0.0,
        present: BoolArray | None = None,
    ) -> tuple[Decision, dict[str, Any]]:
        """Return the weights of a step, and the entries of the state that change.

        Args:
            losses: l, [m], of any sign.
            state: the entries of the decision before; empty at the first.
            rate: the learning rate, ≥ 0, for the suggestion of constant weights; 0 without one.
            present: [m], False where a task has no data now: its weight is 0 and its state kept.

        Example:
            >>> rule = ConstraintRule(
            ...     objective=np.array([1.0, 0.0]),
            ...     bounds=np.array([np.inf, 0.5]),
            ...     unit=np.array([1.0, 0.5]),
            ...     proportional=1.0, integral=0.01, averaging=0.0,
            ... )
            >>> decision, state = rule.decide(np.array([1.0, 1.0]), {})
            >>> bool(decision.weights[1] > 0.0), decision.status  # the bound is missed
            (True, 'ok')
            >>> decision, state = rule.decide(np.array([1.0, 0.8]), state)
        """
        here: BoolArray = np.ones(losses.size, dtype=bool) if present is None else present
        mean, changed = averaged(losses, self.averaging, state, here)
        scale = float(state.get("scale") or abs(self.objective @ np.where(here, losses, 0.0)))
        bounded = here & np.isfinite(self.bounds)
        spread = self._spread(losses, state, here)
        v = np.zeros_like(losses)
        unit = np.maximum(self.unit, NOISE * np.sqrt(spread))
        v[bounded] = ((mean - self.bounds) / unit)[bounded]
        v = np.clip(v, -LARGEST_VIOLATION, LARGEST_VIOLATION)
        s = recalled(state, "integral", np.zeros_like(losses))
        s = np.clip(s + self.integral * v, 0.0, LARGEST_INTEGRAL)
        exponent = np.where(bounded, s + self.proportional * v, 0.0)
        multipliers = np.expm1(np.clip(exponent, 0.0, LARGEST_INTEGRAL))
        objective = np.where(here, self.objective, 0.0)
        total = float(objective.sum() + multipliers.sum()) or 1.0
        starved = bool((v > TOLERANCE).any()) and objective.sum() < LEAST_SHARE * total
        missed = int(state.get("infeasible", 0))
        if (here | ((self.objective == 0.0) & np.isinf(self.bounds))).all():  # else nothing tells
            missed = missed + 1 if starved else 0
        changed |= {
            "integral": s.tolist(),
            "scale": scale,
            "spread": spread.tolist(),
            "infeasible": missed,
        }
        weights = (objective + (scale or 1.0) / self.unit * multipliers) / total
        changed["largest_rate"] = max(float(state.get("largest_rate", 0.0)), rate)
        changed |= remembered(state, mean, weights, present=here, rate=rate, geometric=False)
        return Decision(weights, feasibility(changed)), changed

    def _spread(self, losses: FloatArray, state: State, here: BoolArray) -> FloatArray:
        """Return σ² ← 0.98 σ² + 0.02 (l − l̄)² of the average before; 0 at first."""
        nothing = np.zeros_like(here)
        before, _ = averaged(losses, self.averaging, state, nothing)
        known = here & (recalled(state, "counts", np.zeros_like(losses)) > 0)
        spread = recalled(state, "spread", np.zeros_like(losses))
        kept = SPREAD_KEPT * spread + (1.0 - SPREAD_KEPT) * (losses - before) ** 2
        return np.where(known, kept, spread)


def feasibility(state: State) -> str:
    """Return the status by the decisions so far."""
    return "infeasible" if state.get("infeasible", 0) >= PATIENCE else "ok"


class Settings(NamedTuple):
    """k, i and β."""

    proportional: float
    integral: float
    averaging: float


def constraint_rule(
    count: int,
    objective: Mapping[int, float],
    bounds: Mapping[int, float],
    unit: Mapping[int, float],
    settings: Settings,
) -> ConstraintRule:
    """Return the rule for entries by position; a ``ValueError`` names a bad one."""
    a, b, u = np.zeros(count), np.full(count, np.inf), np.ones(count)
    for task, value in objective.items():
        a[task] = number(f"objective[{task}]", value, above=0.0)
    for task, value in bounds.items():
        b[task] = number(f"bounds[{task}]", value)
        u[task] = abs(b[task])
    for task, value in unit.items():
        if task not in bounds:
            raise ValueError(f"unit[{task}]: this task has no bound")
        u[task] = number(f"unit[{task}]", value, above=0.0)
    if not a.any() or not bounds:
        raise ValueError("objective, bounds: expected at least one task in each")
    if not u.all():
        task = int(np.flatnonzero(u == 0.0)[0])
        raise ValueError(f"unit[{task}]: a bound of 0 needs one, in which its violations count")
    return ConstraintRule(
        a,
        b,
        u,
        *settings,
    )
