"""Form C column by column, so that no m gradients are in memory at once.

Column j is C e_j = J g_j: one backward pass for g_j, then the derivatives of all losses along it.
These come from one record of a backward pass (:class:`~pyfront.gradients.product_ways.Record`),
which needs the losses' graph alone, or from forward mode, which needs a closure that computes the
losses again. The direction takes one more, weighted backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.task_gradients import Row, TaskGradients, as_real
from pyfront.gradients.engine import check_reached, explained
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.losses import scalars
from pyfront.gradients.product_checks import check_columns
from pyfront.gradients.product_ways import Record, forward_slopes
from pyfront.gradients.replay import Replay

__all__ = ["ColumnsEngine"]

Slopes: TypeAlias = "Callable[[Row], FloatArray]"  # J t, [m], for T tensors or None


class ColumnsEngine(GradEngine):
    """C by its columns: one gradient in memory in place of m, at about twice the passes.

    Off the diagonal C is as exact as derivatives in the parameters' dtype are, and the two values
    of each pair are averaged; the diagonal is ‖g_j‖² in float64. Where the two ways to a number
    differ, a derivative is hidden, and the task is named.
    """

    name = "columns"
    keeps_rows = False

    def rows(self, losses: Sequence[Tensor], params: Sequence[Tensor], **_: object) -> list[Row]:
        """Refuse: rows are what this engine does not keep.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "engine='columns': accumulate() adds up the task gradients, which this engine does not "
            "keep; set engine='auto', or give the losses of the whole batch to one call"
        )

    def squares(
        self,
        losses: Sequence[Tensor],
        params: Sequence[Tensor],
        inside: Sequence[int] | None,
        names: Sequence[str],
        replay: Replay | None = None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return C over the blocks ``inside``, [m, m], and ‖g_j‖² over all, [m]; float64.

        The graph of the losses is kept, for the direction.

        Args:
            losses: m scalar tensors.
            params: T tensors that require a gradient.
            inside: blocks of ``params``, None for all.
            names: what errors call the losses.
            replay: computes the losses again, for forward mode; the record is used where None.

        Raises:
            ValueError: a graph that has been freed, or that reaches none of ``params``; a closure
                that returns other losses.
            RuntimeError: an operator that has no derivative of the kind needed, or hides it.
        """
        m = len(losses)
        slopes = _forward(losses, params, replay) if replay else _recorded(losses, params)
        gradients = self.gradients(losses, params, [True] * m)
        found, diagonal, norms = np.zeros((m, m)), np.zeros(m), np.zeros(m)
        for task, name in enumerate(names[:m]):
            with explained(name):
                row = next(gradients)
            check_reached(name, row)
            gradient = TaskGradients([as_real(row)])
            norms[task] = diagonal[task] = gradient.gramian()[0, 0]
            if inside is not None:
                diagonal[task] = gradient.select(inside).gramian()[0, 0]
                row = [g if block in inside else None for block, g in enumerate(row)]
            found[:, task] = slopes(row)
            del row, gradient
        check_columns(_what(replay), found, diagonal, losses, params)
        c = 0.5 * (found + found.T)
        np.fill_diagonal(c, diagonal)
        return c, norms


def _what(replay: Replay | None) -> str:
    """Return what errors call the way."""
    return "columns" if replay is None else "columns of a closure"


def _recorded(losses: Sequence[Tensor], params: Sequence[Tensor]) -> Slopes:
    record = Record(losses, params, np.ones(len(losses)), _what(None), keep=True)
    record.forget_direction()
    return lambda row: np.array(scalars(record.slopes(row, keep=True)))


def _forward(losses: Sequence[Tensor], params: Sequence[Tensor], replay: Replay) -> Slopes:
    return lambda row: forward_slopes(replay, params, row, losses, _what(replay))[0]
