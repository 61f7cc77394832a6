"""The product C v = J (Jᵀ v) of the Gramian and a vector, without the m task gradients.

Its cost does not grow with m, nothing of size m·n is stored, and d = Jᵀ v comes with it. Three
ways:

- ``"double_backward"`` needs the losses' graph alone. d(u) = Jᵀ u is drawn as a graph of u; it is
  linear, so ∂/∂u ½‖d(u)‖² at v is J d = C v. Exact to rounding. One backward pass that is recorded
  and one through the record, which keeps the activations but not their gradients
  (:mod:`pyfront.linear_record`).
- ``"forward"`` needs a closure that computes the losses again. One backward pass gives d; the
  parameters then become dual numbers θ + ε d, and the ε part of the losses is J d. Exact to
  rounding. One more forward pass without a graph, so less time and memory than a recorded backward.
- ``"difference"`` needs the closure too: J d ≈ (l(θ + h d) − l(θ − h d)) / 2h. Approximate (1e-3 to
  1e-1 in float32, none in half precision), for operators that have neither a second derivative nor
  a forward one. Three more forward passes, the first to see that the closure repeats the losses.

No way is replaced by another without being asked: an operator that lacks what a way needs is an
error that says which way to set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from pyfront._utils.arguments import FloatArray, VectorLike, choice, require, vector
from pyfront._utils.torch_private import preserved_versions
from pyfront.backend.task_gradients import Row, as_real
from pyfront.distributed.processes import ALONE, Processes
from pyfront.gradients.engine import Engine, check_reached, explained
from pyfront.gradients.engines import weighted_gradient
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.linear_record import linear_record
from pyfront.gradients.losses import as_losses, loss_values, scalars, widened
from pyfront.gradients.product_checks import (
    Verified,
    check_hidden,
    check_mixture,
    check_norm,
    check_precision,
    check_still,
)
from pyfront.gradients.product_errors import supported, unsupported
from pyfront.gradients.replay import Replay, check_same

__all__ = ["Product", "Products", "gramian_product"]

Products: TypeAlias = Literal["double_backward", "forward", "difference"]


class Product(NamedTuple):
    """C v, and the direction d = Jᵀ v that came with it."""

    values: FloatArray  # [m] float64
    direction: Row  # T tensors fit to be .grad, or None


def gramian_product(
    losses: Sequence[Tensor] | Tensor,
    params: Sequence[Tensor],
    v: VectorLike,
    *,
    products: Products = "double_backward",
    replay: Replay | None = None,
    along: Row | None = None,
    engine: Engine | None = None,
    retain_graph: bool = False,
    verified: Verified | None = None,
    processes: Processes = ALONE,
) -> Product:
    """Return C v = J (Jᵀ v) and d = Jᵀ v for the losses' Jacobian J, at a cost that is flat in m.

    Args:
        losses: m scalar tensors, or a 1-D tensor [m], with a graph.
        params: T tensors that require a gradient.
        v: [m], any real numbers.
        products: ``"double_backward"``, ``"forward"`` or ``"difference"``: see the module.
        replay: computes the losses again; needed by the last two.
        along: T tensors or None in place of d in J d, for a product J Kᵀ v with another Jacobian.
        engine: how backward passes are made; ``"grad"`` where None.
        retain_graph: keep the graph of the losses.
        verified: what earlier calls have verified, kept up to date; None verifies all of it. See
            :mod:`pyfront.product_checks`.
        processes: those over which d, then J d is averaged; d must be the average for J d to be.

    Returns:
        :class:`Product`: the m products in float64, and d as T tensors or None, sparse where
        autograd's are.

    Raises:
        ValueError: losses or v that cannot be used, or a closure that returns other losses.
        TypeError: ``"difference"`` with losses or parameters of half precision.
        RuntimeError: an operator does not support this way; the message names one that may.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> gramian_product([x.sum(), (x**2).sum() / 2], [x], [0.5, 0.5]).values.tolist()
        [2.5, 4.0]

    Source: the double-backward product is Pearlmutter's R-operator on the map u ↦ Jᵀ u.
    """
    choice("products", products, get_args(Products))
    engine = engine or GradEngine()
    roots = as_losses(losses)
    weights = vector("v", v, len(roots))
    require("v", weights)
    known = Verified() if verified is None else verified
    due = products != "difference" and known.due(roots)
    keep = retain_graph or due
    way: _Way = (
        _DoubleBackward(roots, params, weights, engine, keep)
        if products == "double_backward"
        else _Replayed(products, roots, params, weights, replay, engine, keep)
    )
    direction = processes.averaged(lambda send: [send(way.direction())], 1)[0]
    if not processes.several:
        direction = _unshared(direction)
    targets = direction if along is None else along

    def here() -> FloatArray:
        values, errors = way.slopes(targets)
        if due:
            check_mixture(products, values, targets, roots, params, engine, retain_graph)
        return np.concatenate([values, errors])

    values, errors = np.split(processes.mean(here, 2 * len(roots)), 2)
    if along is None:
        check_norm(products, values, direction, weights, errors)
    if due and np.isfinite(values).all():
        known.note(roots, way.flat)
    return Product(values, direction)


# ----------------------------------------------------------------------------------- the three ways


class _Way(ABC):
    """d = Jᵀ v at first, then J t for whatever d has become."""

    flat = False  # a loss has no derivative to see, and rightly so

    @abstractmethod
    def direction(self) -> Row:
        """Return Jᵀ v."""

    @abstractmethod
    def slopes(self, targets: Row) -> tuple[FloatArray, FloatArray]:
        """Return J t, [m], and what rounding of the losses may have added to it, [m]."""


class _DoubleBackward(_Way):
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
        if not self.engine.stops_inside:
            raise unsupported(
                "double_backward", "a reentrant checkpoint cannot be differentiated twice"
            )
        # one leaf a task: where the derivative of one is hidden, its leaf is not reached
        self.u = [
            torch.tensor(w, dtype=torch.float64, device="cpu", requires_grad=True)
            for w in self.weights.tolist()
        ]
        wide = widened(self.losses)
        roots = [
            w.to(loss.device, loss.dtype).reshape(loss.shape)
            for w, loss in zip(self.u, wide, strict=True)
        ]
        # the record keeps what it needs itself: the losses' own graph can go at once, or the caller
        # who holds them would keep a step's activations during the next
        with explained("losses"), supported("double_backward"), linear_record(*self.u):
            self.row = torch.autograd.grad(
                wide,
                self.params,
                roots,
                create_graph=True,
                retain_graph=self.keep,
                allow_unused=True,
            )
        check_reached("losses", self.row)
        return [None if g is None else g.detach() for g in self.row]

    def slopes(self, targets: Row) -> tuple[FloatArray, FloatArray]:
        """Differentiate the record in u."""
        pairs = [
            (g, t)
            for g, t in zip(self.row, targets, strict=True)
            if g is not None and t is not None and g.requires_grad
        ]
        outputs, tangents = [g for g, _ in pairs], [t for _, t in pairs]
        found: Row = [None] * len(self.u)
        if pairs:
            with explained("losses"), supported("double_backward"):
                found = torch.autograd.grad(outputs, self.u, tangents, allow_unused=True)
        del self.row  # with the record
        if silent := [task for task, x in enumerate(found) if x is None]:
            moved = [p for p, t in zip(self.params, targets, strict=True) if t is not None]
            self.flat = check_hidden(silent, self.losses, moved, compute=self.keep)
        return np.array(scalars(found)), np.zeros(len(self.losses))


class _Replayed(_Way):
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
        way = _forward if self.products == "forward" else _difference
        dense = [t if t is None or t.layout is torch.strided else t.to_dense() for t in targets]
        values, errors, still = way(self.replay, self.params, dense, self.losses)
        if still:
            check_still(
                self.products, still, self.replay, self.params, targets, errors, self.engine
            )
        return values, errors


def _forward(
    replay: Replay, params: Sequence[Tensor], direction: Row, before: Sequence[Tensor]
) -> tuple[FloatArray, FloatArray, list[int]]:
    """Return J d, [m]; zeros for its errors, [m]; the tasks that have no derivative along d."""
    moved = [(p, d) for p, d in zip(params, direction, strict=True) if d is not None]
    with supported("forward"), forward_ad.dual_level(), torch.no_grad():
        with preserved_versions([p for p, _ in moved]):  # no value changes
            for p, d in moved:  # in place: the closure reads the parameter itself
                p.copy_(_dual(p.detach(), d.to(p.dtype)))
        losses = replay.again()
        check_same(losses, before)
        tangents = [_tangent(loss) for loss in losses]
        values = vector("losses", scalars(tangents))
        still = [task for task, t in enumerate(tangents) if t is None]
        return values, np.zeros_like(values), still


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
    moved = [(p, d) for p, d in zip(params, direction, strict=True) if d is not None]
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


# -------------------------------------------------------------------------------------- their rules


def _unshared(direction: Row) -> Row:
    """Return the same tensors, each with memory of its own."""
    seen: set[int] = set()
    out: list[Tensor | None] = []
    for d in direction:
        if d is not None and d.layout is torch.strided:
            storage = d.untyped_storage()
            whole = storage.nbytes() == d.numel() * d.element_size()
            if not whole or d.is_neg() or d.is_conj() or storage.data_ptr() in seen:
                d = d.resolve_neg().resolve_conj().clone(memory_format=torch.contiguous_format)
            seen.add(d.untyped_storage().data_ptr())
        out.append(d)
    return out
