"""What a step asks of the processes that train one model; here of a single one.

Where several processes enter a step: the losses and what is wrong with them (:meth:`agree`), rows
(:meth:`averaged`), inner products (:meth:`squares`), products (:meth:`mean`), the weights
(:meth:`same_weights`) and the way back to parameters (:meth:`placed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import numpy as np
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend.task_gradients import Row, TaskGradients
from pyfront.distributed.header import Header

__all__ = ["ALONE", "Arrived", "Memory", "Processes"]

Arrived: TypeAlias = "Callable[[Row], Row]"  # takes a row when its pass ends
Memory: TypeAlias = "dict[tuple[int, int], Tensor]"  # of buckets, by row and place


class Processes:
    """One process that trains a model of its own; subclasses are several that train one.

    Attributes:
        several: whether other processes take part.
        sharded: whether each holds a part of the parameters.
        blocks: T, the number of parameters of a row; features follow them.
    """

    several = False
    sharded = False
    blocks = 0
    rank = 0

    def equal(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the parameters that must have the same values in all processes."""
        return ()

    def entering(self) -> AbstractContextManager[None]:
        """Raise an error of the block on every process, before the first collective of a step."""
        return nullcontext()

    def agree(self, header: Header) -> list[Header]:
        """Return the headers of all processes.

        Raises:
            ValueError: they do not agree; the ranks and what differs are named.
        """
        return [header]

    def averaged(
        self,
        compute: Callable[[Arrived], Sequence[Row]],
        count: int,
        roots: Sequence[Sequence[Tensor]] = (),
        memory: Memory | None = None,
    ) -> list[Row]:
        """Return rows, averaged over the processes while they are computed.

        Args:
            compute: gives each row to the function that it is given, and returns what that returns.
            count: the number of rows.
            roots: for each row the losses at which its backward pass begins, where one pass over
                the parameters makes the row; its parts are then averaged within the pass.
            memory: of an earlier call, which the rows of this one may take; rows are in new memory
                where None.
        """
        return list(compute(tuple))  # as they are

    def squares(
        self, gradients: TaskGradients, inside: list[int] | None, outside: list[int] | None
    ) -> tuple[FloatArray, FloatArray]:
        """Return C over the blocks ``inside`` (None for all), and squared norms over both parts."""
        c, norms = local_squares(gradients, inside, outside)
        return c, c.diagonal() + norms if outside else c.diagonal()

    def mean(self, compute: Callable[[], FloatArray], size: int) -> FloatArray:
        """Return the mean over the processes of ``size`` numbers."""
        return compute()

    def same_weights(self, weights: FloatArray) -> FloatArray:
        """Return the first process's weights, so that all apply the same bits."""
        return weights

    def all_true(self, flag: bool) -> bool:
        """Return whether the flag is set on every process that holds another part."""
        return flag

    def local(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the parameters' parts in this process."""
        return params

    def placed(self, params: Sequence[Tensor], direction: Row) -> Row:
        """Return a direction of local parts as what the parameters take as ``.grad``."""
        return direction


def local_squares(
    gradients: TaskGradients, inside: list[int] | None, outside: list[int] | None
) -> tuple[FloatArray, FloatArray]:
    """Return C over ``inside`` and the squared norms over ``outside``, of what is in memory."""
    c = (gradients if inside is None else gradients.select(inside)).gramian()
    if not outside:
        return c, np.zeros(len(c))
    return c, np.diagonal(gradients.select(outside).gramian()).copy()


ALONE = Processes()
