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

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from pyfront._arguments import FloatArray, VectorLike, choice, require, vector
from pyfront.gradients import (
    Engine,
    Row,
    as_losses,
    check_reached,
    explained,
    loss_values,
    weighted_gradient,
)
from pyfront.linear_record import linear_record
from pyfront.replay import Replay, check_same

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
    engine: Engine = "grad",
    retain_graph: bool = False,
    check: bool = True,
) -> Product:
    """C v = J (Jᵀ v) and d = Jᵀ v for the losses' Jacobian J, at a cost that is flat in m.

    Args:
        losses: m scalar tensors, or a 1-D tensor [m], with a graph.
        params: T tensors that require a gradient.
        v: [m], any real numbers.
        products: ``"double_backward"``, ``"forward"`` or ``"difference"``: see the module.
        replay: computes the losses again; needed by the last two.
        along: T tensors or None in place of d in J d, for a product J Kᵀ v with another Jacobian.
        engine: ``"grad"`` or ``"steal"``, as for :func:`pyfront.gradients.task_rows`.
        retain_graph: keep the graph of the losses.
        check: make sure that vᵀ C v = ‖d‖², which fails where an operator hides a part of its
            derivative from autograd (a custom function that is differentiable once), or where the
            closure does not compute its losses from the parameters. Reads d once.

    Returns:
        :class:`Product`: the m products in float64, and d as T dense tensors or None.

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
    roots = as_losses(losses)
    weights = vector("v", v, len(roots))
    require("v", weights)
    if products == "double_backward":
        product = _double_backward(roots, params, weights, along, engine, retain_graph)
        if check and along is None:
            _check_norm(products, product, weights)
        return product
    if replay is None:
        raise ValueError(
            f"products={products!r}: needs a closure that returns the losses, to compute them again"
        )
    if products == "difference":
        _check_precision(roots, params)
    direction = weighted_gradient(roots, weights.tolist(), params, engine, retain_graph)
    direction = [d if d is None or d.layout is torch.strided else d.to_dense() for d in direction]
    way = _forward if products == "forward" else _difference
    values, errors = way(replay, params, direction if along is None else along, roots)
    product = Product(values, direction)
    if check and along is None:
        _check_norm(products, product, weights, errors)
    return product


# ----------------------------------------------------------------------------------- the three ways


def _double_backward(
    losses: Sequence[Tensor],
    params: Sequence[Tensor],
    weights: FloatArray,
    along: Row | None,
    engine: Engine,
    retain_graph: bool,
) -> Product:
    if engine == "steal":
        raise RuntimeError(
            _advice("double_backward", "a reentrant checkpoint cannot be differentiated twice")
        )
    u = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    # a weight in the loss's own bfloat16 or float16 would be another weight
    wide = [loss if loss.dtype.itemsize >= 4 else loss.float() for loss in losses]
    roots = [
        w.to(loss.device, loss.dtype).reshape(loss.shape)
        for w, loss in zip(u.unbind(), wide, strict=True)
    ]
    # the record keeps what it needs itself: the losses' own graph can go at once, or the caller who
    # holds them would keep a step's activations during the next
    with explained("losses"), _supported("double_backward"), linear_record(u):
        row = torch.autograd.grad(
            wide, params, roots, create_graph=True, retain_graph=retain_graph, allow_unused=True
        )
    check_reached("losses", row)
    direction = [None if g is None else g.detach() for g in row]
    targets = direction if along is None else along
    pairs = [(g, t) for g, t in zip(row, targets, strict=True) if g is not None and t is not None]
    pairs = [(g, t) for g, t in pairs if g.requires_grad]
    outputs, tangents = [g for g, _ in pairs], [t for _, t in pairs]
    values = torch.zeros_like(u)
    if pairs:
        with explained("losses"), _supported("double_backward"):
            (found,) = torch.autograd.grad(outputs, u, tangents, allow_unused=True)
        values = values if found is None else found
    return Product(values.numpy(), _unshared(direction))


def _forward(
    replay: Replay, params: Sequence[Tensor], direction: Row, before: Sequence[Tensor]
) -> tuple[FloatArray, FloatArray]:
    moved = [(p, d) for p, d in zip(params, direction, strict=True) if d is not None]
    with forward_ad.dual_level(), torch.no_grad():
        with _same_versions([p for p, _ in moved]):  # no value changes
            for p, d in moved:  # in place: the closure reads the parameter itself
                p.copy_(_dual(p.detach(), d.to(p.dtype)))
        with _supported("forward"):
            losses = replay.again()
        check_same(losses, before)
        tangents = [_tangent(loss) for loss in losses]
        values = vector("losses", [0.0 if t is None else t.item() for t in tangents])
        return values, np.zeros_like(values)


def _dual(primal: Tensor, tangent: Tensor) -> Tensor:
    dual: Tensor = forward_ad.make_dual(primal, tangent)  # type: ignore[no-untyped-call]
    return dual


def _tangent(dual: Tensor) -> Tensor | None:
    tangent: Tensor | None = forward_ad.unpack_dual(dual).tangent  # type: ignore[no-untyped-call]
    return tangent


def _difference(
    replay: Replay, params: Sequence[Tensor], direction: Row, before: Sequence[Tensor]
) -> tuple[FloatArray, FloatArray]:
    """The differences, [m], and what rounding of the losses may have added to them, [m]."""
    moved = [(p, d) for p, d in zip(params, direction, strict=True) if d is not None]
    theta, length = (
        torch.stack([t.detach().double().norm() for t in tensors]).norm().item()
        for tensors in ([p for p, _ in moved], [d for _, d in moved])
    )
    if length == 0.0:
        return np.zeros(len(before)), np.zeros(len(before))
    coarsest = max(torch.finfo(p.dtype).eps for p, _ in moved)
    # the error of the losses is eps l / h; that of the difference is of order h, since networks
    # have kinks: they balance at √eps
    h = coarsest**0.5 * max(theta, 1e-3) / length
    kept = [p.detach().clone() for p, _ in moved]
    sides = []
    with torch.no_grad(), _same_versions([p for p, _ in moved]):  # the values come back
        check_same(replay.again(), before)
        try:
            for sign in (1.0, -1.0):
                for (p, d), old in zip(moved, kept, strict=True):
                    p.copy_(old + (sign * h) * d)
                sides.append(loss_values(replay.again()))
        finally:
            for (p, _), old in zip(moved, kept, strict=True):
                p.copy_(old)
    rounding = [100.0 * torch.finfo(x.dtype).eps * max(abs(x.item()), 1e-3) for x in before]
    return (sides[0] - sides[1]) / (2.0 * h), np.array(rounding) / h


# -------------------------------------------------------------------------------------- their rules


@contextmanager
def _same_versions(params: Sequence[Tensor]) -> Iterator[None]:
    """A graph that is kept must not find a newer version of parameters whose values stay."""
    with ExitStack() as stack:
        for p in params:  # torch 2.6 takes one tensor at a time
            stack.enter_context(_unsafe_preserve_version_counter(p))
        yield


def _unshared(direction: Row) -> Row:
    """The same tensors, each with memory of its own."""
    seen: set[int] = set()
    out: list[Tensor | None] = []
    for d in direction:
        if d is not None and d.layout is torch.strided:
            storage = d.untyped_storage()
            whole = storage.nbytes() == d.numel() * d.element_size() and not d.is_neg()
            if not whole or storage.data_ptr() in seen:
                d = d.resolve_neg().clone(memory_format=torch.contiguous_format)
            seen.add(d.untyped_storage().data_ptr())
        out.append(d)
    return out


def _check_norm(
    products: Products, product: Product, weights: FloatArray, errors: FloatArray | float = 0.0
) -> None:
    """Raises where vᵀ C v and ‖d‖² differ by more than the way's error and `errors` of C v."""
    blocks = [
        d.coalesce().values() if d.is_sparse else d for d in product.direction if d is not None
    ]
    squared = sum(d.double().square().sum().item() for d in blocks)
    steepest = float(np.abs(product.values).max())  # ≤ ‖g_j‖ ‖d‖ for some task
    cancelled = squared < 1e-4 * steepest  # rounding of d alone could fail the test
    share = 0.5 if products == "difference" else 0.05  # up to 0.2 seen on residual networks
    allowed = share * squared + float((np.abs(weights) * errors).sum())
    found = float(weights @ product.values)
    if cancelled or not abs(found - squared) > allowed:
        return
    if products == "difference":
        raise ValueError(
            f"closure: along d = Jᵀ v the losses that it returns rise by vᵀ J d = {found:g}, and "
            f"by their gradients it is ‖d‖² = {squared:g}; it must compute them from the "
            "parameters, and not in half precision"
        )
    reason = "a part of its derivative is hidden from autograd"
    if products == "forward":
        reason += ", or the closure does not compute its losses from the parameters"
    raise RuntimeError(_advice(products, reason))


def _check_precision(losses: Sequence[Tensor], params: Sequence[Tensor]) -> None:
    for name, tensors in (("losses", losses), ("params", params)):
        for index, tensor in enumerate(tensors):
            if tensor.dtype.itemsize < 4:
                raise TypeError(
                    f"products='difference': {name}[{index}] is {tensor.dtype}, and a difference "
                    "in half precision has no digits; set products='double_backward' or 'forward'"
                )


@contextmanager
def _supported(products: Products) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of which torch's "not implemented" is a kind
        text = str(error)
        if not any(phrase in text for phrase in _UNSUPPORTED):
            raise
        reason = text.splitlines()[0].rstrip(".")
        raise RuntimeError(_advice(products, reason)) from error


# what torch says where a formula is missing
_UNSUPPORTED = (
    "not implemented",
    "once_differentiable",
    "double backward",
    "does not require grad",
    "forward AD",
    "forward-mode AD",
    "jvp",
    "use_reentrant",
)


def _advice(products: Products, reason: str) -> str:
    other = {
        "double_backward": "give step() a closure and set products='forward' or 'difference'",
        "forward": "set products='double_backward', or 'difference'",
    }[products]
    if "reentrant" in reason:
        other = "checkpoint with use_reentrant=False, or set products='difference' with a closure"
    if "scaled_dot_product" in reason:
        other = "run attention under torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or " + other
    return (
        f"products={products!r}: an operator of the losses does not support it ({reason}); {other}"
    )
