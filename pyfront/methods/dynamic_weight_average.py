"""Weights from how fast each loss has fallen."""

from __future__ import annotations

import math
from typing import ClassVar, Unpack

import numpy as np
import torch

from pyfront._utils.arguments import FloatArray
from pyfront._utils.simplex import tilted
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, integer_from, number_in
from pyfront.report import Report

__all__ = ["DynamicWeightAverage"]


class DynamicWeightAverage(MultiTaskOptimizer):
    """Gives more weight to tasks whose losses fall more slowly: one backward pass per step.

    With L_j(t) the mean of loss j over epoch t, and v_j = L_j(t − 1) / L_j(t − 2), epoch t has the
    weights w_j = m exp(v_j / T) / Σ_i exp(v_i / T). The first two epochs have w = 1. The weights
    sum to m. They see rates alone: losses of very different size stay so.

    An epoch is ``steps_per_epoch`` steps that are taken: neither ``backward`` alone nor a step that
    is skipped counts, and with ``every=k`` one in k does. What has been seen of it travels in
    ``state_dict``.

    Args:
        base: the optimizer that makes the step, or a list of them.
        steps_per_epoch: over how many steps a loss is averaged, ≥ 1: for mini-batches the number
            of batches in an epoch, since the ratio of two single batches is mostly noise. 1 takes
            t as the step.
        temperature: T > 0; the larger, the more equal the weights. The paper's is 2.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an argument out of its range, and at a step a loss that is negative
            or another number of losses than before; the task and the value are named.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> opt = DynamicWeightAverage(torch.optim.SGD([x], lr=0.1))
        >>> for _ in range(3):
        ...     report = opt.step([x[0] ** 2, 3 * x[1] ** 2])
        >>> report.weights.round(decimals=3).tolist()  # the second falls faster
        [1.119, 0.881]

    Source: Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, 2019, eq. (7).
    A loss that was 0 has no rate; its v_j counts as 1 (ours). So does that of a task which has had
    no data in two epochs; means are over the steps in which it had.
    """

    needs: ClassVar[Needs] = "losses"

    per_task: ClassVar[dict[str, float]] = {
        "epoch_sum": 0.0,
        "epoch_count": 0.0,
        "epoch_of_sum": 0.0,
        "mean_before": math.nan,
        "mean_last": math.nan,
    }

    steps_per_epoch = Option[int](integer_from(1))
    temperature = Option[float](number_in(above=0.0))

    def __init__(
        self,
        base: Base,
        *,
        steps_per_epoch: int = 1,
        temperature: float = 2.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, **common)
        self.steps_per_epoch = steps_per_epoch
        self.temperature = temperature

    def check_tasks(self, tasks: int) -> None:
        """Require as many losses as before."""
        expected = len(self.memory.get("epoch_sum", [0.0] * tasks))
        if tasks != expected:
            raise ValueError(f"losses: expected {expected} as in earlier steps, got {tasks}")

    def check_losses(self, losses: FloatArray) -> None:
        """Require losses that are finite and ≥ 0."""
        self.require_losses(losses, lowest=0.0, hint="; rates are ratios of losses")

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the weights of this epoch; its losses count from the next one on."""
        memory, nothing = self.memory, np.zeros_like(losses)
        unknown = np.full_like(losses, np.nan)
        epoch, taken = int(memory.get("epoch", 0)), int(memory.get("epoch_steps", 0)) + 1
        total, count = self.recalled("epoch_sum", nothing), self.recalled("epoch_count", nothing)
        before = self.recalled("mean_before", unknown)  # L(t − 2)
        last = self.recalled("mean_last", unknown)  # L(t − 1)
        ended = (count > 0.0) & (self.recalled("epoch_of_sum", nothing) < epoch)
        before, last = (
            np.where(ended, last, before),
            np.where(ended, total / np.maximum(count, 1.0), last),
        )
        total, count = np.where(ended, 0.0, total) + losses, np.where(ended, 0.0, count) + 1.0
        ends = taken >= self.steps_per_epoch
        self.learn(
            epoch=epoch + ends,
            epoch_steps=0 if ends else taken,
            epoch_sum=total.tolist(),
            epoch_count=count.tolist(),
            epoch_of_sum=[epoch] * losses.size,
            mean_before=[None if math.isnan(mean) else mean for mean in before.tolist()],
            mean_last=[None if math.isnan(mean) else mean for mean in last.tolist()],
        )
        return Report(weights=torch.from_numpy(self._weights(before, last)))

    def _weights(self, before: FloatArray, last: FloatArray) -> FloatArray:
        if np.isnan(before).all():
            return np.ones_like(before)
        with np.errstate(over="ignore"):
            rates = np.divide(last, before, out=np.ones_like(last), where=before > 0.0)
            logits = np.minimum(rates / self.temperature, np.finfo(np.float64).max)
        return last.size * tilted(1.0, logits)
