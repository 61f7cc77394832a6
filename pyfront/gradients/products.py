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

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorLike, choice, require, vector
from pyfront.backend.task_gradients import Row
from pyfront.distributed.processes import ALONE, Processes
from pyfront.gradients.engine import Engine
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.losses import as_losses
from pyfront.gradients.product_checks import (
    Verified,
    check_mixture,
    check_norm,
)
from pyfront.gradients.product_ways import DoubleBackward, Products, Replayed, Way
from pyfront.gradients.replay import Replay

__all__ = ["Product", "Products", "gramian_product"]


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
    due = products != "difference" and known.due(roots, params)
    keep = retain_graph or due
    way: Way = (
        DoubleBackward(roots, params, weights, engine, keep)
        if products == "double_backward"
        else Replayed(products, roots, params, weights, replay, engine, keep)
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
        known.note(roots, params, way.flat)
    return Product(values, direction)


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
