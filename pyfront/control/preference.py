"""The preference by feedback, on plain numbers: which weights bring the losses to l ∝ 1/r."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray, boolean, number
from pyfront._utils.simplex import tilted
from pyfront.control.gains import check_settings, growth
from pyfront.control.run import Decision, State, averaged, recalled
from pyfront.control.suggestion import remembered

__all__ = ["PreferenceRule", "log_errors"]

LARGEST_ERROR = 3.0  # of z: beyond it the loss is e³ times what the preference asks for
TOLERANCE = 0.05  # of z: 5% below the ray
PATIENCE = 100  # decisions in a row in which a task was given up, before the status says so
SMALLEST = 1e-12  # share of r in q where the floor is 0


@dataclass(frozen=True)
class PreferenceRule:
    """A proportional-integral rule from losses to weights; it keeps no state of its own.

        l̄ = running average of l         z = log(m r∘l̄ / Σ r_j l̄_j), clipped to ±3
        q ← q exp(i f z) / Σ, q ≥ ρ r     integral part, starts at r
        w = (1 − ρ) q exp(k f z) / Σ + ρ r

    with f of :func:`~pyfront.control.gains.growth` where ``scheduled``, else 1.

    Args:
        proportional: k ≥ 0.
        integral: i ≥ 0.
        averaging: β in [0, 1).
        floor: ρ in [0, 1).
        scheduled: whether the gains follow the learning rate.

    Raises:
        ValueError, TypeError: a setting out of its range; it is named.

    Example:
        >>> rule = PreferenceRule(3.0, 0.005, averaging=0.9, floor=0.05, scheduled=True)
        >>> decision, state = rule.decide(np.array([0.5, 0.5]), np.array([0.5, 0.5]), {})
        >>> decision.weights.tolist()  # on the ray
        [0.5, 0.5]
    """

    proportional: float
    integral: float
    averaging: float
    floor: float
    scheduled: bool

    def __post_init__(self) -> None:
        check_settings(self.proportional, self.integral, self.averaging)
        number("floor", self.floor, lowest=0.0, below=1.0)
        boolean("scheduled", self.scheduled)

    def once(self, losses: FloatArray, r: FloatArray) -> FloatArray:
        """Return the proportional part alone, without memory or floor: w ∝ r exp(k z) at l.

        Args:
            losses: l ≥ 0, [m].
            r: [m], entries ≥ 0, some > 0.

        Example:
            >>> rule = PreferenceRule(3.0, 0.005, averaging=0.9, floor=0.05, scheduled=True)
            >>> rule.once(np.array([0.2, 0.1]), np.array([0.5, 0.5])).round(3).tolist()  # 2³ to 1
            [0.889, 0.111]
        """
        return tilted(r, self.proportional * log_errors(losses, r))

    def decide(
        self,
        losses: FloatArray,
        r: FloatArray,
        state: State,
        *,
        rate: float = 0.0,
        present: BoolArray | None = None,
    ) -> tuple[Decision, dict[str, Any]]:
        """Return the weights of a step, and the entries of the state that change.

        Args:
            losses: l ≥ 0, [m].
            r: [m], entries > 0, of sum 1.
            state: the entries of the decision before; empty at the first.
            rate: the learning rate, ≥ 0; 0 where there is none.
            present: [m], False where a task has no data now: its weight is 0 and its state kept.

        Example:
            >>> rule = PreferenceRule(3.0, 0.005, averaging=0.9, floor=0.05, scheduled=True)
            >>> r = np.array([0.5, 0.5])
            >>> decision, state = rule.decide(np.array([0.2, 0.1]), r, {})
            >>> decision, state = rule.decide(np.array([0.2, 0.1]), r, state)
            >>> decision.weights.round(2).tolist()
            [0.87, 0.13]
        """
        here: BoolArray = np.ones(r.size, dtype=bool) if present is None else present
        mean, changed = averaged(losses, self.averaging, state, here)
        largest = max(float(state.get("largest_rate", 0.0)), rate)
        f = growth(rate, largest) if self.scheduled else 1.0
        towards = r.tolist()
        known = state if state.get("towards") == towards else {}
        q = recalled(known, "integral", r)
        out = recalled(known, "out_of_reach", np.zeros_like(r))
        z = np.where(here, log_errors(np.where(here, mean, 0.0), np.where(here, r, 0.0)), 0.0)
        lowest = max(self.floor, SMALLEST) * r
        q = self._integrated(q, f * z, here, lowest)
        plain = tilted(np.where(here, q, 0.0), self.proportional * f * z)
        given_up = here & (z < -TOLERANCE) & ((q <= lowest) | (plain <= lowest))
        weights = self._floored(plain, r * here)
        changed |= {
            "integral": q.tolist(),
            "towards": towards,
            "out_of_reach": np.where(here, np.where(given_up, out + 1.0, 0.0), out).tolist(),
            "largest_rate": largest,
        }
        changed |= remembered(state, mean, weights, present=here, rate=rate, geometric=True)
        return Decision(weights, *reach(changed)), changed

    def _integrated(
        self, q: FloatArray, fz: FloatArray, here: BoolArray, lowest: FloatArray
    ) -> FloatArray:
        """Return q exp(i f z) ≥ the lowest, with the share of the tasks present kept."""
        moved = q.copy()
        part = q[here].sum() * tilted(q[here], self.integral * fz[here])
        part = np.maximum(part, lowest[here])
        moved[here] = part * ((1.0 if here.all() else q[here].sum()) / part.sum())
        return moved

    def _floored(self, weights: FloatArray, r: FloatArray) -> FloatArray:
        """Return (1 − ρ) w + ρ r over the tasks present."""
        floored: FloatArray = (1.0 - self.floor) * weights + self.floor * r / r.sum()
        return floored


def reach(state: State) -> tuple[str, FloatArray | None]:
    """Return the status so far and, out of reach, the proportion that was reached."""
    if max(state.get("out_of_reach", [0.0])) < PATIENCE:
        return "ok", None
    mean = np.array(state["mean_losses"])  # every task has been present: their bias is gone
    inverse = 1.0 / np.maximum(mean, np.finfo(np.float64).tiny)
    return "unreachable", inverse / inverse.sum()


def log_errors(losses: FloatArray, r: FloatArray) -> FloatArray:
    """Return z = log(m r∘l / Σ r_j l_j) within ±3 for the m tasks with r > 0, or zeros."""
    total = r @ losses
    if total == 0.0:
        return np.zeros_like(r)
    with np.errstate(divide="ignore"):
        z = np.log(np.count_nonzero(r) * r * losses / total)
    return np.clip(z, -LARGEST_ERROR, LARGEST_ERROR)
