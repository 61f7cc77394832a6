"""Gains of a proportional-integral controller, constant or scheduled with the learning rate."""

from __future__ import annotations

import math
from typing import NamedTuple

from pyfront._utils.arguments import number

__all__ = ["Gains", "check_settings", "growth", "largest_rate", "stable_gains"]

GREATEST = 10.0  # of the factor: the loop must not become as fast as the noise of single batches


class Gains(NamedTuple):
    """The gains of a controller.

    Example:
        >>> Gains(proportional=5.0, integral=0.0625).proportional
        5.0
    """

    proportional: float
    integral: float


def stable_gains(rate: float, *, averaging: float = 0.9, momentum: float = 0.0) -> Gains:
    """Return the largest gains with which a preference controller settles without a swing.

    A log error z moves by −rate (k z + s) per step and s by i z, seen T steps late, T = 1 + β/(1−β)
    + μ/(1−μ) for averaging β and momentum μ (of Adam: its first beta). The loop's bandwidth k·rate
    times the delay T must stay below a radian; half of that leaves a margin, k = 1 / (2 rate T).
    s² + k rate s + rate i has real roots for i ≤ k² rate / 4.

    Args:
        rate: the relative change that one step makes to a loss that has all the weight, > 0: for
            SGD, lr ‖g_j‖² / l_j, for any optimizer |Δl_j| / l_j; the largest over the tasks. It is
            proportional to the learning rate.
        averaging: β in [0, 1).
        momentum: μ in [0, 1).

    Returns:
        Gains(proportional, integral).

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> stable_gains(0.01, averaging=0.9).proportional
        5.0
    """
    rate = number("rate", rate, above=0.0)
    averaging = number("averaging", averaging, lowest=0.0, below=1.0)
    momentum = number("momentum", momentum, lowest=0.0, below=1.0)
    delay = 1.0 + averaging / (1.0 - averaging) + momentum / (1.0 - momentum)
    k = round(1.0 / (2.0 * rate * delay), 12)
    return Gains(k, k * k * rate / 4.0)


def check_settings(proportional: object, integral: object, averaging: object) -> None:
    """Raise a ``ValueError`` or ``TypeError`` that names a setting out of its range."""
    number("proportional", proportional, lowest=0.0)
    number("integral", integral, lowest=0.0)
    number("averaging", averaging, lowest=0.0, below=1.0)


def growth(rate: float, largest: float) -> float:
    """Return f = min(λ̂ / λ, 10), λ̂ the largest rate so far; 1 before any rate λ > 0.

    The losses answer a change of the weights in proportion to λ, so that gains times f leave the
    loop's margin k ρ T as it was while the learning rate falls.

    Example:
        >>> growth(0.1, 0.1), growth(0.05, 0.1), growth(0.0, 0.1), growth(0.0, 0.0)
        (1.0, 2.0, 10.0, 1.0)
    """
    if largest == 0.0:
        return 1.0
    return GREATEST if rate * GREATEST <= largest else largest / rate


def largest_rate(rates: list[object]) -> float:
    """Return the largest of rates: floats, tensors of one entry, None for a group without one.

    Example:
        >>> largest_rate([0.1, None, 0.5])
        0.5
    """
    finite = [float(rate) for rate in rates if rate is not None]  # type: ignore[arg-type]
    return max([rate for rate in finite if math.isfinite(rate)], default=0.0)
