"""Methods that learn their weights from one product C w a step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorLike, VectorsLike, choice
from pyfront.backend.task_gradients import Row, add_rows
from pyfront.gradients.engines import weighted_gradient
from pyfront.gradients.product_checks import Verified
from pyfront.gradients.products import Products, gramian_product
from pyfront.gradients.replay import Replay
from pyfront.methods._dual import Pace
from pyfront.optimizer.batch import Batch, Losses
from pyfront.optimizer.delegating import Memory
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.report import Report

__all__ = ["ProductMethod"]


class ProductMethod(MultiTaskOptimizer):
    """A method that learns its weights from one product C w a step, at a cost flat in m.

    Each step applies the weights that are in the memory, gets C w of them with the direction
    (:mod:`pyfront.products`), and moves the weights for the next step. ``accumulate``,
    ``task_gradients="own"`` and ``gramian_over="shared"`` need every task's gradient, and there the
    product is taken from the Gramian, at m backward passes.

    Args:
        base: the optimizer that makes the step.
        preference: r, [m], or None for methods without one.
        products: ``"double_backward"`` needs the losses alone; ``"forward"`` (less time and memory)
            and ``"difference"`` (approximate) need ``step(closure)`` or ``backward(closure)`` with
            a callable that returns the losses, and call it again.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.
    """

    needs: ClassVar[Literal["losses", "gramian", "products"]] = "products"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        preference: VectorLike | None = None,
        *,
        products: Products = "double_backward",
        **common: Any,
    ) -> None:
        choice("products", products, get_args(Products))
        super().__init__(base, preference, **common)
        self.products: Products = products
        self._replay: Replay | None = None
        self._verified = Verified()
        self._forget()

    @abstractmethod
    def observe(self, report: Report, product: FloatArray, preference: FloatArray | None) -> Report:
        """Moves the weights for the next step by C w, [m], and returns what to report of it.

        ``report.weights`` are those that were applied, without ``scale``.
        """

    def backward(
        self,
        losses: Losses | Callable[[], Losses],
        *,
        preference: VectorsLike | None = None,
        **options: Any,
    ) -> Report:
        """:meth:`MultiTaskOptimizer.backward`, which also takes a closure and learns the weights.

        Args:
            losses: m scalar tensors or a 1-D tensor [m], with a graph, or a callable that returns
                them.
            preference: r for this call; the optimizer's own where None.
            **options: as for the other methods.
        """
        if callable(losses) and not isinstance(losses, Tensor):
            with self._replaying(losses) as replay:
                return ProductMethod.backward(
                    self, replay.first(), preference=preference, **options
                )
        try:
            report = super().backward(losses, preference=preference, **options)
            if report.status != "nonfinite":
                report = self.report = self._learn(report)
            return report
        finally:
            self._forget()

    def step(  # type: ignore[override]
        self, closure: Losses | Callable[[], Losses] | None = None, **options: Any
    ) -> Report | None:
        """:meth:`MultiTaskOptimizer.step`; a callable may be called again, see ``products``.

        Args:
            closure: the losses, a callable that returns them, or None.
            **options: as for the other methods.
        """
        if closure is None or isinstance(closure, Tensor) or not callable(closure):
            return super().step(closure, **options)
        with self._replaying(closure) as replay:
            return super().step(replay.first, **options)

    step.hooked = True  # type: ignore[attr-defined]

    # ------------------------------------------------------------------------------------ the parts

    @contextmanager
    def _replaying(self, closure: Callable[[], Losses]) -> Iterator[Replay]:
        self._replay = Replay(closure)
        try:
            yield self._replay
        finally:
            self._replay = None

    def _forget(self) -> None:
        """Drops what holds a graph, so that copies and checkpoints can be made."""
        self._seen: Batch | None = None
        self._product: FloatArray | None = None

    def _weigh(self, batch: Batch, c: FloatArray | None) -> tuple[Report, Memory | None]:
        self._seen = batch
        return super()._weigh(batch, c)

    def _weighted_gradient(
        self, batch: Batch, report: Report, params: list[Tensor], retain_graph: bool
    ) -> Row:
        if batch.one_off or not batch.due:  # no weights are to be moved
            return super()._weighted_gradient(batch, report, params, retain_graph)
        m = batch.values.size
        engine = self._engine_for(batch.losses, params)
        fixed: Row | None = None
        if extra := batch.losses[m:]:  # first: the other passes may free the graph
            fixed = weighted_gradient(extra, [1.0], params, engine, retain_graph=True)
        if self._replay is not None:
            self._replay.unit = batch.unit
        product = gramian_product(
            batch.losses[:m],
            params,
            report.weights,
            products=self.products,
            replay=self._replay,
            along=self._along(params),
            engine=engine,
            retain_graph=retain_graph,
            verified=self._verified,
        )
        _check_finite(batch, product.values)
        self._product = product.values / batch.unit**2
        direction = product.direction
        return direction if fixed is None else add_rows(direction, fixed)

    def _along(self, params: list[Tensor]) -> Row | None:
        """Another direction than Jᵀ w for the product, or None."""
        return None

    def _pace(self, size: int) -> Pace | None:
        """That of the step before, if its slope had as many entries."""
        pace: Pace | None = self.memory.get("pace")
        return None if pace is None or len(pace["slope"]) != size else pace

    def _learn(self, report: Report) -> Report:
        """What a step that has succeeded teaches about the weights."""
        batch = self._seen
        if batch is None or batch.one_off or not batch.due:
            return report
        factor = report.weights.numel() if self.scale == "sum" else 1
        applied = replace(report, weights=report.weights / factor)
        if self._product is not None:
            product = self._product / factor
        else:
            assert report.gramian is not None
            product = (report.gramian @ applied.weights).numpy()
        if not np.isfinite(product).all():
            return report  # overflowed under a gradient scaler, where the direction did not
        return replace(self.observe(applied, product, batch.preference), weights=report.weights)


def _check_finite(batch: Batch, product: FloatArray) -> None:
    if not batch.scaled and not np.isfinite(product).all():
        task = int(np.flatnonzero(~np.isfinite(product))[0])
        raise ValueError(
            f"losses[{task}] = {batch.values[task]:g}: the product of its gradient with the "
            f"direction is not finite ({product[task]:g})"
        )
