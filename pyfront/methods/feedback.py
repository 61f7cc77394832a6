"""The preference by feedback: a proportional-integral controller on the losses."""

from __future__ import annotations

from typing import ClassVar, Literal, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import BoolArray, FloatArray, VectorLike, VectorsLike
from pyfront._utils.loss_space import as_preferences
from pyfront.control import Decision, PreferenceRule, Suggestion
from pyfront.control.gains import largest_rate
from pyfront.control.preference import reach
from pyfront.control.suggestion import suggestion
from pyfront.functional import non_uniformity
from pyfront.methods._units import Units
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs, require_one_each
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import CommonOptions, Option, at_least, number_in, one_of
from pyfront.optimizer.preference import Domain
from pyfront.optimizer.presence import Presence, rarity
from pyfront.report import Report

__all__ = ["PreferenceFeedback"]


class PreferenceFeedback(MultiTaskOptimizer):
    """Find the point l ∝ 1/r by feedback from the losses: one backward pass, no task gradients.

    A proportional-integral controller holds the log error z of the losses from the ray at zero:

        l̄ = running average of l         z = log(m r∘l̄ / Σ r_j l̄_j), clipped to ±3
        q ← q exp(i f z) / Σ, q ≥ ρ r     integral part, starts at r
        w = (1 − ρ) q exp(k f z) / Σ + ρ r  proportional part

    At rest z = 0, and q holds the weights that keep it there. Without the integral part w is the
    direction of a (k + 1)-norm of r∘l, and the end point is near the ray only; without the
    proportional part points on concave fronts are not stable.

    The losses answer a change of the weights in proportion to the learning rate λ. With
    ``gains="scheduled"`` the gains therefore grow as it falls, at the same margin of stability:
    f = min(λ̂ / λ, 10), λ̂ the largest rate so far, and f = 1 while the rate is constant or rises, or
    was never above 0. λ is the largest ``lr`` over the groups; λ̂ is saved with the state.

    A preference that is given for one call is answered by the proportional part on that call's
    losses alone, w ∝ r exp(k z), with no floor: for a hypernetwork, where losses at different
    preferences have no average. It may be several, [K, m], for K m losses, those of the first
    preference first: each has its own z, its own weights that sum to 1/K, and the report has the
    mean of their non-uniformities. An entry may be 0 there, an end of the front: l ∝ 1/r has no
    finite loss for that task, and it is left out, as in the limit. Setting :attr:`preference`
    restarts the integral.

    Where a task has data in a share p of the steps only, its weight in them is divided by p, at
    most multiplied by ten: the mean step is then that of a task that always has data.

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        gains: ``"scheduled"``, or ``"fixed"``: f = 1.
        proportional: k ≥ 0. See :func:`pyfront.control.stable_gains`; 1 is a good start with SGD.
        integral: i ≥ 0. A larger one (0.03) is on the ray earlier, at higher losses.
        averaging: β in [0, 1): how much of l̄ is kept in a step. 0 with full batches: an average is
            a delay, and a delay makes the loop swing.
        floor: ρ in [0, 1): the least share of r in the weights, the price that a ray may cost: the
            end point is exact only where every weight there is above ρ r. Where it is not, a large
            floor keeps training the tasks that evenness would give up; a small one (1e-6) goes on
            towards the ray at any price. With many tasks of one network, and Adam, which undoes a
            small weight of a head, a ray may need weights of 1e-4 r.
        offset: o, [m] or None: decide on (l − o) / unit, for losses that can be negative.
        unit: u > 0, [m] or None: the units in which losses are compared.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Where the front does not meet the ray, some task stays below it (z < −0.05) with no weight left
    to take away. q stops at its floor then, so that it is back within log(1/ρ) / (i z) decisions
    when the ray comes into reach, and after 100 such decisions in a row the status is
    ``"unreachable"``, until one finds a weight to take away; ``reachable_preference`` of the report
    is then the r' ∝ 1/l̄ whose ray the losses are on, the nearest that was found. A decision is a
    step, or with ``every=k`` one step in k: 100 k steps, of which those between report what the
    last decision found.

    Raises:
        ValueError: a preference or unit that is not > 0 and finite, gains out of range, and at a
            step a loss that is negative, NaN or infinite; the task and the value are named.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = PreferenceFeedback(torch.optim.SGD([x], lr=0.1), preference=[0.5, 0.5])
        >>> [round(w, 3) for w in opt.step([x[0] ** 2, 3 * x[1] ** 2]).weights.tolist()]
        [0.059, 0.941]

    Source: ours. It is not EPO. Relatives: the exponentiated gradient of group DRO (Sagawa et al.
    2020) is the integral part; control of Lagrange multipliers (Stooke et al. 2020) has both.
    """

    needs: ClassVar[Needs] = "losses"
    preference_domain: ClassVar[Domain] = "positive"

    gains = Option[Literal["scheduled", "fixed"]](one_of("scheduled", "fixed"))
    proportional = Option[float](at_least(0.0))
    integral = Option[float](at_least(0.0))
    averaging = Option[float](number_in(lowest=0.0, below=1.0))
    floor = Option[float](number_in(lowest=0.0, below=1.0))

    def __init__(
        self,
        base: Base,
        preference: NamedVector,
        *,
        gains: Literal["scheduled", "fixed"] = "scheduled",
        proportional: float = 3.0,
        integral: float = 0.005,
        averaging: float = 0.9,
        floor: float = 0.05,
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.gains = gains
        self.proportional = proportional
        self.integral = integral
        self.averaging = averaging
        self.floor = floor
        self.units = Units(offset, unit)

    def check_losses(self, losses: FloatArray) -> None:
        """Require l ≥ 0 in the units of the comparison."""
        self.units.check(self._table(losses)[0], "feedback")

    def goal(self, given: VectorsLike | None, tasks: int) -> FloatArray | None:
        """Return the optimizer's own r, [m]; or that of one call as a table [K, m]."""
        if given is None:
            return super().goal(None, tasks)
        assert self.preference is not None
        rows = as_preferences(given, self.preference.numel())
        require_one_each(rows.size, tasks)
        return rows

    def makes_up_for_absence(self) -> bool:
        """Return True: the proportion is held over many steps."""
        return True

    def goal_among(self, goal: FloatArray, presence: Presence) -> FloatArray:
        """Return the whole goal: the rule knows of tasks without data."""
        return goal

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the controller's weights at (l − o) / u, divided by u."""
        assert preference is not None
        table, here = self._table(losses)
        compared = self.units.compared(table)
        r = preference / preference.sum(axis=-1, keepdims=True)
        if r.ndim == 2:
            r = np.where(here, r, 0.0)
            decision = Decision(self._once(compared, r))
        else:
            rate = largest_rate([group.get("lr") for group in self.param_groups])
            decision, changed = self.rule.decide(
                compared[0], r, self.memory, rate=rate, present=here[0]
            )
            self.memory.update(changed)
            r = np.where(here, r, 0.0)
        apart = [
            non_uniformity(row[q > 0.0], q[q > 0.0])
            for row, q in zip(compared, r, strict=True)
            if q.any()
        ]
        weights = self.units.of_losses(decision.weights).numpy().ravel()
        return Report(
            weights=torch.from_numpy(self.among(weights)),
            status=decision.status if compared.any() else "stationary",
            non_uniformity=sum(apart) / len(apart),
            reachable_preference=as_tensor(decision.reachable),
        )

    def _once(self, losses: FloatArray, r: FloatArray) -> FloatArray:
        """Return the weights of several preferences, [K, m], for one call; 0 where r is."""
        there = r.any(axis=1)
        weights = np.zeros_like(r)
        weights[there] = [
            self.rule.once(row, q) for row, q in zip(losses[there], r[there], strict=True)
        ]
        return weights / np.count_nonzero(there)

    def _table(self, losses: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Return the losses as a table [K, m] and which are there; the others have l' = 0."""
        assert self.preference is not None
        m, present = self.preference.numel(), self.present
        if present is None or present.complete:
            table = losses.reshape(-1, m)
            return table, np.ones_like(table, dtype=bool)
        nothing = np.zeros(m) if self.units.offset is None else self.units.offset
        table, here = np.tile(nothing, present.tasks // m), np.zeros(present.tasks, dtype=bool)
        table[present.places], here[present.places] = losses, True
        return table.reshape(-1, m), here.reshape(-1, m)

    def status_between_decisions(self) -> str:
        """Return the status by the decisions so far."""
        return reach(self.memory)[0]

    @property
    def rule(self) -> PreferenceRule:
        """The rule with the present options.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
            >>> opt = PreferenceFeedback(torch.optim.SGD([x], lr=0.1), [0.5, 0.5], proportional=1.0)
            >>> opt.rule.proportional
            1.0
        """
        return PreferenceRule(
            self.proportional, self.integral, self.averaging, self.floor, self.gains == "scheduled"
        )

    def suggest_weights(self) -> Suggestion:
        """Return constant weights that end where this run is, for a plain weighted sum.

        The geometric mean of the weights so far, in which step t with learning rate λ counts as
        t³ λ. On a convex front, and with the rates of this run, training with them from the start
        ends near the same losses; where the weights still moved much at the end, it ends nearer to
        the ray than linear weights and not on it.

        Returns:
            A :class:`~pyfront.control.Suggestion`: the weights, and whether the run has shown that
            they hold it there. They do not on a concave part of a front.

        Raises:
            ValueError: before the first step.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([0.2]))
            >>> opt = PreferenceFeedback(torch.optim.SGD([x], lr=0.1), preference=[0.8, 0.2])
            >>> for _ in range(1000):
            ...     report = opt.step([(x - 1).square().sum(), (x + 1).square().sum()])
            >>> weights, holds = opt.suggest_weights()
            >>> [round(w, 2) for w in weights.tolist()], holds  # l is least at x = w₁ − w₂ = 1/3
            ([0.67, 0.33], True)
        """
        found = suggestion(self.memory, self.averaging, geometric=True)
        weights = self.units.of_losses(found.weights).numpy()
        if (counts := self.memory.get("presence")) is not None:
            everyone = Presence(list(range(weights.size)), weights.size)
            weights = weights * rarity(counts, everyone)
        return found._replace(weights=weights)


def as_tensor(values: FloatArray | None) -> torch.Tensor | None:
    """Return the array as a tensor, or None."""
    return None if values is None else torch.from_numpy(values)
