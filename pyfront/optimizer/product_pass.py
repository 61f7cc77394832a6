"""The direction of a method that needs C w, and the product that comes with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pyfront._utils.arguments import FloatArray
from pyfront.backend.graph import share_a_graph
from pyfront.backend.task_gradients import Row, add_rows
from pyfront.gradients.engine import weighted_gradient
from pyfront.gradients.product_checks import Verified
from pyfront.gradients.products import Products, gramian_product
from pyfront.optimizer.names import errors_by_place
from pyfront.report import Report

if TYPE_CHECKING:
    from pyfront.optimizer.step import Step

__all__ = ["LearnsFromProducts", "product_pass"]


class LearnsFromProducts(ABC):
    """A method that moves its weights by one product C w per step.

    Attributes:
        products: how the product is taken.
        verified: what earlier calls have verified of it.
    """

    products: Products
    verified: Verified

    @abstractmethod
    def observe(self, report: Report, product: FloatArray, preference: FloatArray | None) -> Report:
        """Move the weights for the next step by C w, [m], and return what to report of it.

        ``report.weights`` are those that were applied, without ``scale``.
        """


def product_pass(step: Step, report: Report) -> tuple[Row, FloatArray | None]:
    """Return d = Jᵀ w, with the fixed loss in it, and C w, [m], of unscaled losses.

    With losses of a second batch they are ½ (J₁ + J₂)ᵀ w and J₁ J₂ᵀ w. A step that does not move
    the weights takes no product.

    Raises:
        ValueError: a product that is not finite, without a gradient scaler; the task is named.
    """
    second = step.second
    if second is None:
        return _of_one_batch(step, report, None)
    half = replace(report, weights=0.5 * report.weights)  # of each batch
    keep = step.call.retain_graph or share_a_graph(second, step.batch.losses)
    weights = (step.batch.unit * half.weights).tolist()
    other = step.averaged(
        lambda: weighted_gradient(second, weights, step.params, step.engine, keep), second
    )
    along = [None if d is None else 2.0 * d for d in other]
    direction, product = _of_one_batch(step, half, along)
    return add_rows(direction, other), product


def _of_one_batch(step: Step, report: Report, along: Row | None) -> tuple[Row, FloatArray | None]:
    if not step.learns:
        return step.weighted_pass(report), None
    method, batch, replay = step.method, step.batch, step.call.replay
    assert isinstance(method, LearnsFromProducts)
    m, retain_graph = batch.tasks, step.call.retain_graph
    fixed: Row | None = None
    if extra := batch.losses[m:]:  # first: the other passes may free the graph
        fixed = step.averaged(
            lambda: weighted_gradient(extra, [1.0], step.params, step.engine, retain_graph=True),
            extra,
        )
    if replay is not None:
        replay.unit = batch.unit
        replay.differentiates = method.verified.differentiates
    with errors_by_place(batch.presence.places):
        product = gramian_product(
            batch.losses[:m],
            step.params,
            report.weights,
            products=method.products,
            replay=replay,
            along=along,
            engine=step.engine,
            retain_graph=retain_graph,
            verified=method.verified,
            processes=step.processes,
        )
    if replay is not None:
        method.verified.differentiates = replay.differentiates
    if not batch.scaled and not np.isfinite(product.values).all():
        task = int(np.flatnonzero(~np.isfinite(product.values))[0])
        loss = f"{batch.names[task]} = {np.asarray(step.values)[task]:g}"
        raise ValueError(
            f"{loss}: the product of its gradient with the direction is not finite "
            f"({product.values[task]:g})"
        )
    direction = product.direction if fixed is None else add_rows(product.direction, fixed)
    return direction, product.values / batch.unit**2
