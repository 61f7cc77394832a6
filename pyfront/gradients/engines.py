"""Losses to task gradients.

Two engines. ``"grad"`` calls :func:`torch.autograd.grad` once per loss and touches no parameter;
``"steal"`` calls ``backward`` once per loss and takes what arrives in ``.grad``, slower but right
for reentrant activation checkpointing. ``"auto"`` picks ``"grad"`` unless the graph holds a
reentrant checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pyfront.backend.task_gradients import Row
from pyfront.gradients.backward_pass import gradient_of
from pyfront.gradients.graph import graph_nodes, reaches
from pyfront.gradients.losses import widened

__all__ = [
    "Engine",
    "check_reached",
    "choose_engine",
    "explained",
    "task_rows",
    "weighted_gradient",
]

Engine: TypeAlias = Literal["auto", "grad", "steal"]


def choose_engine(
    engine: Engine, losses: Sequence[Tensor], params: Sequence[Tensor] = ()
) -> Engine:
    """``engine``, or for ``"auto"`` the one that is right for the graph of these losses.

    Args:
        engine: ``"grad"``, ``"steal"`` or ``"auto"``.
        losses: m scalar tensors.
        params: where ``"auto"`` becomes ``"grad"``, each loss must reach one of these, if any are
            given; a graph does not show which parameters are inside a reentrant checkpoint.

    Raises:
        ValueError: a loss that reaches none of ``params``.
    """
    if engine != "auto":
        return engine
    if any(node.name() == "CheckpointFunctionBackward" for node in graph_nodes(losses)):
        return "steal"
    if params:
        _check_reach(losses, params)
    return "grad"


def task_rows(
    losses: Sequence[Tensor],
    params: Sequence[Tensor],
    engine: Engine,
    retain_graph: bool,
    names: Sequence[str] | None = None,
) -> list[Row]:
    """The m task gradients, one backward pass each; ``.grad`` is as it was before.

    Args:
        losses: m scalar tensors.
        params: T tensors that require a gradient.
        engine: ``"grad"`` or ``"steal"``.
        retain_graph: keep the graph of the last loss too.
        names: what errors call the losses; ``losses[0]``, … where None.

    Returns:
        m rows of T tensors or None; they may alias each other and must not be written to.

    Raises:
        ValueError: a graph that has been freed, or that reaches none of ``params``.
    """
    rows: list[Row] = []
    gradient = gradient_of(losses, params)
    for task, loss in enumerate(losses):
        keep = retain_graph or task + 1 < len(losses)
        name = f"losses[{task}]" if names is None else names[task]
        with explained(name):
            if engine == "steal":
                row = _steal([loss], None, params, keep, engine)
            else:
                row = gradient(loss, params, keep)
        check_reached(name, row)
        rows.append(row)
    return rows


def weighted_gradient(
    losses: Sequence[Tensor],
    weights: Sequence[float],
    params: Sequence[Tensor],
    engine: Engine,
    retain_graph: bool,
    poison: Tensor | None = None,
) -> Row:
    """Σ_j w_j g_j in one backward pass: T tensors fit to be ``.grad``, or None.

    ``poison`` is 0, or NaN to make every weight NaN.
    """
    wide = widened(losses)
    roots = [torch.full_like(loss, w) for loss, w in zip(wide, weights, strict=True)]
    if poison is not None:
        roots = [root + poison.to(root.dtype) for root in roots]
    with explained("losses"):
        row = _steal(wide, roots, params, retain_graph, engine)
    check_reached("losses", row)
    return row


def _check_reach(losses: Sequence[Tensor], params: Sequence[Tensor]) -> None:
    for task, loss in enumerate(losses):
        if not reaches(loss, params):
            check_reached(f"losses[{task}]", ())


def check_reached(name: str, row: Row) -> None:
    """Raises a ``ValueError`` where a row has no gradient at all."""
    for gradient in row:
        if gradient is not None:
            return
    raise ValueError(f"{name}: the graph reaches no parameter of this optimizer")


def _steal(
    losses: Sequence[Tensor],
    roots: Sequence[Tensor] | None,
    params: Sequence[Tensor],
    retain_graph: bool,
    engine: Engine,
) -> Row:
    """Runs backward with every ``.grad`` empty, takes what arrives, and puts the old ones back."""
    saved = [p.grad for p in params]
    # a reentrant checkpoint refuses `inputs`; without it, leaves outside `params` collect .grad too
    inputs = None if engine == "steal" else list(params)
    try:
        for p in params:
            p.grad = None
        torch.autograd.backward(list(losses), roots, retain_graph=retain_graph, inputs=inputs)
        return [p.grad for p in params]
    finally:
        for p, gradient in zip(params, saved, strict=True):
            p.grad = gradient


class explained:
    """Turns autograd's errors about the user's graph into errors that name the loss."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, RuntimeError):
            return
        text = str(error)
        if "donated buffer" in text or "donated_buffer" in text:
            raise RuntimeError(
                f"{self.name}: the compiled model was first differentiated for a single backward "
                "pass and reuses its buffers, and several losses need several passes; set "
                "torch._functorch.config.donated_buffer = False before its first backward pass"
            ) from error
        if "backward through the graph a second time" in text:
            raise ValueError(
                f"{self.name}: its graph has been freed by an earlier backward pass; compute the "
                "losses anew for every step"
            ) from error
        if "modified by an inplace operation" in text:
            raise ValueError(
                f"{self.name}: a tensor of its graph has changed since it was computed, as the "
                "parameters do in a step; compute the losses anew for every step"
            ) from error
