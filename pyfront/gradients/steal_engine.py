"""Take task gradients out of ``.grad``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pyfront.backend.task_gradients import Row
from pyfront.gradients.engine import Engine, GradientOf, accumulated

__all__ = ["StealEngine"]


class StealEngine(Engine):
    """``backward`` once per loss; right for reentrant checkpoints and sharded parameters."""

    name = "steal"
    checkpoints = True
    stops_inside = False

    def gradient_of(self, losses: Sequence[Tensor], params: Sequence[Tensor]) -> GradientOf:
        """Return a function that takes what one ``backward`` accumulates."""

        def gradient(loss: Tensor, params: Sequence[Tensor], retain_graph: bool) -> Row:
            return accumulated([loss], None, params, retain_graph, self)

        return gradient

    def inputs(self, params: Sequence[Tensor]) -> list[Tensor] | None:
        """Return None: a reentrant checkpoint refuses a list of inputs."""
        return None
