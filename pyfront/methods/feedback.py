"""The preference by feedback: a proportional-integral controller on the losses."""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray, VectorLike, VectorsLike, number
from pyfront.functional import non_uniformity
from pyfront.methods._dual import tilted
from pyfront.methods._units import Units
from pyfront.optimizer.method import Domain, Needs, require_one_each
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, at_least, number_in
from pyfront.preferences import as_preferences
from pyfront.report import Report

__all__ = ["Gains", "PreferenceFeedback", "stable_gains"]

LARGEST_ERROR = 3.0  # of z: beyond it the loss is e³ times what the preference asks for
TOLERANCE = 0.05  # of z: 5% below the ray
PATIENCE = 100  # decisions in a row without reach before the status says so
SMALLEST = 1e-12  # share of r in q where floor is 0


class Gains(NamedTuple):
    """Of a controller."""

    proportional: float
    integral: float


def stable_gains(rate: float, *, averaging: float = 0.9, momentum: float = 0.0) -> Gains:
    """The largest gains with which the loop of :class:`PreferenceFeedback` settles without a swing.

    A log error z moves by −rate (k z + s) a step and s by i z, seen T steps late, T = 1 + β/(1−β) +
    μ/(1−μ) for averaging β and momentum μ (of Adam: its first beta). The loop's bandwidth k·rate
    times the delay T must stay below a radian; half of that leaves a margin, k = 1 / (2 rate T).
    s² + k rate s + rate i has real roots for i ≤ k² rate / 4.

    Args:
        rate: the relative change that one step makes to a loss that has all the weight, > 0: for
            SGD, lr ‖g_j‖² / l_j, for any optimizer |Δl_j| / l_j; the largest over the tasks. It is
            proportional to the learning rate.
        averaging: β in [0, 1).
        momentum: μ in [0, 1).

    Returns:
        Gains(proportional, integral).

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> stable_gains(0.01, averaging=0.9).proportional
        5.0
    """
    rate = number("rate", rate, above=0.0)
    averaging = number("averaging", averaging, lowest=0.0, below=1.0)
    momentum = number("momentum", momentum, lowest=0.0, below=1.0)
    delay = 1.0 + averaging / (1.0 - averaging) + momentum / (1.0 - momentum)
    k = round(1.0 / (2.0 * rate * delay), 12)
    return Gains(k, k * k * rate / 4.0)


class PreferenceFeedback(MultiTaskOptimizer):
    """Finds the point l ∝ 1/r by feedback from the losses: one backward pass, no task gradients.

    A proportional-integral controller holds the log error z of the losses from the ray at zero:

        l̄ = running average of l         z = log(m r∘l̄ / Σ r_j l̄_j), clipped to ±3
        q ← q exp(i z) / Σ, q ≥ ρ r       integral part, starts at r
        w = (1 − ρ) q exp(k z) / Σ + ρ r  proportional part

    At rest z = 0, so the end point is exact, and q holds the weights that keep it there. Without
    the integral part w is the direction of a (k + 1)-norm of r∘l, and the end point is near the ray
    only; without the proportional part points on concave fronts are not stable.

    A preference that is given for one call is answered by the proportional part on that call's
    losses alone, w ∝ r exp(k z): for a hypernetwork, where losses at different preferences have no
    average. It may be several, [K, m], for K m losses, those of the first preference first: each
    has its own z, its own weights that sum to 1/K, and the report has the mean of their
    non-uniformities. An entry may be 0 there, an end of the front: l ∝ 1/r has no finite loss for
    that task, and it is left out, as in the limit. Setting :attr:`preference` restarts the
    integral.

    Args:
        base: the optimizer that makes the step.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        proportional: k ≥ 0. See :func:`stable_gains`; 1 is a good start with SGD.
        integral: i ≥ 0. A smaller one (0.01) gives up evenness early in training for lower losses.
            The learning rate does not change it: where the rate decays, fewer steps are left in
            which the loop could swing than in which the weights must still follow the losses.
        averaging: β in [0, 1): how much of l̄ is kept in a step. 0 with full batches: an average is
            a delay, and a delay makes the loop swing.
        floor: ρ in [0, 1): the least share of r in the weights. The end point is exact only where
            every weight there is above ρ r, and with many tasks of one network, and Adam, which
            undoes a small weight of a head, weights of 1e-4 r are ordinary. A large floor (0.1)
            keeps training what an unreachable ray gives up.
        offset: o, [m] or None: decide on (l − o) / unit, for losses that can be negative.
        unit: u > 0, [m] or None: the units in which losses are compared.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Where the front does not meet the ray, some task stays below it (z < −0.05) with no weight left
    to take away. q stops at its floor then, so that it is back within log(1/ρ) / (i z) decisions
    when the ray comes into reach, and after 100 such decisions in a row the status is
    ``"unreachable"``, until one finds a weight to take away. A decision is a step, or with
    ``every=k`` one step in k: 100 k steps, of which those between report what the last decision
    found. The end is a point of the front near the ray, where the tasks below it have been given
    up.

    Raises:
        ValueError: a preference or unit that is not > 0 and finite, gains out of range, and at a
            step a loss that is negative, NaN or infinite; the task and the value are named.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = PreferenceFeedback(torch.optim.SGD([x], lr=0.1), preference=[0.5, 0.5])
        >>> [round(w, 3) for w in opt.step([x[0] ** 2, 3 * x[1] ** 2]).weights.tolist()]
        [0.035, 0.965]

    Source: ours. It is not EPO. Relatives: the exponentiated gradient of group DRO (Sagawa et al.
    2020) is the integral part; control of Lagrange multipliers (Stooke et al. 2020) has both.
    """

    needs: ClassVar[Needs] = "losses"
    preference_domain: ClassVar[Domain] = "positive"

    proportional = Option[float](at_least(0.0))
    integral = Option[float](at_least(0.0))
    averaging = Option[float](number_in(lowest=0.0, below=1.0))
    floor = Option[float](number_in(lowest=0.0, below=1.0))

    def __init__(
        self,
        base: torch.optim.Optimizer,
        preference: VectorLike,
        *,
        proportional: float = 3.0,
        integral: float = 0.03,
        averaging: float = 0.9,
        floor: float = 1e-6,
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.proportional = proportional
        self.integral = integral
        self.averaging = averaging
        self.floor = floor
        self.units = Units(offset, unit)

    def check_losses(self, losses: FloatArray) -> None:
        """Feedback is defined for l ≥ 0."""
        assert self.preference is not None
        self.units.check(losses.reshape(-1, self.preference.numel()), "feedback")

    def goal(self, given: VectorsLike | None, tasks: int) -> FloatArray | None:
        """Return the optimizer's own r, [m]; or that of one call as a table [K, m]."""
        if given is None:
            return super().goal(None, tasks)
        assert self.preference is not None
        rows = as_preferences(given, self.preference.numel())
        require_one_each(rows.size, tasks)
        return rows

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """The controller's weights at (l − o) / u, divided by u."""
        assert preference is not None
        r = preference / preference.sum(axis=-1, keepdims=True)
        compared = self.units.compared(losses.reshape(-1, r.shape[-1]))
        if r.ndim == 2:
            rows = [
                tilted(q, self.proportional * log_errors(row, q))
                for row, q in zip(compared, r, strict=True)
            ]
            weights, status = np.stack(rows), "ok"
        else:
            weights, status = self._controlled(compared[0], r)
            weights, r = weights[None], r[None]
        weights = ((1.0 - self.floor) * weights + self.floor * r) / len(r)
        if not compared.any():
            status = "stationary"
        apart = [
            non_uniformity(row[q > 0.0], q[q > 0.0]) for row, q in zip(compared, r, strict=True)
        ]
        return Report(
            weights=self.units.of_losses(weights).ravel(),
            status=status,
            non_uniformity=sum(apart) / len(apart),
        )

    def _controlled(self, losses: FloatArray, r: FloatArray) -> tuple[FloatArray, str]:
        """q exp(k z) / Σ and the status; q and l̄ go on."""
        z = log_errors(self._averaged(losses), r)
        q = self.recalled("integral", r) if self.memory.get("towards") == r.tolist() else r
        q = tilted(q, self.integral * z)
        lowest = max(self.floor, SMALLEST) * r
        given_up = bool(((q <= lowest) & (z < -TOLERANCE)).any())
        q = np.maximum(q, lowest)
        out = int(self.memory.get("out_of_reach", 0)) + 1 if given_up else 0
        self.memory.update(integral=(q / q.sum()).tolist(), towards=r.tolist(), out_of_reach=out)
        return tilted(q, self.proportional * z), self.status_between_decisions()

    def status_between_decisions(self) -> str:
        """Return the status by the decisions so far."""
        return "unreachable" if self.memory.get("out_of_reach", 0) >= PATIENCE else "ok"

    def _averaged(self, losses: FloatArray) -> FloatArray:
        """l̄, the running average with the bias of its start at 0 removed."""
        mean = self.recalled("mean_losses", np.zeros_like(losses))
        count = int(self.memory.get("count", 0)) + 1
        mean = self.averaging * mean + (1.0 - self.averaging) * losses
        self.memory.update(mean_losses=mean.tolist(), count=count)
        return mean / (1.0 - self.averaging**count)


def log_errors(losses: FloatArray, r: FloatArray) -> FloatArray:
    """z = log(m r∘l / Σ r_j l_j) within ±3 for the m tasks with r > 0; zeros if all losses are."""
    total = r @ losses
    if total == 0.0:
        return np.zeros_like(r)
    with np.errstate(divide="ignore"):
        z = np.log(np.count_nonzero(r) * r * losses / total)
    return np.clip(z, -LARGEST_ERROR, LARGEST_ERROR)
