"""Weights that balance the norms of the task gradients."""

from __future__ import annotations

import math
from typing import ClassVar, Unpack

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, VectorLike, require, vector
from pyfront._utils.simplex import tilted
from pyfront.methods._adam import adam_step, check_rate, current_rate
from pyfront.methods._dual import gathered
from pyfront.optimizer.bases import Base
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, at_least
from pyfront.report import Report

__all__ = ["GradNorm"]

SMALLEST = 1e-4  # of a weight: Adam's momentum must not carry it to zero or below


class GradNorm(MultiTaskOptimizer):
    """Trains the weights so that all tasks move the shared parameters at balanced rates.

    With G_j = w_j √C_jj = ‖w_j g_j‖ over the parameters that ``gramian_over`` names, Ḡ their mean,
    and r̃_j = l_j(t) / l_j(0) divided by its mean over the tasks, w minimises
    Σ_j |G_j − Ḡ r̃_jᵅ|. Its gradient with the targets Ḡ r̃_jᵅ held constant is
    √C_jj sign(G_j − Ḡ r̃_jᵅ), so that nothing is differentiated twice. A step applies w as it is,
    then makes one step of Adam on w, and divides by Σ_j w_j / m. The weights start at 1 and sum
    to m.

    A step that decides costs m backward passes; ``every=k`` saves those of the steps between.
    ``backward`` leaves the weights alone, and so does a step that is skipped: :meth:`step` trains
    them. They, Adam's moments and the first losses travel in ``state_dict``.

    Args:
        base: the optimizer that makes the step, or a list of them.
        alpha: α ≥ 0, how strongly tasks that lag behind are pulled; 0 makes all norms equal. The
            paper has 1.5 for its networks, and less for tasks that are alike.
        lr: learning rate of w, ≥ 0; None is that of the base's first group at each step. The
            paper's is 0.025.
        initial_losses: l(0), [m], entries > 0, such as log(classes) where the first losses depend
            on a lucky start; None takes those of the first step.
        gramian_over: the parameters over which norms are taken. The paper takes the weights of the
            last shared layer: ``gramian_over=model.trunk[-1].parameters()``. ``"shared"`` takes
            all that two losses reach, and ``"all"`` the heads as well.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an argument out of its range; at a step a loss that is negative, a
            first loss that is not > 0, or another number of losses than before.

    Example:
        >>> trunk, heads = torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)
        >>> base = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], lr=0.01)
        >>> opt = GradNorm(base, gramian_over=[trunk.weight])
        >>> for _ in range(2):
        ...     y = heads(trunk(torch.eye(3)))
        ...     report = opt.step([(y[:, 0] ** 2).mean(), 100 * ((y[:, 1] - 5) ** 2).mean()])
        >>> report.weights.round(decimals=3).tolist()  # the second has the larger gradient
        [1.025, 0.975]

    Source: Chen et al., GradNorm, 2018, algorithm 1. The lower bound 1e-4 of a weight is ours.
    """

    per_task: ClassVar[dict[str, float]] = {
        "initial_losses": math.nan,
        "task_weights": math.nan,
        "moments": 0.0,
    }

    alpha = Option[float](at_least(0.0))

    def __init__(
        self,
        base: Base,
        *,
        alpha: float = 1.5,
        lr: float | None = 0.025,
        initial_losses: VectorLike | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        initial = None if initial_losses is None else vector("initial_losses", initial_losses)
        if initial is not None:
            require("initial_losses", initial, above=0.0)
        common.setdefault("gramian_over", "shared")
        super().__init__(base, **common)
        self.alpha = alpha
        self.lr = check_rate(lr, self.base)
        if initial is not None:
            self.memory["initial_losses"] = initial.tolist()

    def check_tasks(self, tasks: int) -> None:
        """Require as many losses as at first."""
        initial = self.memory.get("initial_losses")
        if initial is not None and tasks != len(initial):
            raise ValueError(f"losses: expected {len(initial)} as at first, got {tasks}")

    def check_losses(self, losses: FloatArray) -> None:
        """Require losses that are finite and ≥ 0, > 0 where they are a task's first."""
        hint = "; GradNorm compares ratios of losses with the first ones"
        self.require_losses(losses, lowest=0.0, hint=hint + ", which must not change their sign")
        first = np.isnan(self.recalled("initial_losses", np.full_like(losses, np.nan)))
        if first.any():
            started = np.where(first, losses, 1.0)
            self.require_losses(started, above=0.0, hint=hint + ": give initial_losses=")

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the weights as they are, and make one step of Adam on them."""
        assert gramian is not None
        memory, unknown = self.memory, np.full_like(losses, np.nan)
        initial = self.recalled("initial_losses", unknown)
        initial = np.where(np.isnan(initial), losses, initial)
        weights, share = gathered(self.recalled("task_weights", unknown), losses.size)
        norms = np.sqrt(np.diagonal(gramian))  # of the unweighted gradients
        target = (weights * norms).mean() * _relative_rates(losses, initial) ** self.alpha
        gradient = norms * np.sign(weights * norms - target)
        rate = current_rate(self.lr, self.base)
        trained, moments = adam_step(weights, gradient, rate, memory.get("moments"))
        trained = np.maximum(trained, SMALLEST)
        trained *= share * losses.size / trained.sum()
        self.learn(initial_losses=initial.tolist(), task_weights=trained.tolist(), moments=moments)
        return Report(weights=torch.from_numpy(weights))

    @property
    def task_weights(self) -> Tensor | None:
        """The weights of the next step that decides, [m] float64; None before the first.

        NaN for a task that has had no data yet.

        Example:
            >>> layer = torch.nn.Linear(3, 2)
            >>> base = torch.optim.SGD(layer.parameters(), lr=0.1)
            >>> opt = GradNorm(base, gramian_over=layer.parameters())
            >>> opt.task_weights is None
            True
            >>> outputs = layer(torch.ones(4, 3))
            >>> report = opt.step([outputs[:, 0].square().mean(), outputs[:, 1].square().mean()])
            >>> round(opt.task_weights.sum().item(), 6)
            2.0
        """
        weights = self.memory.get("task_weights")
        if weights is None:
            return None
        known = [math.nan if weight is None else weight for weight in weights]
        return torch.tensor(known, dtype=torch.float64, device="cpu")


def _relative_rates(losses: FloatArray, initial: FloatArray) -> FloatArray:
    """Return r̃: losses relative to the initial ones, with mean 1; 1 where all losses are zero."""
    if not losses.any():
        return np.ones_like(losses)
    with np.errstate(divide="ignore"):
        logs = np.log(losses) - np.log(initial)  # a ratio could overflow
    return losses.size * tilted(1.0, logs)
