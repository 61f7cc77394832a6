"""What one call of ``backward`` was given."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyfront._utils.arguments import VectorsLike
from pyfront.gradients.features import Features
from pyfront.gradients.replay import Replay
from pyfront.optimizer.agreement import Share
from pyfront.optimizer.batch import Losses

__all__ = ["Call"]


@dataclass
class Call:
    """What one call of ``backward`` was given; its arguments are explained there.

    Attributes:
        losses: m scalar tensors or a 1-D tensor [m].
        preference: what this call alone decides towards; None for the optimizer's own.
        scaler, fixed, features, retain_graph: as for ``backward``.
        second: the same m losses on an independent batch.
        replay: computes the losses again.
        tasks: the names of the tasks, None where they have none.
        share: this process's share of the batch.
    """

    losses: Losses
    preference: VectorsLike | None = None
    scaler: torch.amp.GradScaler | None = None
    fixed: Tensor | None = None
    features: Features | None = None
    retain_graph: bool = False
    second: Losses | None = None
    replay: Replay | None = None
    tasks: tuple[str, ...] | None = None
    share: Share | None = None
