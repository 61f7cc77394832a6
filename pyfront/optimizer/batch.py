"""The losses of one call: checked, scaled, and together with micro-batches before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, require
from pyfront.backend.task_gradients import Row
from pyfront.gradients.losses import as_losses

__all__ = ["Batch", "Collected", "Losses", "check_finite", "gather"]

Losses: TypeAlias = "Sequence[Tensor] | Tensor"


class Batch(NamedTuple):
    """The losses of a step and what is known about them.

    Attributes:
        losses: m losses to trade off, then the fixed one if there is one; scaled.
        tasks: m.
        unit: the gradient scaler's factor on ``losses``, 1 without one.
        scaled: a gradient scaler is at work, and what is not finite does not raise.
    """

    losses: list[Tensor]
    tasks: int
    unit: float
    scaled: bool

    @property
    def names(self) -> list[str]:
        """What errors call the losses."""
        names = [f"losses[{task}]" for task in range(self.tasks)]
        return names + ["fixed"] * (len(self.losses) - self.tasks)


class Collected(NamedTuple):
    """Task gradients and losses of micro-batches that wait for the last one.

    Attributes:
        rows: one per loss.
        values: the unscaled losses, [m], where the step's arithmetic keeps them.
        unit: the gradient scaler's factor on the rows.
    """

    rows: list[Row]
    values: FloatArray | Tensor
    unit: float


def gather(
    losses: Losses,
    scaler: torch.amp.GradScaler | None,
    fixed: Tensor | None,
    collected: Collected | None,
) -> tuple[Batch, list[Tensor]]:
    """Check the losses and scale them.

    Args:
        losses: m scalar tensors, or a 1-D tensor [m].
        scaler: a gradient scaler.
        fixed: one more loss, that is not traded off.
        collected: what earlier micro-batches left.

    Returns:
        The batch, and its losses without the scale.

    Raises:
        ValueError, TypeError: the first bad loss; it is named.
    """
    plain = as_losses(losses)
    tasks = len(plain)
    if fixed is not None:
        plain += as_losses([fixed], name="fixed")
    unit, scaled = 1.0, plain
    if scaler is not None:
        scaled = [scaler.scale(loss) for loss in plain]
        unit = float(scaler.get_scale())
    if collected is not None:
        _check_same(collected, tasks, unit)
    return Batch(scaled, tasks, unit, scaler is not None), plain


def check_finite(values: FloatArray, tasks: int, scaled: bool) -> bool:
    """Return whether all losses are finite.

    Args:
        values: the losses to trade off, then the fixed one if there is one.
        tasks: m.
        scaled: a gradient scaler is at work.

    Raises:
        ValueError: a value that is not, without a scaler; it is named.
    """
    if not scaled:
        require("losses", values[:tasks])
        require("fixed", values[tasks:])
        return True
    return bool(np.isfinite(values).all())


def _check_same(before: Collected, tasks: int, unit: float) -> None:
    if len(before.values) != tasks:
        raise ValueError(f"losses: expected {len(before.values)} as in accumulate(), got {tasks}")
    if before.unit != unit:
        raise ValueError(
            f"scaler: the losses are scaled by {unit:g} here and by {before.unit:g} in accumulate()"
        )
