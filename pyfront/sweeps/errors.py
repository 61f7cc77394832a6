"""The error of a sweep in which runs failed."""

from __future__ import annotations

from collections.abc import Sequence

from pyfront.front.front import Front
from pyfront.sweeps.runs import RunKey
from pyfront.sweeps.training import Failure

__all__ = ["SweepError"]


class SweepError(RuntimeError):
    """Raised when runs of a sweep failed; the others are in `front`.

    Args:
        front: the solutions of the runs that finished, in order.
        failures: the runs that failed and the reasons, in order.

    Example:
        >>> import pyfront
        >>> def train(preference):
        ...     raise RuntimeError("out of memory")
        >>> try:
        ...     pyfront.sweep(train, [[0.5, 0.5]], workers=0)
        ... except SweepError as error:
        ...     len(error.front), len(error.failures), str(error).splitlines()[0]
        (0, 1, '1 of 1 runs failed')
    """

    def __init__(self, front: Front, failures: Sequence[Failure]) -> None:
        """See the class."""
        super().__init__(front, failures)
        self.front = front
        self.failures = tuple(failures)

    def __str__(self) -> str:
        """List every reason with the preferences that failed for it."""
        count = len(self.front) + len(self.failures)
        by_reason: dict[str, list[RunKey]] = {}
        for failure in self.failures:
            by_reason.setdefault(failure.reason.rstrip(), []).append(failure.preference)
        parts = [f"{', '.join(map(str, runs))}:\n{why}" for why, runs in by_reason.items()]
        return "\n\n".join([f"{len(self.failures)} of {count} runs failed", *parts])
