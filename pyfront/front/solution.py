"""`Solution`: the record of one trained model."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["SPLIT_NAMES", "Solution", "Split", "finite_number", "finite_numbers"]

Split = Literal["train", "test"]
SPLIT_NAMES = {"train": "training", "test": "test"}


def finite_number(name: str, value: Any) -> float:
    """``value`` as a float; a ``ValueError`` names anything that is not a finite number."""
    if isinstance(value, bool | str | bytes):
        raise ValueError(f"{name} = {value!r}: expected a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} = {value!r}: expected a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} = {number}: expected a finite number")
    return number


def finite_numbers(name: str, values: Any) -> tuple[float, ...]:
    """``values`` as floats, at least one; errors as `finite_number`, with the index."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{name} = {values!r}: expected a sequence of numbers")
    out = tuple(finite_number(f"{name}[{index}]", value) for index, value in enumerate(values))
    if not out:
        raise ValueError(f"{name}: expected at least one number")
    return out


@dataclass(frozen=True, kw_only=True)
class Solution:
    """One trained model: what was asked for, what came out, and where the model lies.

    Args:
        method: the name of the method.
        train_losses: l on the training set, m finite numbers.
        test_losses: l on the test set, m finite numbers, or None.
        preference: r, m numbers ≥ 0, one of them > 0, or None for a method that takes none.
        metrics: any further finite numbers by name (accuracies, seconds, …).
        checkpoint: the path of the file that holds the trained model, or None. It is kept as it was
            given: nothing looks whether the file is there.

    Raises:
        ValueError: a number that is not finite, a preference that is < 0 or all zero, or differing
            lengths; names the field, the index and the value.

    Example:
        >>> Solution(method="EPO", preference=[0.5, 0.5], train_losses=[0.2, 0.2]).num_tasks
        2
    """

    method: str
    train_losses: Sequence[float]
    test_losses: Sequence[float] | None = None
    preference: Sequence[float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        """Check and freeze what was given."""
        for name, optional in (("method", False), ("checkpoint", True)):
            value = getattr(self, name)
            if not (isinstance(value, str) or (optional and value is None)):
                raise ValueError(f"{name} = {value!r}: expected a string")
        object.__setattr__(self, "train_losses", finite_numbers("train_losses", self.train_losses))
        for name in ("test_losses", "preference"):
            values = getattr(self, name)
            if values is None:
                continue
            checked = finite_numbers(name, values)
            if len(checked) != self.num_tasks:
                raise ValueError(f"{name}: {len(checked)} values for {self.num_tasks} tasks")
            object.__setattr__(self, name, checked)
        for index, value in enumerate(self.preference or ()):
            if value < 0.0:
                raise ValueError(f"preference[{index}] = {value}: expected a number ≥ 0")
        if self.preference is not None and not any(self.preference):
            raise ValueError(f"preference = {self.preference}: expected at least one number > 0")
        if not isinstance(self.metrics, Mapping):
            raise ValueError(f"metrics = {self.metrics!r}: expected numbers by name")
        metrics = {str(k): finite_number(f"metrics[{k!r}]", v) for k, v in self.metrics.items()}
        object.__setattr__(self, "metrics", metrics)

    @property
    def num_tasks(self) -> int:
        """m."""
        return len(self.train_losses)

    def losses(self, split: Split) -> Sequence[float] | None:
        """l on one split; None where the test losses were not measured.

        Raises:
            ValueError: a split that is neither "train" nor "test".
        """
        if split not in ("train", "test"):
            raise ValueError(f"split = {split!r}: expected 'train' or 'test'")
        return self.train_losses if split == "train" else self.test_losses
