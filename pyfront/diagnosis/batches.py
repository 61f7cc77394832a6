"""The losses of one batch after another, from whatever they were given as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, require
from pyfront.gradients.losses import loss_values, losses_present
from pyfront.optimizer.names import NamedLosses, errors_by_name, losses_by_position

__all__ = ["BatchOfLosses", "LossBatches", "loss_batches", "several"]

LossBatches: TypeAlias = "NamedLosses | Iterable[NamedLosses] | Callable[[], NamedLosses]"


class BatchOfLosses(NamedTuple):
    """The losses of one batch.

    Attributes:
        losses: of the tasks that have data.
        values: the numbers behind them, finite.
        places: which tasks these are.
        num_tasks: m, the number of all tasks.
        tasks: the names of all, or None.
        stacked: they came as one tensor, behind which the graph reaches every parameter, with zeros
            where a task has no part in it.
    """

    losses: list[Tensor]
    values: FloatArray
    places: list[int]
    num_tasks: int
    tasks: tuple[str, ...] | None
    stacked: bool

    @property
    def names(self) -> list[str]:
        """What errors call the losses."""
        return [f"losses[{place}]" for place in self.places]


def several(losses: Any) -> bool:
    """Return whether these are batches of losses, and not the losses of one batch."""
    if isinstance(losses, (Tensor, Mapping)):
        return False
    if isinstance(losses, (list, tuple)):
        return any(
            isinstance(entry, (Mapping, list, tuple))
            or (isinstance(entry, Tensor) and entry.dim() == 1 and entry.numel() > 1)
            for entry in losses
        )
    return callable(losses) or isinstance(losses, Iterable)


def loss_batches(losses: LossBatches, batches: int) -> Iterator[BatchOfLosses]:
    """Yield the losses of each batch, checked; gradients are enabled meanwhile.

    No reference to a batch is kept while the next one is made.

    Args:
        losses: as for :func:`~pyfront.diagnose`.
        batches: the most that a generator or callable makes; of a list all are taken.

    Raises:
        TypeError, ValueError: losses that cannot be used, or tasks that are not those of the first
            batch; the task is named.
    """
    tasks: tuple[str, ...] | None = None
    count: int | None = None
    number = 0
    for given in _given(losses, batches):
        by_position, tasks = losses_by_position(given, tasks, count)
        with errors_by_name(tasks), torch.enable_grad():
            found, places, m = losses_present(by_position)
            if count is not None and m != count:
                raise ValueError(
                    f"losses: expected {count} as in the first batch, got {m} in batch {number}"
                )
            values = loss_values(found) if found else np.zeros(0)
            require("losses", values, places=places)
        count, number, stacked = m, number + 1, isinstance(given, Tensor)
        del given, by_position
        yield BatchOfLosses(found, values, places, m, tasks, stacked)


def _given(losses: Any, batches: int) -> Iterator[Any]:
    if not several(losses):
        if not isinstance(losses, (list, tuple, Tensor, Mapping)):
            raise TypeError(
                "losses: expected losses, batches of them or a callable, got "
                f"{type(losses).__name__}"
            )
        yield losses
        return
    source = _calls(losses) if callable(losses) else iter(losses)
    most = len(losses) if isinstance(losses, (list, tuple)) else batches
    for _ in range(most):
        with torch.enable_grad():
            found = list(islice(source, 1))
        if not found:
            return
        yield found.pop()


def _calls(draw: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield draw()
