"""The losses of one call: checked, scaled, and together with micro-batches before them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, require
from pyfront._utils.weakly import Weakly
from pyfront.backend.task_gradients import Row
from pyfront.gradients.losses import as_losses, losses_present
from pyfront.optimizer.presence import Presence

__all__ = ["Batch", "Collected", "Losses", "check_finite", "gather"]

Losses: TypeAlias = "Sequence[Tensor | None] | Tensor"


class Batch(NamedTuple):
    """The losses of a call and what is known about them.

    Attributes:
        losses: the losses to trade off of the tasks that have data, then the fixed one if there is
            one; scaled.
        presence: the tasks that have data in this call.
        unit: the gradient scaler's factor on ``losses``, 1 without one.
        scaled: a gradient scaler is at work, and what is not finite does not raise.
        names: what errors call the losses.
    """

    losses: list[Tensor]
    presence: Presence
    unit: float
    scaled: bool
    names: list[str]

    @property
    def tasks(self) -> int:
        """The number of tasks that have data in this call."""
        return len(self.presence.places)


class Collected(NamedTuple):
    """Task gradients and losses of micro-batches that wait for the last one.

    Attributes:
        rows: one per task that has had data.
        values: their unscaled losses, where the step's arithmetic keeps them.
        unit: the gradient scaler's factor on the rows.
        presence: these tasks.
        params: the parameters that the rows are of.
        tasks: the names of all tasks, as the losses had them, or None.
    """

    rows: list[Row]
    values: FloatArray | Tensor
    unit: float
    presence: Presence
    params: Weakly
    tasks: tuple[str, ...] | None

    def values_plus(self, values: FloatArray | Tensor, places: Sequence[int]) -> list[Any]:
        """Return the sums of the losses, and further values as they are."""
        sums = dict(zip(self.presence.places, self.values, strict=True))
        for place, value in zip(places, values, strict=False):
            sums[place] = value + sums[place] if place in sums else value
        return [sums[place] for place in sorted(sums)] + list(values[len(places) :])


def gather(
    losses: Losses,
    scaler: torch.amp.GradScaler | None,
    fixed: Tensor | None,
    collected: Collected | None,
) -> tuple[Batch, list[Tensor]]:
    """Check the losses and scale them.

    Args:
        losses: m scalar tensors or None, or a 1-D tensor [m].
        scaler: a gradient scaler.
        fixed: one more loss, that is not traded off.
        collected: what earlier micro-batches left.

    Returns:
        The batch, and its losses without the scale.

    Raises:
        ValueError, TypeError: the first bad loss; it is named.
    """
    plain, places, tasks = losses_present(losses)
    if fixed is not None:
        plain += as_losses([fixed], name="fixed")
    unit, scaled = 1.0, plain
    if scaler is not None:
        scaled = [scaler.scale(loss) for loss in plain]
        unit = float(scaler.get_scale())
    if collected is not None:
        _check_same(collected, tasks, unit)
    presence = Presence(places, tasks)
    names = presence.names() + ["fixed"] * (len(plain) - len(places))
    return Batch(scaled, presence, unit, scaler is not None, names), plain


def check_finite(values: FloatArray, places: Sequence[int], scaled: bool) -> bool:
    """Return whether all losses are finite.

    Args:
        values: the losses to trade off, then the fixed one if there is one.
        places: of the tasks that the losses to trade off belong to.
        scaled: a gradient scaler is at work.

    Raises:
        ValueError: a value that is not, without a scaler; it is named.
    """
    if all(map(math.isfinite, values.tolist())):
        return True
    if not scaled:
        require("losses", values[: len(places)], places=places)
        require("fixed", values[len(places) :])
    return False


def _check_same(before: Collected, tasks: int, unit: float) -> None:
    if before.presence.tasks != tasks:
        raise ValueError(
            f"losses: expected {before.presence.tasks} as in accumulate(), got {tasks}"
        )
    if before.unit != unit:
        raise ValueError(
            f"scaler: the losses are scaled by {unit:g} here and by {before.unit:g} in accumulate()"
        )
