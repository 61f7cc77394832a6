"""Tchebycheff scalarization, max_j r_j l_j: smoothed, and by mirror descent. One backward pass."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Unpack

import numpy as np

from pyfront._utils.arguments import FloatArray, VectorLike
from pyfront._utils.simplex import tilted
from pyfront.methods._units import Units
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import CommonOptions, Option, number_in
from pyfront.optimizer.preference import Domain
from pyfront.report import Report

__all__ = ["MirrorTchebycheff", "SmoothTchebycheff"]


class UnitOptions(CommonOptions, total=False):
    """The keywords of a method that compares losses in units."""

    offset: VectorLike | None
    unit: VectorLike | None


class _Tchebycheff(MultiTaskOptimizer):
    """Descends on Σ_j λ_j r_j l_j with r scaled to mean 1 and λ on the simplex."""

    needs: ClassVar[Needs] = "losses"
    preference_domain: ClassVar[Domain] = "positive"

    def __init__(
        self,
        base: Base,
        preference: NamedVector,
        *,
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.units = Units(offset, unit)

    @abstractmethod
    def _multipliers(self, scaled: FloatArray) -> FloatArray:
        """Return λ, [m], from r∘l."""

    def makes_up_for_absence(self) -> bool:
        """Return True: the proportion is held over many steps."""
        return True

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return w = λ∘r at (l − o) / unit, divided by the unit."""
        assert preference is not None
        r, units = preference / preference.mean(), self.units.among(self.present)
        weights = r * self._multipliers(r * units.compared(losses))
        return Report(weights=units.of_losses(weights))


class SmoothTchebycheff(_Tchebycheff):
    """Descends on the smooth maximum μ log Σ_j exp(r_j l_j / μ).

    w_j = r_j softmax(r∘l / μ)_j, with r scaled to mean 1. Small μ ends near the ray l ∝ 1/r, at a
    distance of order μ, and is stiff; large μ is linear scalarization. Approximate; no memory, so
    that a preference may differ from call to call.

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        smoothing: μ > 0, in the unit of r∘l.
        **common: ``offset``, o, [m] or None, the ideal point, and ``unit``, u > 0, [m] or None:
            decide on (l − o) / u; and keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: a preference, unit or ``smoothing`` that is not finite and > 0.
        TypeError: a ``smoothing`` that is no number.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = SmoothTchebycheff(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
        >>> [round(w, 3) for w in opt.step([x[0] ** 2, 1.1 * x[1] ** 2]).weights.tolist()]
        [0.269, 0.731]

    Source: Lin et al., Smooth Tchebycheff Scalarization, 2024, eq. (9), with r scaled to mean 1.
    """

    smoothing = Option[float](number_in(above=0.0))

    def __init__(
        self,
        base: Base,
        preference: NamedVector,
        *,
        smoothing: float = 0.1,
        **common: Unpack[UnitOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.smoothing = smoothing

    def _multipliers(self, scaled: FloatArray) -> FloatArray:
        return tilted(1.0, scaled / self.smoothing)


class MirrorTchebycheff(_Tchebycheff):
    """Descends on the maximum of r∘l by a game: λ rises where r∘l is large.

        λ ← λ exp(ρ r∘l) / Σ        w = λ∘r, r scaled to mean 1

    What is promised is about the uniform average of the parameters after each of T steps: for
    convex losses, a bounded region and plain SGD, its max_j r_j l_j is within O(√(log m / T)) of
    the least one, if learning rate and ρ are of order 1/√T. Where the ray l ∝ 1/r meets the front,
    the least one is there. Nothing is promised for the last iterate, which may circle around the
    point for ever, or for losses that are not convex: on a concave part of a front the iterates
    swing from end to end, for want of a proportional part.

    The average is as large as the model and does not enter the steps, so it is not kept here:
    ``torch.optim.swa_utils.AveragedModel``, which has a state_dict of its own, is that average.

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        rate: ρ > 0, in the inverse unit of r∘l.
        **common: ``offset``, o, [m] or None, the ideal point, and ``unit``, u > 0, [m] or None:
            decide on (l − o) / u; and keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: a preference, unit or ``rate`` that is not finite and > 0.
        TypeError: a ``rate`` that is no number.

    Example:
        >>> model = torch.nn.ParameterList([torch.tensor([0.7])])
        >>> average = torch.optim.swa_utils.AveragedModel(model)
        >>> opt = MirrorTchebycheff(torch.optim.SGD(model.parameters(), lr=0.05), [0.5, 0.5])
        >>> for _ in range(400):
        ...     report = opt.step([abs(model[0] - 1).sum(), abs(model[0] + 1).sum()])
        ...     average.update_parameters(model)
        >>> abs(average.module[0].item()) < 0.02  # max(|x − 1|, |x + 1|) is least at 0
        True

    Source: Liu et al., Online Mirror Descent for Tchebycheff Scalarization, 2024, with uniform
    averaging of the iterates; r scaled to mean 1 is ours.
    """

    per_task: ClassVar[dict[str, float]] = {"log_multipliers": math.nan}

    rate = Option[float](number_in(above=0.0))

    def __init__(
        self,
        base: Base,
        preference: NamedVector,
        *,
        rate: float = 0.1,
        **common: Unpack[UnitOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.rate = rate

    def _multipliers(self, scaled: FloatArray) -> FloatArray:
        """Return one step of mirror ascent on λ; the share of the tasks present in all stays."""
        before = self.recalled("log_multipliers", np.full_like(scaled, np.nan))
        known = before[~np.isnan(before)]
        mean = _log_sum(known) - math.log(known.size) if known.size else 0.0
        before = np.where(np.isnan(before), mean, before)
        logs = before + self.rate * scaled
        logs += _log_sum(before) - _log_sum(logs)
        self.memory.update(log_multipliers=logs.tolist())
        return tilted(1.0, logs)


def _log_sum(logs: FloatArray) -> float:
    """Return log Σ exp."""
    largest = float(logs.max())
    return largest + math.log(float(np.exp(logs - largest).sum()))
