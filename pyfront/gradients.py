"""Losses to task gradients, and a direction back into ``.grad``: every rule about tensors.

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

from pyfront import _core, devices
from pyfront._arguments import FloatArray, vector
from pyfront.backward_pass import gradient_of
from pyfront.graph import graph_nodes, reaches

__all__ = [
    "Engine",
    "Row",
    "TaskGradients",
    "add_rows",
    "as_losses",
    "assign",
    "check_reached",
    "choose_engine",
    "direction_buffers",
    "explained",
    "loss_values",
    "scalars",
    "task_rows",
    "weighted_gradient",
    "widened",
]

Engine: TypeAlias = Literal["auto", "grad", "steal"]
Row: TypeAlias = Sequence[Tensor | None]


# ------------------------------------------------------------------------------------------ losses


def as_losses(losses: object, name: str = "losses") -> list[Tensor]:
    """The losses as a list of scalar tensors with a graph; an error names the first bad one.

    Args:
        losses: a list or tuple of scalar tensors, or a 1-D tensor [m].
        name: what errors call them.
    """
    if isinstance(losses, Tensor):
        if losses.dim() != 1:
            raise ValueError(f"{name}: expected a 1-D tensor [m], got shape {list(losses.shape)}")
        losses = list(losses.unbind())
    if not isinstance(losses, (list, tuple)):
        raise TypeError(f"{name}: expected a list of scalar tensors, got {type(losses).__name__}")
    if not losses:
        raise ValueError(f"{name}: expected at least one loss, got none")
    for task, loss in enumerate(losses):
        _check_loss(f"{name}[{task}]", loss)
    return list(losses)


def _check_loss(name: str, loss: object) -> None:
    if not isinstance(loss, Tensor):
        raise TypeError(f"{name}: expected a scalar tensor, got {type(loss).__name__}")
    if loss.numel() != 1:
        raise ValueError(f"{name}: expected a scalar, got shape {list(loss.shape)}")
    if loss.is_meta:
        raise ValueError(f"{name}: device meta holds no values")
    if loss.is_complex():
        raise TypeError(f"{name}: expected a real loss, got {loss.dtype}")
    if not loss.requires_grad:
        raise ValueError(
            f"{name} = {loss.item():g}: it has no graph; compute it from the parameters, "
            "with gradients enabled and without .detach() or .item()"
        )


def loss_values(losses: Sequence[Tensor]) -> FloatArray:
    """The numbers behind the losses, [m] float64."""
    return vector("losses", scalars(losses))


def scalars(values: Row) -> list[float]:
    """The numbers of scalar tensors, 0 for None; one wait where all are on one CUDA device."""
    there = [value for value in values if value is not None]
    if there and all(value.is_cuda and value.device == there[0].device for value in there):
        stacked = torch.stack([value.detach().reshape(()).double() for value in there])
        numbers: list[float] = devices.to_host(stacked)[0].tolist()
    else:
        numbers = [value.item() for value in there]
    found = iter(numbers)
    return [0.0 if value is None else next(found) for value in values]


# ------------------------------------------------------------------------------------- the engines


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


def widened(losses: Sequence[Tensor]) -> list[Tensor]:
    """The losses in float32 at least: a weight in their bfloat16 or float16 would be another."""
    return [loss if loss.dtype.itemsize >= 4 else loss.float() for loss in losses]


def weighted_gradient(
    losses: Sequence[Tensor],
    weights: Sequence[float],
    params: Sequence[Tensor],
    engine: Engine,
    retain_graph: bool,
    poison: Tensor | None = None,
) -> Row:
    """Σ_j w_j g_j in one backward pass: T tensors fit to be ``.grad``, or None.

    ``poison`` is 0, or NaN to make all of it NaN.
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


# -------------------------------------------------------------------------------------- the guards


class TaskGradients:
    """The Jacobian J as m rows of T blocks that the core can read in place.

    The core takes a block as a pointer and a length, so a gradient must be dense and laid out as
    the same block of the other tasks. Tensors that are not (expanded, strided otherwise, sparse,
    lazily negated) are copied, and only those.

    Args:
        rows: m sequences of T tensors or None (a zero block).

    Raises:
        TypeError: an entry that is no real floating-point tensor, or differs in dtype from its
            block in another task.
        ValueError: rows of unequal length, blocks of unequal shape, or memory that cannot be read.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows, self.table = _readable(rows)

    @property
    def tasks(self) -> int:
        """m."""
        return self.table.tasks

    def select(self, blocks: Sequence[int]) -> TaskGradients:
        """The same tasks on some of the blocks."""
        return TaskGradients([[row[block] for block in blocks] for row in self.rows])

    def blocks(self) -> list[Tensor | None]:
        """One gradient of each block that has any: its shape, dtype and layout."""
        return [
            None if task < 0 else self.rows[task][block]
            for block, task in enumerate(self.table.first_tasks)
        ]

    @property
    def device(self) -> torch.device:
        """Where the gradients are; the CPU where there is none."""
        return torch.device("cpu" if self.table.device < 0 else f"cuda:{self.table.device}")

    def gramian(self) -> FloatArray:
        """C = J Jᵀ, [m, m] float64, on the host: it waits for a CUDA device."""
        if self.table.device >= 0:
            return devices.gramian(self.table).cpu().numpy()
        return _core.gramian(self.table, torch.get_num_threads())

    def combine(self, weights: FloatArray | Tensor, out: Sequence[Tensor | None]) -> None:
        """Writes d = Jᵀ w into ``out``: T dense tensors laid out as the blocks, or None.

        Weights are an array, or for gradients on a CUDA device a float64 tensor there.
        """
        if self.table.device >= 0:
            if not isinstance(weights, Tensor):
                weights = devices.to_device(weights, self.device)
            return devices.combine(self.table, weights, out)
        weights = weights.numpy() if isinstance(weights, Tensor) else weights
        direction = _core.GradientTable([out], Tensor)
        _core.combine(self.table, weights, direction, torch.get_num_threads())


def _readable(rows: Sequence[Row]) -> tuple[list[list[Tensor | None]], _core.GradientTable]:
    plain = [list(row) for row in rows]
    table = _core.GradientTable(plain, Tensor)
    if not table.irregular:
        return plain, table
    for task, block in table.irregular:
        plain[task][block] = _copy(plain[task][block])
    table = _core.GradientTable(plain, Tensor)
    for block in {block for _, block in table.irregular}:  # two dense layouts of one block
        for row in plain:
            row[block] = _copy(row[block])
    return plain, _core.GradientTable(plain, Tensor) if table.irregular else table


def _copy(gradient: Tensor | None) -> Tensor | None:
    """The values of ``gradient`` in a C-contiguous tensor of its own."""
    if gradient is None:
        return None
    if gradient.device.type not in ("cpu", "cuda"):
        raise ValueError(f"gradients: device {gradient.device} is not supported by this build")
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    return gradient.detach().resolve_neg().clone(memory_format=torch.contiguous_format)


# ------------------------------------------------------------------------------------ back to .grad


def direction_buffers(gradients: TaskGradients, params: Sequence[Tensor]) -> list[Tensor | None]:
    """Where d goes: a parameter's own ``.grad`` if its memory fits, else a new tensor.

    A CUDA graph writes where it wrote when it was captured: into memory of its own.
    """
    captured = devices.capturing(params[0].device)
    buffers: list[Tensor | None] = []
    taken: set[int] = set()
    for p, like in zip(params, gradients.blocks(), strict=True):
        if like is None:
            buffers.append(None)
            continue
        old = p.grad
        if old is None or captured or not _fits(old, like) or old.data_ptr() in taken:
            old = torch.empty_like(like, requires_grad=False)
        taken.add(old.data_ptr())
        buffers.append(old)
    return buffers


def _fits(old: Tensor, like: Tensor) -> bool:
    return (
        type(old) is Tensor
        and old.layout is torch.strided
        and not old.requires_grad
        and old.dtype is like.dtype
        and old.shape == like.shape
        and old.stride() == like.stride()
    )


def assign(params: Sequence[Tensor], direction: Sequence[Tensor | None]) -> None:
    """Sets ``.grad``, in the parameter's own dtype and layout; None where there is no direction."""
    written = []
    for p, d in zip(params, direction, strict=True):
        if d is None:
            p.grad = None
        elif d is p.grad:
            written.append(d)
        else:
            sparse = d.layout is not torch.strided
            fits = sparse or (d.dtype is p.dtype and d.stride() == p.stride())
            p.grad = d if fits else torch.empty_like(p, requires_grad=False).copy_(d)
    if written:
        torch.autograd.graph.increment_version(written)  # autograd does not see the core write


def add_rows(a: Row, b: Row) -> Row:
    """The sum of two rows in new tensors; None counts as zero."""
    return [y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True)]
