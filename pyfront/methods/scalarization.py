"""Fixed weights."""

from __future__ import annotations

from typing import ClassVar, Unpack

import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorsLike
from pyfront._utils.warn import warn_caller
from pyfront.backend.cuda import Decision
from pyfront.optimizer.arithmetic import DecidesOnDevice
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import CommonOptions
from pyfront.optimizer.preference import Domain
from pyfront.report import Report

__all__ = ["LinearScalarization"]


class LinearScalarization(MultiTaskOptimizer, DecidesOnDevice):
    """Weighted sum of the losses, w = r as given: one backward pass per step.

    Reaches points on the convex part of the front alone, and where it ends says little about the
    losses: the baseline that every method has to beat.

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], entries ≥ 0 and not all 0; used as weights without normalisation. A sum
            of 1 gives the step of the losses' mean, one of m that of their sum.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: an entry of ``preference`` that is negative, NaN or infinite; it is named.

    Warns:
        UserWarning: weights that sum to less than 1 or more than m, such as percentages: the step
            is then that many times larger.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = LinearScalarization(torch.optim.SGD([x], lr=0.1), preference=[1.25, 0.75])
        >>> opt.step([x[0] ** 2, x[1] ** 2]).weights.tolist()
        [1.25, 0.75]

    Source: scalarization of a vector problem, as in Boyd and Vandenberghe, Convex Optimization,
    2004, section 4.7.4.
    """

    needs: ClassVar[Needs] = "losses"
    preference_domain: ClassVar[Domain] = "nonnegative"

    def __init__(
        self, base: Base, preference: NamedVector, **common: Unpack[CommonOptions]
    ) -> None:
        super().__init__(base, preference, **common)

    def checked_preference(self, value: VectorsLike, length: int | None = None) -> FloatArray:
        """Return ``value`` as weights; a warning where their sum is that of neither convention."""
        r = super().checked_preference(value, length)
        total = r.sum()
        if not 0.95 <= total <= 1.05 * r.size:
            shares = [float(f"{share:.3g}") for share in r / total]
            warn_caller(
                f"preference: these weights sum to {total:.3g} and are applied as they are, which "
                f"makes the step {total:.3g} times that of a weighted mean; write {shares}, or "
                f"scale='sum' with it for the step of a sum"
            )
        return r

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return w = r."""
        return Report(weights=torch.tensor(preference, device="cpu"))

    def decide_on_device(
        self, losses: Tensor, gramian: Tensor | None, preference: FloatArray | None
    ) -> Decision:
        """Return w = r, known on the host."""
        return Decision(torch.tensor(preference, device="cpu"))
