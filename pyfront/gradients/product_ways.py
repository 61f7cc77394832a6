"""The ways to J t for a direction t: see :mod:`pyfront.gradients.products`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import get_gradient_edge

from pyfront._utils.arguments import FloatArray, vector
from pyfront._utils.torch_private import preserved_versions
from pyfront.backend.graph import has_reentrant_checkpoint
from pyfront.backend.task_gradients import Row, as_real
from pyfront.gradients.engine import Engine, check_reached, explained, weighted_gradient
from pyfront.gradients.linear_record import linear_record
from pyfront.gradients.losses import loss_values, scalars, widened
from pyfront.gradients.product_checks import check_hidden, check_precision, check_still
from pyfront.gradients.product_errors import supported, unsupported
from pyfront.gradients.replay import Replay, check_same

__all__ = ["DoubleBackward", "Products", "Record", "Replayed", "Way", "forward_slopes"]

Products: TypeAlias = Literal["double_backward", "forward", "difference"]


class Way(ABC):
    """d = Jᵀ v at first, then J t for whatever d has become."""

    flat = False  # a loss has no derivative to see, and rightly so

    @abstractmethod
    def direction(self) -> Row:
        """Return Jᵀ v."""

    @abstractmethod
    def slopes(self, targets: Row) -> tuple[FloatArray, FloatArray]:
        """Return J t, [m], and what rounding of the losses may have added to it, [m]."""


class DoubleBackward(Way):
    """By a record of the backward pass."""

    def __init__(
        self,
        losses: Sequence[Tensor],
        params: Sequence[Tensor],
        weights: FloatArray,
        engine: Engine,
        keep: bool,
    ) -> None:
        self.losses, self.params, self.weights = losses, params, weights
        self.engine, self.keep = engine, keep

    def direction(self) -> Row:
        """Record a backward pass in u."""
        if not self.engine.stops_inside and has_reentrant_checkpoint(self.losses):
            raise unsupported(
                "double_backward", "a reentrant checkpoint cannot be differentiated twice"
            )
        self.record = Record(self.losses, self.params, self.weights, "double_backward", self.keep)
        return self.record.direction()

    def slopes(self, targets: Row) -> tuple[FloatArray, FloatArray]:
        """Differentiate the record in u."""
        found = self.record.slopes(targets)
        del self.record
        if silent := [task for task, x in enumerate(found) if x is None]:
            moved = [p for p, t in zip(self.params, targets, strict=True) if t is not None]
            self.flat = check_hidden(silent, self.losses, moved, compute=self.keep)
        return np.array(scalars(found)), np.zeros(len(self.losses))


class Record:
    """A backward pass as a graph of u, d(u) = Jᵀ u, whose derivative in u along t is J t.

    Args:
        losses: m scalar tensors.
        params: T parameters.
        weights: u, [m]; J t does not depend on it.
        what: what errors call the way, see :func:`unsupported`.
        keep: keep the graph of the losses.
    """

    def __init__(
        self,
        losses: Sequence[Tensor],
        params: Sequence[Tensor],
        weights: FloatArray,
        what: str,
        keep: bool,
    ) -> None:
        self.what = what
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
            self._record(losses, params, weights, keep)

    def _record(
        self, losses: Sequence[Tensor], params: Sequence[Tensor], weights: FloatArray, keep: bool
    ) -> None:
        # one leaf a task: where the derivative of one is hidden, its leaf is not reached
        self.u = [
            torch.tensor(w, dtype=torch.float64, device="cpu", requires_grad=True)
            for w in weights.tolist()
        ]
        wide = widened(losses)
        roots = [
            w.to(loss.device, loss.dtype).reshape(loss.shape)
            for w, loss in zip(self.u, wide, strict=True)
        ]
        # the record keeps what it needs itself: the losses' own graph can go at once, or the caller
        # who holds them would keep a step's activations during the next
        with explained("losses"), supported(self.what), linear_record(*self.u):
            self.row = torch.autograd.grad(
                wide, params, roots, create_graph=True, retain_graph=keep, allow_unused=True
            )
        check_reached("losses", self.row)
        self.edges = [
            get_gradient_edge(g) if g is not None and g.requires_grad else None for g in self.row
        ]

    def direction(self) -> Row:
        """Return Jᵀ u."""
        return [None if g is None else g.detach() for g in self.row]

    def forget_direction(self) -> None:
        """Free the memory of Jᵀ u, which its derivative does not need."""
        self.row = ()

    def slopes(self, targets: Row, *, keep: bool = False) -> Row:
        """Return J t, one number per task, None where the record does not hold the task.

        Args:
            targets: t, T tensors or None.
            keep: keep the record for another t.
        """
        pairs = [
            (edge, t)
            for edge, t in zip(self.edges, targets, strict=True)
            if edge is not None and t is not None
        ]
        if not pairs:
            return [None] * len(self.u)
        outputs, tangents = [edge for edge, _ in pairs], [t for _, t in pairs]
        with explained("losses"), supported(self.what):
            return torch.autograd.grad(
                outputs, self.u, tangents, retain_graph=keep, allow_unused=True
            )


class Replayed(Way):
    """By a closure that computes the losses again."""

    def __init__(
        self,
        products: Products,
        losses: Sequence[Tensor],
        params: Sequence[Tensor],
        weights: FloatArray,
        replay: Replay | None,
        engine: Engine,
        keep: bool,
    ) -> None:
        self.products: Products = products
        self.losses, self.params, self.weights = losses, params, weights
        self.replay, self.engine, self.keep = replay, engine, keep

    def direction(self) -> Row:
        """Return Jᵀ v by a plain backward pass."""
        if self.replay is None:
            raise ValueError(
                f"products={self.products!r}: needs a closure that returns the losses, to compute "
                "them again"
            )
        if self.products == "difference":
            check_precision(self.losses, self.params)
        return weighted_gradient(
            self.losses, self.weights.tolist(), self.params, self.engine, self.keep
        )

    def slopes(self, targets: Row) -> tuple[FloatArray, FloatArray]:
        """Evaluate the losses along t."""
        assert self.replay is not None
        way = forward_slopes if self.products == "forward" else _difference
        values, errors, still = way(self.replay, self.params, targets, self.losses)
        if still:
            check_still(
                self.products, still, self.replay, self.params, targets, errors, self.engine
            )
        return values, errors


def forward_slopes(
    replay: Replay,
    params: Sequence[Tensor],
    direction: Row,
    before: Sequence[Tensor],
    what: str = "forward",
) -> tuple[FloatArray, FloatArray, list[int]]:
    """Return J d, [m]; zeros for its errors, [m]; the tasks that have no derivative along d.

    ``what`` is what errors call the way, see :func:`unsupported`.
    """
    moved = _moved(params, direction)
    with supported(what), forward_ad.dual_level(), torch.no_grad():
        with preserved_versions([p for p, _ in moved]):  # no value changes
            for p, d in moved:  # in place: the closure reads the parameter itself
                p.copy_(_dual(p.detach(), d.to(p.dtype)))
        losses = replay.again()
        check_same(losses, before)
        tangents = [_tangent(loss) for loss in losses]
        values = vector("losses", scalars(tangents))
        still = [task for task, t in enumerate(tangents) if t is None]
        return values, np.zeros_like(values), still


def _moved(params: Sequence[Tensor], direction: Row) -> list[tuple[Tensor, Tensor]]:
    """Return the parameters that move and how; dense, as they are."""
    pairs = [(p, d) for p, d in zip(params, direction, strict=True) if d is not None]
    return [(p, d if d.layout is torch.strided else d.to_dense()) for p, d in pairs]


def _dual(primal: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(primal, tangent)  # type: ignore[no-untyped-call]
    return dual


def _tangent(dual: Tensor) -> Tensor | None:
    tangent: Tensor | None = forward_ad.unpack_dual(dual).tangent  # type: ignore[no-untyped-call]
    return tangent


def _difference(
    replay: Replay, params: Sequence[Tensor], direction: Row, before: Sequence[Tensor]
) -> tuple[FloatArray, FloatArray, list[int]]:
    """Return the differences, [m], their errors, [m], and the tasks that did not move.

    The errors are what rounding of the losses may have added.
    """
    moved = _moved(params, direction)
    theta, length = (
        torch.stack([t.double().norm() for t in as_real(tensors) if t is not None]).norm().item()
        for tensors in ([p.detach() for p, _ in moved], [d for _, d in moved])
    )
    if length == 0.0:
        return np.zeros(len(before)), np.zeros(len(before)), []
    coarsest = max(torch.finfo(p.dtype).eps for p, _ in moved)
    # the error of the losses is eps l / h; that of the difference is of order h, since networks
    # have kinks: they balance at √eps
    h = coarsest**0.5 * max(theta, 1e-3) / length
    kept = [p.detach().clone() for p, _ in moved]
    sides = []
    with torch.no_grad(), preserved_versions([p for p, _ in moved]):  # the values come back
        check_same(replay.again(), before)
        try:
            for sign in (1.0, -1.0):
                for (p, d), old in zip(moved, kept, strict=True):
                    p.copy_(old + (sign * h) * d)
                sides.append(loss_values(replay.again()))
        finally:
            for (p, _), old in zip(moved, kept, strict=True):
                p.copy_(old)
    sizes = np.maximum(np.abs(scalars(before)), 1e-3)
    rounding = 100.0 * sizes * [torch.finfo(x.dtype).eps for x in before]
    values = (sides[0] - sides[1]) / (2.0 * h)
    return values, rounding / h, np.flatnonzero(values == 0.0).tolist()
