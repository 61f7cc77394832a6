"""Multiple-gradient descent whose weights move by one step a training step."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront.methods._dual import gathered, onto_simplex, step_length
from pyfront.methods._product_method import ProductMethod, ProductOptions
from pyfront.optimizer.bases import Base
from pyfront.optimizer.batch import Losses
from pyfront.optimizer.options import Option, number_in, one_of
from pyfront.report import Report

__all__ = ["SingleLoopMGDA"]

Update = Literal["projected", "frank_wolfe"]


class SingleLoopMGDA(ProductMethod):
    """MGDA in a single loop: each step descends along Jᵀ w and moves w once towards its optimum.

    The min-norm problem ½ wᵀ C w over the simplex is not solved but followed. With p = C w:

        projected    w ← Π(w − ρ p̂ / √s), p̂ = p − mean p, s of :func:`pyfront.dual.step_length`
        frank_wolfe  w ← (1 − ρ) w + ρ e_j, j = argmin p

    One product a step, at a cost flat in m; first-order exact in the limit of small learning rates
    and full gradients, to within the swing of w: below ρ/3 a step for ``"projected"`` (measured,
    not proved), of order ρ for ``"frank_wolfe"``. The report's gap, wᵀ C w − min_j (C w)_j ≥ 0,
    says how far the weights are from those of :class:`MGDA`.
    As there, promises are about d, not about the update that a base such as Adam makes of it.

    With losses of a second, independent batch, ``step(losses, second=…)``, the product is
    J₁ J₂ᵀ w and the direction ½ (J₁ + J₂)ᵀ w. J J₁ᵀ on one batch has the noise of the gradients on
    its diagonal, so that noisy tasks lose weight; J₁ J₂ᵀ is without bias.

    Args:
        base: the optimizer that makes the step, or a list of them.
        update: ``"projected"`` or ``"frank_wolfe"``.
        rate: ρ in (0, 1]: the length of the first step, of all steps for ``"frank_wolfe"``.
        **common: keywords of :class:`~pyfront.product_method.ProductMethod`.

    Raises:
        ValueError: an argument out of its range; at a step as for the other methods.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = SingleLoopMGDA(torch.optim.SGD([x], lr=0.1), rate=0.2)
        >>> [opt.step([x[0] ** 2, 3 * x[1] ** 2]).weights[0].item() > w for w in (0.4, 0.6)]
        [True, True]

    Source: MoDo, Chen et al. 2023, for two batches, and MoCo, Fernando et al. 2023, for the single
    loop; the length of the projected step is ours, since C has no natural scale.
    """

    per_task: ClassVar[dict[str, float]] = {"simplex": math.nan, "pace": 0.0}

    update = Option[Update](one_of("projected", "frank_wolfe"))
    rate = Option[float](number_in(above=0.0, highest=1.0))

    def __init__(
        self,
        base: Base,
        *,
        update: Update = "projected",
        rate: float = 0.2,
        **common: Unpack[ProductOptions],
    ) -> None:
        super().__init__(base, **common)
        self.update = update
        self.rate = rate

    def backward(self, losses: Any, *, second: Losses | None = None, **options: Any) -> Report:
        """Fill ``.grad`` as the base class does, with the same losses on a second batch.

        Args:
            losses: m scalar tensors, a 1-D tensor [m], or a callable that returns them.
            second: the same m losses on an independent batch, for a product without bias; it may be
                the other half of what one forward pass has seen. Not with ``accumulate``,
                ``task_gradients="own"``, another ``gramian_over`` than ``"all"``, or other
                ``products`` than ``"double_backward"``.
            **options: as for the other methods.
        """
        if second is not None:
            self._check_second()
        return self._run(losses, second=second, **options)

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the weights that earlier steps have left; uniform at the first."""
        return Report(weights=torch.from_numpy(self._simplex(losses.size)[0]))

    def observe(self, report: Report, product: FloatArray, preference: FloatArray | None) -> Report:
        """Move w by one step, from where it was before smoothing."""
        w, share = self._simplex(product.size)
        if self.update == "frank_wolfe":
            moved = (1.0 - self.rate) * w
            moved[product.argmin()] += self.rate
        else:
            slope = product - product.mean()
            length, pace = step_length(self.rate, slope, self._pace(slope.size))
            moved = onto_simplex(w - length * slope)
            self.memory.update(pace=pace)
        self.memory.update(simplex=(share * moved).tolist())
        return replace(report, gap=float(report.weights.numpy() @ product - product.min()))

    def _simplex(self, tasks: int) -> tuple[FloatArray, float]:
        """Return the weights of the tasks present, of sum 1, and their share of all."""
        return gathered(self.recalled("simplex", np.full(tasks, np.nan)), 1.0)

    def _check_second(self) -> None:
        if self._shared.collected is not None or self.task_gradients == "own":
            raise ValueError("second: not with accumulate() or task_gradients='own'")
        if self.gramian_over != "all":
            raise ValueError("second: needs gramian_over='all', a product is over all parameters")
        if self.products != "double_backward":
            raise ValueError(f"second: needs products='double_backward', not {self.products!r}")
