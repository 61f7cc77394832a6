"""Exact Pareto optimal search."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray, VectorLike, choice, number
from pyfront.backend.solvers import Descent, epo
from pyfront.methods._units import Units
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import CommonOptions, Option, one_of
from pyfront.optimizer.preference import Domain
from pyfront.report import Report

__all__ = ["EPO"]

LARGEST_EPSILON = 1e-4  # of the adaptive ε: the paper's own value


def _checked_epsilon(name: str, value: Any) -> float | Literal["adaptive"]:
    if isinstance(value, str):
        choice(name, value, ("adaptive",))
        return "adaptive"
    return number(name, value, lowest=0.0)


class EPO(MultiTaskOptimizer):
    """Finds the point of the front that the preference names: l ∝ 1/r.

    Each step solves one linear program on m numbers. While the non-uniformity μ of r∘l is above ε
    it *balances*, moving losses towards the ray even where some must rise; on the ray it *descends*
    on all of them. Both are promises about d to first order, without ``weight_smoothing``; Adam and
    other bases that change d do not keep them (``track_rises`` counts).

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        epsilon: ε ≥ 0, the non-uniformity below which it descends; ``"adaptive"`` multiplies ε by
            0.8 after a step of descent and by 1.25 after one of balance, up to 1e-4, so that both
            go on and the end point is as exact as the base optimizer is. A fixed 1e-4 leaves the
            losses about 1e-2 off the ray.
        descent: ``"restricted"`` or ``"relaxed"``: see :func:`pyfront.functional.epo_weights`.
        weight_smoothing: 0 is the paper; 0.98 is recommended for mini-batches, where the program
            jumps from vertex to vertex. The running average begins at r / Σ r: at the first vertex
            it would leave out tasks for long. In a batch without data for some tasks, the others
            then share what they have of the running weights, and a task that has data in a share p
            of the steps only has its weight there divided by p, at most multiplied by ten; without
            smoothing each step stands alone and its weights sum to 1.
        offset: o, [m] or None: decide on (l − o) / unit, for losses that can be negative.
        unit: u > 0, [m] or None: the units in which losses are compared.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Known limit: where no β ≥ 0 moves towards the ray, as with nearly parallel gradients far from
    the front, the program lowers all losses and can end at the minimum of one task, where that
    task's gradient vanishes and the search stops off the ray. ``report.non_uniformity`` shows it;
    a start nearer to the front, or a few steps of another method first, avoids it.

    Raises:
        ValueError: a preference or unit that is not > 0 and finite, and at a step a loss that is
            negative, NaN or infinite; the task and the value are named.
        ImportError, RuntimeError: at a step whose program needs HiGHS, if highspy is missing, too
            old or broken.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = EPO(torch.optim.SGD([x], lr=0.1), preference=[0.7, 0.3])
        >>> opt.step([x[0] ** 2, x[1] ** 2]).phase
        'balance'

    Source: Mahapatra and Rajan 2020. Offset, unit, smoothing and the adaptive ε are ours.
    """

    preference_domain: ClassVar[Domain] = "positive"

    epsilon = Option[float | Literal["adaptive"]](_checked_epsilon)
    descent = Option[Descent](one_of("restricted", "relaxed"))

    def __init__(
        self,
        base: Base,
        preference: NamedVector,
        *,
        epsilon: float | Literal["adaptive"] = 1e-4,
        descent: Descent = "restricted",
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.epsilon = epsilon
        self.descent = descent
        self.units = Units(offset, unit)

    def check_losses(self, losses: FloatArray) -> None:
        """Require l ≥ 0 in the units of the comparison."""
        self.units.check(losses, "EPO", self.present)

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Solve the program at ((l − o) / u, C_ij / (u_i u_j), r); divide its weights by u."""
        assert gramian is not None and preference is not None
        units = self.units.among(self.present)
        report = epo(
            units.compared(losses),
            units.gramian(gramian),
            preference,
            self._epsilon(),
            self.descent,
        )
        if (share := self._share(units.unit)) != 1.0:
            report.weights.mul_(share)
        if units.unit is not None:
            report.weights.div_(torch.from_numpy(units.unit))
        if self.epsilon == "adaptive":
            factor = 0.8 if report.phase == "descent" else 1.25
            self.memory["epsilon"] = min(LARGEST_EPSILON, factor * self._epsilon())
        return report

    def first_weights(self, preference: FloatArray | None) -> FloatArray:
        """Return r / Σ r, divided by u."""
        assert preference is not None
        shares = preference / preference.sum()
        return self.units.among(self.present).of_losses(shares).numpy()

    def makes_up_for_absence(self) -> bool:
        """Return whether weights are smoothed: without it each step stands alone."""
        return self.weight_smoothing > 0.0

    def _share(self, unit: FloatArray | None) -> float:
        """Return what the tasks present have of the running weights, whose sum is 1.

        Without it a task that is often alone in a batch would be trained with weight 1 there,
        whatever its smoothed weight, and the others could not be brought to their ray.
        """
        complete = self.present is None or self.present.complete
        if complete or self.weight_smoothing == 0.0 or "weights" not in self.memory:
            return 1.0
        running = np.array(self.memory["weights"])
        share = float(running.sum() if unit is None else running @ unit)
        return 1.0 if np.isnan(share) else min(share, 1.0)  # NaN: a task has never been present

    def _epsilon(self) -> float:
        if isinstance(self.epsilon, str):
            return float(self.memory.get("epsilon", LARGEST_EPSILON))
        return self.epsilon
