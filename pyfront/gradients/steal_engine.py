"""Take task gradients out of ``.grad``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pyfront.backend.task_gradients import Row
from pyfront.gradients.engine import Engine, accumulated

__all__ = ["StealEngine"]


class StealEngine(Engine):
    """``backward`` once per loss; right for reentrant checkpoints and sharded parameters."""

    name = "steal"
    checkpoints = True
    stops_inside = False

    def gradients(
        self, losses: Sequence[Tensor], params: Sequence[Tensor], keep: Sequence[bool]
    ) -> Iterator[Row]:
        """Return an iterator over what each ``backward`` accumulates."""
        return map(lambda loss, kept: accumulated([loss], None, params, kept, self), losses, keep)

    def inputs(self, params: Sequence[Tensor]) -> list[Tensor] | None:
        """Return None: a reentrant checkpoint refuses a list of inputs."""
        return None
