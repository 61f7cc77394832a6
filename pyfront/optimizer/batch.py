"""What one call of backward() works on: checked losses, and the Gramian of their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, require
from pyfront.backend.task_gradients import Row, TaskGradients, add_rows, direction_buffers
from pyfront.gradients import engines as grad
from pyfront.gradients.engines import Engine
from pyfront.gradients.features import Split
from pyfront.gradients.losses import as_losses, loss_values

__all__ = [
    "Accumulated",
    "Batch",
    "Losses",
    "all_finite",
    "check_gramian",
    "combined",
    "finite",
    "finite_gramian",
    "gather",
    "parted",
    "refuse_several_processes",
    "task_rows",
]

Losses: TypeAlias = "Sequence[Tensor] | Tensor"


class Batch(NamedTuple):
    """The losses of a step and what is known about them."""

    losses: list[Tensor]  # m losses to trade off, then the fixed one if there is one; scaled
    values: FloatArray  # [m], unscaled, with those of micro-batches before
    unit: float  # the gradient scaler's factor on `losses`, 1 without one
    scaled: bool  # by a gradient scaler: what is not finite does not raise
    sound: bool  # every value is finite
    preference: FloatArray | None = None  # [m]
    due: bool = True  # decide on new weights
    one_off: bool = False  # with a preference of this call alone: nothing is carried


class Accumulated(NamedTuple):
    """Task gradients and losses of micro-batches that wait for the last one."""

    rows: list[Row]
    values: FloatArray  # [m]
    unit: float

    def plus(self, rows: list[Row]) -> list[Row]:
        """The sum with the rows of the next micro-batch; what only those have stays as it is."""
        if len(self.rows[0]) != len(rows[0]):
            raise ValueError("losses: the parameters have changed since accumulate()")
        sums = [add_rows(a, b) for a, b in zip(self.rows, rows, strict=False)]
        return sums + rows[len(sums) :]


def gather(
    losses: Losses,
    scaler: torch.amp.GradScaler | None,
    fixed: Tensor | None,
    accumulated: Accumulated | None,
) -> Batch:
    """Checks the losses and scales them; a ``ValueError`` or ``TypeError`` names the first bad one.

    Args:
        losses: m scalar tensors, or a 1-D tensor [m].
        scaler: a gradient scaler; with it, values that are not finite pass.
        fixed: one more loss, that is not traded off.
        accumulated: what earlier micro-batches left.

    Raises a ``RuntimeError`` where torch.distributed runs more than one process.
    """
    refuse_several_processes()
    roots = as_losses(losses)
    values = loss_values(roots)
    sound = finite("losses", values, scaler)
    if fixed is not None:
        extra = as_losses([fixed], name="fixed")
        sound &= finite("fixed", loss_values(extra), scaler)
        roots += extra
    unit = 1.0
    if scaler is not None:
        roots = [scaler.scale(loss) for loss in roots]
        unit = float(scaler.get_scale())
    if accumulated is not None:
        _check_same(accumulated, values, unit)
        values = values + accumulated.values
        sound &= bool(np.isfinite(values).all())
    return Batch(roots, values, unit, scaler is not None, sound)


def finite(name: str, values: FloatArray, scaler: torch.amp.GradScaler | None) -> bool:
    """Whether all values are finite; an error names the first that is not, but for a scaler."""
    if scaler is None:
        require(name, values)
        return True
    return bool(np.isfinite(values).all())


def refuse_several_processes() -> None:
    """Raises a ``RuntimeError`` where torch.distributed runs more than one process.

    Local gradients are not the whole batch's: each process would go its own way, silently.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if (ranks := distributed.get_world_size()) > 1:
        raise RuntimeError(
            f"torch.distributed runs {ranks} processes: training one model in several processes is "
            "not supported yet"
        )


def _check_same(before: Accumulated, values: FloatArray, unit: float) -> None:
    if before.values.size != values.size:
        raise ValueError(
            f"losses: expected {before.values.size} as in accumulate(), got {values.size}"
        )
    if before.unit != unit:
        raise ValueError(
            f"scaler: the losses are scaled by {unit:g} here and by {before.unit:g} in accumulate()"
        )


def finite_gramian(
    gradients: TaskGradients, left_out: list[int] | None, batch: Batch
) -> FloatArray:
    """C of the m losses in their own unit, without the blocks that are ``left_out``.

    Where a gradient is not finite, in any block or of the fixed loss: a ``ValueError`` that names
    it, or all NaN for a batch under a gradient scaler.
    """
    if left_out is None:
        c = gradients.gramian()
        diagonal = np.diagonal(c)
    else:
        inside, rest = parted(gradients, left_out)
        c = inside.gramian()
        diagonal = np.diagonal(c) + np.diagonal(rest.gramian())
    return check_gramian(c, diagonal, batch)


def parted(gradients: TaskGradients, left_out: list[int]) -> tuple[TaskGradients, TaskGradients]:
    """The blocks that C is over, and those that are ``left_out``."""
    kept = [block for block in range(gradients.table.blocks) if block not in left_out]
    if not kept:
        raise ValueError("gramian_over='shared': no parameter is reached by two losses")
    return gradients.select(kept), gradients.select(left_out)


def check_gramian(c: FloatArray, diagonal: FloatArray, batch: Batch) -> FloatArray:
    """C of the m losses as :func:`finite_gramian` gives it, for squared norms over all blocks."""
    m = batch.values.size
    if batch.sound and all(map(math.isfinite, diagonal.tolist())):
        traded = c if c.shape[0] == m else np.ascontiguousarray(c[:m, :m])
        return traded if batch.unit == 1.0 else traded / batch.unit**2
    if batch.scaled:
        return np.full((m, m), np.nan)
    task = int(np.flatnonzero(~np.isfinite(diagonal))[0])
    name = f"losses[{task}] = {batch.values[task]:g}" if task < m else "fixed"
    raise ValueError(f"{name}: its gradient is not finite (squared norm {diagonal[task]:g})")


def all_finite(tensors: Sequence[Tensor | None]) -> bool:
    """True if no tensor holds NaN or infinity; sparse ones are judged by their values."""
    values = [t.coalesce().values() if t is not None and t.is_sparse else t for t in tensors]
    return bool(np.isfinite(TaskGradients([values]).gramian()).all())  # one pass, no overflow


def task_rows(
    batch: Batch, params: Sequence[Tensor], engine: Engine, split: Split | None, retain_graph: bool
) -> list[Row]:
    """The m task gradients and the fixed one: rows of T blocks, of T + F if the split is a bound.

    The fixed loss is not split: it may reach the trunk's parameters beside the features.
    """
    m = batch.values.size
    names = [f"losses[{task}]" for task in range(m)] + ["fixed"]
    if split is None:
        return grad.task_rows(batch.losses, params, engine, retain_graph, names)
    rows = split.rows(names, retain_graph or len(batch.losses) > m)
    for row in grad.task_rows(batch.losses[m:], params, engine, True, names[m:]):
        rows.append([*row, *[None] * (len(rows[0]) - len(params))])
    return rows


def combined(
    gradients: TaskGradients,
    weights: FloatArray,
    params: Sequence[Tensor],
    own: list[int] | None,
    split: Split | None,
    retain_graph: bool,
) -> Row:
    """d = Jᵀ w, T tensors or None; the blocks ``own`` get their task's plain gradient instead.

    Where the split is a bound, the trunk's part is one pass on from Σ_j w_j ∂l_j/∂z.
    """
    if split is None or not split.bound:
        return _combined(gradients, weights, params, own)
    count = len(params)
    heads = _combined(gradients.select(range(count)), weights, params, own)
    at_features = gradients.select(range(count, count + len(split.features)))
    v = _combined(at_features, weights, [z.detach() for z in split.features], None)
    return add_rows(heads, split.trunk_gradient(v, retain_graph))


def _combined(
    gradients: TaskGradients, weights: FloatArray, targets: Sequence[Tensor], own: list[int] | None
) -> list[Tensor | None]:
    out = direction_buffers(gradients, targets)
    if own is None:
        gradients.combine(weights, out)
        return out
    shared = [block for block in range(len(targets)) if block not in own]
    plain = np.where(np.isnan(weights), np.nan, 1.0)
    for blocks, w in ((shared, weights), (own, plain)):
        gradients.select(blocks).combine(w, [out[block] for block in blocks])
    return out
