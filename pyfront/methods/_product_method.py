"""Methods that learn their weights from one product C w per step."""

from __future__ import annotations

from typing import ClassVar, Unpack, get_args

from pyfront.gradients.product_checks import Verified
from pyfront.gradients.products import Products
from pyfront.methods._dual import Pace
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.names import NamedVector
from pyfront.optimizer.options import CommonOptions, Option, one_of
from pyfront.optimizer.product_pass import LearnsFromProducts

__all__ = ["ProductMethod", "ProductOptions"]


class ProductOptions(CommonOptions, total=False):
    """The keywords that every method takes that learns from products."""

    products: Products


class ProductMethod(MultiTaskOptimizer, LearnsFromProducts):
    """A method that learns its weights from one product C w per step, at a cost flat in m.

    Each step applies the weights that are in the memory, gets C w of them with the direction
    (:mod:`pyfront.gradients.products`), and moves the weights for the next step. ``accumulate``,
    ``task_gradients="own"`` and ``gramian_over="shared"`` need every task's gradient, and there the
    product is taken from the Gramian, at m backward passes.

    Args:
        base: the optimizer that makes the step, or a list of them.
        preference: r, [m], or None for methods without one.
        products: ``"double_backward"`` needs the losses alone; ``"forward"`` (less time and memory)
            and ``"difference"`` (approximate) need ``step(closure)`` or ``backward(closure)`` with
            a callable that returns the losses, and call it again.
        **common: keywords of :class:`~pyfront.MultiTaskOptimizer`.
    """

    needs: ClassVar[Needs] = "products"

    products = Option[Products](one_of(*get_args(Products)))

    def __init__(
        self,
        base: Base,
        preference: NamedVector | None = None,
        *,
        products: Products = "double_backward",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, preference, **common)
        self.products = products
        self.verified = Verified()

    def _pace(self, size: int) -> Pace | None:
        """Return that of the step before, if its slope had as many entries."""
        pace: Pace | None = self.memory.get("pace")
        return None if pace is None or len(pace["slope"]) != size else pace
