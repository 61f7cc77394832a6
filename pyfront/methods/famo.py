"""Weights that make all losses fall at the same relative rate, from the losses alone."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray, VectorLike, require, vector
from pyfront._utils.simplex import tilted
from pyfront.methods._adam import adam_step
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, at_least
from pyfront.report import Report

__all__ = ["FAMO"]

SMALL = 1e-8  # added to a loss before its logarithm is taken


def _checked_least(name: str, value: Any) -> FloatArray | None:
    if value is None:
        return None
    least = vector(name, value).copy()
    require(name, least)
    least.flags.writeable = False
    return least


class FAMO(MultiTaskOptimizer):
    """Learns which losses fall slowly in relative terms and weights those up: one backward pass.

    With D_j = l_j − b_j + 1e-8, b = ``min_losses``, logits ξ and z = softmax(ξ), a step has the
    weights w_j = (z_j / D_j) / Σ_i (z_i / D_i): the gradient of Σ_j z_j log D_j up to a factor that
    makes them sum to 1. The logits, 0 at first, then take a step of Adam against the fall of each
    logarithm, δ_j = log D_j(before) − log D_j(after), on the gradient z ∘ (δ − zᵀδ) + γ ξ.

    **One pass, and what that changes.** The paper takes D(after) from the same batch, evaluated
    again behind the update: a second forward pass. Here it is the losses of the *next* step, from
    whose forward pass they come for free: a step first moves ξ by δ between the last step taken and
    now, then weights. With full batches the two are the same, step for step. With mini-batches δ
    also holds the difference between two batches, which has mean zero and averages out in Adam's
    momentum, but not within a step: for a noisy loss take a smaller ``lr``. With ``every=k`` δ
    spans k steps. ``backward`` alone and a step that is skipped teach nothing; ξ, Adam's moments
    and the last losses travel in ``state_dict``. The authors clip the gradient's norm at 1: do so
    between ``backward`` and ``step``, if wanted.

    Args:
        base: the optimizer that makes the step, or a list of them.
        lr: learning rate of the logits, ≥ 0; 0 keeps z uniform.
        weight_decay: γ ≥ 0, which pulls z back to uniform. The paper's experiments have 0.001 to
            0.01.
        min_losses: b, [m], what each loss is at best; None is zero.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an argument out of its range; at a step a loss below its least value,
            or another number of losses than before.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = FAMO(torch.optim.SGD([x], lr=0.1))
        >>> for _ in range(9):
        ...     report = opt.step([1 + x[0] ** 2, x[1] ** 2])
        >>> opt.shares.round(decimals=2).tolist()  # the second falls faster
        [0.6, 0.4]

    Source: Liu et al., FAMO: Fast Adaptive Multitask Optimization, 2023, algorithm 1; Adam on the
    logits as in the authors' code.
    """

    needs: ClassVar[Needs] = "losses"
    per_task: ClassVar[dict[str, float]] = {
        "logits": 0.0,
        "last_losses": math.nan,
        "moments": 0.0,
    }

    lr = Option[float](at_least(0.0))
    weight_decay = Option[float](at_least(0.0))
    min_losses = Option[FloatArray | None](_checked_least)

    def __init__(
        self,
        base: Base,
        *,
        lr: float = 0.025,
        weight_decay: float = 1e-3,
        min_losses: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, **common)
        self.lr = lr
        self.weight_decay = weight_decay
        self.min_losses = min_losses

    def check_tasks(self, tasks: int) -> None:
        """Require as many losses as before, or as there are least values."""
        expected = len(self.memory.get("last_losses", [0.0] * tasks))
        if self.min_losses is not None:
            expected = self.min_losses.size
        if tasks != expected:
            raise ValueError(f"losses: expected {expected} as before, got {tasks}")

    def check_losses(self, losses: FloatArray) -> None:
        """Require losses that are finite, none below its least value."""
        super().check_losses(losses)
        hint = "; FAMO takes logarithms: give min_losses= below every loss"
        places = None if self.present is None else self.present.places
        above = losses - self._least()
        require("losses - min_losses", above, lowest=0.0, hint=hint, places=places)

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the logits moved by what the last step did, and the weights that they give."""
        logits = self.recalled("logits", np.zeros_like(losses))
        moments = self.memory.get("moments")
        last = self.recalled("last_losses", np.full_like(losses, np.nan))
        logs, seen = self._logarithms(losses), ~np.isnan(last)  # NaN: it had no data before
        if seen.any():
            fall = self._logarithms(np.where(seen, last, losses)) - logs
            z = tilted(seen.astype(np.float64), logits)
            gradient = z * (fall - z @ fall) + self.weight_decay * logits
            logits, moments = adam_step(logits, gradient, self.lr, moments, seen)
        self.learn(logits=logits.tolist(), moments=moments, last_losses=losses.tolist())
        return Report(weights=torch.from_numpy(tilted(1.0, logits - logs)))

    @property
    def shares(self) -> torch.Tensor | None:
        """z of the last step that was taken, [m] float64; None before the first.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> opt = FAMO(torch.optim.SGD([x], lr=0.1))
            >>> opt.shares is None
            True
            >>> for _ in range(3):
            ...     report = opt.step([x[0] ** 2, x[1] ** 2])
            >>> round(opt.shares.sum().item(), 12)
            1.0
        """
        logits = self.memory.get("logits")
        if logits is None:
            return None
        return torch.from_numpy(tilted(1.0, np.array([x or 0.0 for x in logits])))  # 0: no data yet

    def _logarithms(self, losses: FloatArray) -> FloatArray:
        logs: FloatArray = np.log(losses - self._least() + SMALL)
        return logs

    def _least(self) -> FloatArray | float:
        return 0.0 if self.min_losses is None else self.among(self.min_losses)
