"""Adam on the few numbers that a method trains beside the model."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import torch

from pyfront._utils.arguments import BoolArray, FloatArray, number

__all__ = ["Moments", "adam_step", "check_rate", "current_rate"]

DECAYS = (0.9, 0.999)
SMALL = 1e-8  # both as in torch.optim.Adam
LARGEST = 1e150  # of a gradient: its square must not overflow


class Moments(TypedDict):
    """What Adam remembers, as JSON knows it."""

    steps: list[int]  # [m]
    first: list[float]  # [m]
    second: list[float]  # [m]


def adam_step(
    values: FloatArray,
    gradient: FloatArray,
    rate: float,
    moments: Moments | None,
    where: BoolArray | None = None,
) -> tuple[FloatArray, Moments]:
    """Return one step of ``torch.optim.Adam`` with its default options, in float64.

    Args:
        values: what is trained, [m].
        gradient: its gradient, [m].
        rate: the learning rate, ≥ 0.
        moments: what the last step returned; None for the first.
        where: [m], False for values that are not trained now; None is all.

    Returns:
        The values after the step, [m], and the moments for the next one.

    Example:
        >>> values, moments = adam_step(np.zeros(2), np.array([3.0, -1e4]), 0.1, None)
        >>> values.round(6).tolist()
        [-0.1, 0.1]

    Source: Kingma and Ba 2015, algorithm 1.
    """
    now = np.ones(values.size, dtype=bool) if where is None else where
    nothing = [0.0] * values.size
    steps, *before = (
        ([0] * values.size, nothing, nothing)
        if moments is None
        else (moments["steps"], moments["first"], moments["second"])
    )
    steps = [int(count) + int(one) for count, one in zip(steps, now, strict=True)]
    gradient = np.clip(gradient, -LARGEST, LARGEST)
    first, second = (np.array(kept) for kept in before)
    first = np.where(now, DECAYS[0] * first + (1.0 - DECAYS[0]) * gradient, first)
    second = np.where(now, DECAYS[1] * second + (1.0 - DECAYS[1]) * gradient**2, second)
    unbiased = [np.array([1.0 - decay ** max(count, 1) for count in steps]) for decay in DECAYS]
    scale = np.sqrt(second / unbiased[1]) + SMALL
    stepped = np.where(now, values - rate * (first / unbiased[0]) / scale, values)
    return stepped, {"steps": steps, "first": first.tolist(), "second": second.tolist()}


def check_rate(rate: float | None, base: torch.optim.Optimizer) -> float | None:
    """Return a learning rate as a float; None, the base's own, needs a base that has one."""
    if rate is None:
        if "lr" not in base.param_groups[0]:
            raise ValueError(f"lr = None: {type(base).__name__} has none to share; give a number")
        return None
    return number("lr", rate, lowest=0.0)


def current_rate(rate: float | None, base: torch.optim.Optimizer) -> float:
    """Return ``rate``, or the present one of the base's first group."""
    return float(base.param_groups[0]["lr"]) if rate is None else rate
