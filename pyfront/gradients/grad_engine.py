"""Take task gradients as :func:`torch.autograd.grad` does."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pyfront.gradients.engine import Engine, GradientOf
from pyfront.gradients.one_gradient import gradient_of

__all__ = ["GradEngine"]


class GradEngine(Engine):
    """``torch.autograd.grad`` once per loss; touches no ``.grad`` and runs no hook of a leaf."""

    name = "grad"
    checkpoints = False
    stops_inside = True

    def gradient_of(self, losses: Sequence[Tensor], params: Sequence[Tensor]) -> GradientOf:
        """Return the fastest function that gives autograd's bits."""
        return gradient_of(losses, params)

    def inputs(self, params: Sequence[Tensor]) -> list[Tensor] | None:
        """Return the parameters, so that no other leaf collects a gradient."""
        return list(params)
