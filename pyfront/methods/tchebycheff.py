"""Tchebycheff scalarization, max_j r_j l_j: smoothed, and by mirror descent. One backward pass."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch

from pyfront._arguments import FloatArray, VectorLike, number
from pyfront.optimizer import MultiTaskOptimizer
from pyfront.report import Report
from pyfront.units import Units

__all__ = ["MirrorTchebycheff", "SmoothTchebycheff"]


class SmoothTchebycheff(MultiTaskOptimizer):
    """Descends on the smooth maximum μ log Σ_j exp(r_j l_j / μ).

    w_j = r_j softmax(r∘l / μ)_j, with r scaled to mean 1. Small μ ends near the ray l ∝ 1/r, at a
    distance of order μ, and is stiff; large μ is linear scalarization. Approximate; no memory, so
    that a preference may differ from call to call.

    Args:
        base: the optimizer that makes the step.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        smoothing: μ > 0, in the unit of r∘l.
        offset: o, [m] or None: the ideal point; decide on (l − o) / unit.
        unit: u > 0, [m] or None: the units in which losses are compared.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: a preference, unit or ``smoothing`` that is not finite and > 0.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = SmoothTchebycheff(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
        >>> [round(w, 3) for w in opt.step([x[0] ** 2, 1.1 * x[1] ** 2]).weights.tolist()]
        [0.269, 0.731]

    Source: Lin et al., Smooth Tchebycheff Scalarization, 2024, eq. (9), with r scaled to mean 1.
    """

    needs: ClassVar[Literal["losses", "gramian", "products"]] = "losses"
    preference_domain: ClassVar[Literal["none", "nonnegative", "positive"]] = "positive"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        preference: VectorLike,
        *,
        smoothing: float = 0.1,
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Any,
    ) -> None:
        self.smoothing = number("smoothing", smoothing, above=0.0)
        self.units = Units(offset, unit)
        super().__init__(base, preference, **common)

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """The gradient of the smooth maximum in the losses."""
        assert preference is not None
        r = preference / preference.mean()
        weights = r * softmax(r * self.units.compared(losses) / self.smoothing)
        return Report(weights=self.units.of_losses(weights))


class MirrorTchebycheff(MultiTaskOptimizer):
    """Descends on the maximum of r∘l by a game: λ rises where r∘l is large.

        λ ← λ exp(ρ r∘l) / Σ        w = λ∘r, r scaled to mean 1

    The average of the iterates solves min_θ max_j r_j l_j for convex losses, with the last iterate
    circling around it: keep it with ``torch.optim.swa_utils.AveragedModel``. First-order exact in
    the limit of small steps and long averages; on a concave part of a front the iterates swing from
    end to end, for want of a proportional part.

    Args:
        base: the optimizer that makes the step.
        preference: r, [m], entries > 0; bigger means that this task's loss must end lower.
        rate: ρ > 0, in the inverse unit of r∘l.
        offset: o, [m] or None: the ideal point; decide on (l − o) / unit.
        unit: u > 0, [m] or None: the units in which losses are compared.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: a preference, unit or ``rate`` that is not finite and > 0.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = MirrorTchebycheff(torch.optim.SGD([x], lr=0.1), [0.5, 0.5], rate=1.0)
        >>> [round(w, 3) for w in opt.step([x[0] ** 2, 3 * x[1] ** 2]).weights.tolist()]
        [0.119, 0.881]

    Source: Liu et al., Online Mirror Descent for Tchebycheff Scalarization, 2024, with uniform
    averaging of the iterates.
    """

    needs: ClassVar[Literal["losses", "gramian", "products"]] = "losses"
    preference_domain: ClassVar[Literal["none", "nonnegative", "positive"]] = "positive"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        preference: VectorLike,
        *,
        rate: float = 0.1,
        offset: VectorLike | None = None,
        unit: VectorLike | None = None,
        **common: Any,
    ) -> None:
        self.rate = number("rate", rate, above=0.0)
        self.units = Units(offset, unit)
        super().__init__(base, preference, **common)

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """One step of mirror ascent on λ."""
        assert preference is not None
        r = preference / preference.mean()
        logs = self.recalled("log_multipliers", np.zeros_like(r))
        logs = logs + self.rate * r * self.units.compared(losses)
        logs -= logs.max()
        self.memory.update(log_multipliers=logs.tolist())
        return Report(weights=self.units.of_losses(r * softmax(logs)))


def softmax(x: FloatArray) -> FloatArray:
    """exp(x) / Σ."""
    e: FloatArray = np.exp(x - x.max())
    e /= e.sum()
    return e
