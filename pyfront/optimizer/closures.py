"""What a closure returned: the losses, or the sign that the gradient is in ``.grad``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyfront.gradients.engines import keeps_rows
from pyfront.gradients.replay import Replay

if TYPE_CHECKING:
    from pyfront.optimizer.method import Method

__all__ = ["evaluated"]


def evaluated(method: Method, losses: Any) -> Any:
    """Return losses as they are, and those of a closure; a replay where products may need it.

    None where a closure returned None, or one number after ``backward`` on a scalar of
    ``scalarize``: the gradient is there.

    Raises:
        TypeError: a closure that returned one number otherwise, as closures of torch do.
    """
    if not callable(losses) or isinstance(losses, (Tensor, Replay)):
        return losses
    replay = Replay(losses)
    with method.processes().entering():
        found = replay.first()
    if isinstance(found, (int, float)) or (isinstance(found, Tensor) and found.dim() == 0):
        if method._shared.scalars.arrived:
            return None
        if not (isinstance(found, Tensor) and found.requires_grad and method.num_tasks == 1):
            raise TypeError(
                "closure: it returned one number; return the losses, [l1, l2, ...], and leave "
                "zero_grad() and backward() to step(), or call opt.scalarize(losses).backward() "
                "in it (as Lightning does with what training_step returns, unless "
                "automatic_optimization is False)"
            )
        return [found]
    replays = method.needs == "products" or not keeps_rows(method.engine)
    return replay if replays and found is not None else found
