"""The multiple-gradient descent algorithm."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend import cuda as devices
from pyfront.backend.cuda import Decision
from pyfront.backend.solvers import min_norm
from pyfront.methods._unit_gradients import direction_is_zero
from pyfront.optimizer.arithmetic import DecidesOnDevice
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, one_of
from pyfront.report import Report

__all__ = ["MGDA"]

Normalization = Literal["l2", "loss", "loss+"]


class MGDA(MultiTaskOptimizer, DecidesOnDevice):
    """Steps along the min-norm point of the convex hull of the task gradients.

    w minimises wᵀ C w over the simplex, exactly; d = Jᵀ w lowers every loss to first order, and is
    zero at Pareto-stationary points, status ``"stationary"``: also where one task's gradient is. A
    promise about d: Adam and other bases that change it let losses rise (``track_rises`` counts).

    Args:
        base: the optimizer that makes the step, or a list of them.
        normalization: None, or solve for gradients g_j / s_j with s_j = ‖g_j‖ (``"l2"``), the
            loss l_j (``"loss"``), or l_j ‖g_j‖ (``"loss+"``). The weights are then w_j / s_j, so
            that d is the min-norm point of the normalised gradients, and do not sum to 1. s_j = 0
            counts as 1.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: an unknown ``normalization``.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = MGDA(torch.optim.SGD([x], lr=0.1))
        >>> opt.step([x[0] ** 2, 3 * x[1] ** 2]).weights.round(decimals=12).tolist()
        [0.9, 0.1]

    Source: Sener and Koltun 2018, eq. (3); the normalised form differs from their code, which
    applies the normalised problem's weights to the plain losses.
    """

    normalization = Option[Normalization | None](one_of(None, "l2", "loss", "loss+"))

    def __init__(
        self,
        base: Base,
        *,
        normalization: Normalization | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, **common)
        self.normalization = normalization

    def check_losses(self, losses: FloatArray) -> None:
        """Require losses that are finite, and ≥ 0 where they normalise."""
        lowest = 0.0 if self.normalization in ("loss", "loss+") else -np.inf
        self.require_losses(losses, lowest=lowest, hint="; normalization divides by the losses")

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the min-norm weights of C_ij / (s_i s_j), divided by s."""
        assert gramian is not None
        if self.normalization is None:
            weights, gap, status = min_norm(gramian)
        else:
            s = self._scales(losses, gramian)
            weights, gap, status = min_norm(gramian / s[:, None] / s)
            weights = weights / s
        if status == "ok" and direction_is_zero(gramian, weights):
            status = "stationary"
        return Report(weights=torch.from_numpy(weights), gap=gap, status=status)

    def decide_on_device(
        self, losses: Tensor, gramian: Tensor | None, preference: FloatArray | None
    ) -> Decision:
        """Decide on the device; a negative loss that normalises makes the weights NaN."""
        assert gramian is not None
        if self.normalization is None:
            return devices.min_norm(gramian, losses)
        norms = gramian.diagonal().sqrt()
        sound = losses + 0.0 * losses.sqrt() if self.normalization != "l2" else losses
        s = {"l2": norms, "loss": sound, "loss+": sound * norms}[self.normalization]
        s = torch.where(s == 0.0, 1.0, s)
        weights, outcome = devices.min_norm((gramian / s[:, None] / s).contiguous(), sound)
        return Decision(weights / s, outcome)

    def _scales(self, losses: FloatArray, gramian: FloatArray) -> FloatArray:
        norms = np.sqrt(np.diagonal(gramian))
        s = {"l2": norms, "loss": losses, "loss+": losses * norms}[self.normalization or "l2"]
        return np.where(s == 0.0, 1.0, s)
