"""Weights from the noise that the model estimates for each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, choice, integer
from pyfront.methods._adam import adam_step, check_rate, current_rate
from pyfront.optimizer.bases import Base
from pyfront.optimizer.method import Needs
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions
from pyfront.report import Report

__all__ = ["Likelihood", "UncertaintyWeighting"]

Likelihood = Literal["regression", "classification"]
FACTORS = {"regression": 0.5, "classification": 1.0}
LARGEST = 50.0  # of |s|: the weights e^{−s} of a loss that stays at zero must not overflow


class UncertaintyWeighting(MultiTaskOptimizer):
    """Trains one log-variance s_j = log σ_j² a task together with the model: one backward pass.

    The model and s minimise Σ_j c_j e^{−s_j} l_j + ½ s_j, where c_j = ½ for a squared error (the
    negative log-likelihood of a Gaussian, which has a half) and c_j = 1 for a cross-entropy. So the
    weights are w_j = c_j e^{−s_j}, they do not sum to 1, and s_j ends at log(2 c_j l_j): a task
    counts as the inverse of its loss. (Code that minimises Σ_j e^{−s_j} l_j + s_j, twice the first
    form, has weights twice as large.)

    s has the gradient ½ − c_j e^{−s_j} l_j, and :meth:`step` makes one step of Adam on it, in
    float64, whatever the base is: a plain gradient step would be as large as the losses. With Adam
    of default options as base it is what training s as one more parameter of the model gives.
    ``backward`` leaves s alone, and so does a step that is skipped; with ``every=k`` one step in k
    trains it. s and Adam's moments travel in ``state_dict``.

    Losses near zero get large weights: then w_j g_j grows as ‖g_j‖ / l_j, and plain gradient
    descent needs a small learning rate.

    Args:
        base: the optimizer that makes the step, or a list of them.
        num_tasks: m ≥ 1.
        likelihood: ``"regression"`` or ``"classification"``, for all tasks or a list of m.
        lr: learning rate of s, ≥ 0; None is that of the base's first group at each step, so that a
            scheduler drives both.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        TypeError, ValueError: an argument out of its range, and at a step another number of losses
            than m or a loss that is negative; the task and the value are named.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> base = torch.optim.SGD([x], lr=0.1)
        >>> opt = UncertaintyWeighting(base, 2, likelihood=["regression", "classification"])
        >>> opt.step([x[0] ** 2, 9 * x[1] ** 2]).weights.tolist()
        [0.5, 1.0]
        >>> opt.log_variances.round(decimals=6).tolist()
        [0.0, 0.1]

    Source: Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses, 2018,
    eq. (7) and (10), with s = log σ² as they advise; Adam and |s| ≤ 50 are ours.
    """

    needs: ClassVar[Needs] = "losses"
    per_task: ClassVar[dict[str, float]] = {"log_variances": 0.0, "moments": 0.0}

    def __init__(
        self,
        base: Base,
        num_tasks: int,
        *,
        likelihood: Likelihood | Sequence[Likelihood] = "regression",
        lr: float | None = None,
        **common: Unpack[CommonOptions],
    ) -> None:
        num_tasks = integer("num_tasks", num_tasks, 1)
        if not isinstance(likelihood, (str, list, tuple)):
            raise TypeError(f"likelihood: expected a word or a list of words, got {likelihood!r}")
        kinds = [likelihood] * num_tasks if isinstance(likelihood, str) else list(likelihood)
        if len(kinds) != num_tasks:
            raise ValueError(
                f"likelihood: expected {num_tasks} words, one per task, got {len(kinds)}"
            )
        for task, kind in enumerate(kinds):
            choice(f"likelihood[{task}]", kind, list(FACTORS))
        super().__init__(base, **common)
        self.lr = check_rate(lr, self.base)
        self._factors = np.array([FACTORS[kind] for kind in kinds])
        self.memory["log_variances"] = [0.0] * num_tasks

    def check_tasks(self, tasks: int) -> None:
        """Require as many losses as log-variances, those of absent tasks included."""
        if tasks != self._factors.size:
            raise ValueError(f"losses: expected {self._factors.size} as in num_tasks, got {tasks}")

    def check_losses(self, losses: FloatArray) -> None:
        """Require losses that are finite and ≥ 0."""
        hint = "; a negative loss would drive its variance to zero"
        self.require_losses(losses, lowest=0.0, hint=hint)

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return w_j = c_j e^{−s_j}, and make one step of Adam on s."""
        s = np.array(self.memory["log_variances"])
        weights = self.among(self._factors) * np.exp(-s)
        rate = current_rate(self.lr, self.base)
        s, moments = adam_step(s, 0.5 - weights * losses, rate, self.memory.get("moments"))
        s = np.clip(s, -LARGEST, LARGEST)
        self.learn(log_variances=s.tolist(), moments=moments)
        return Report(weights=torch.from_numpy(weights))

    def check_memory(self, memory: dict[str, Any]) -> None:
        """Require as many log-variances as there are tasks here."""
        super().check_memory(memory)
        found, expected = len(memory.get("log_variances", [])), self._factors.size
        if found != expected:
            raise ValueError(f"state_dict: it holds {found} log-variances, expected {expected}")

    @property
    def log_variances(self) -> Tensor:
        """s, [m] float64; a copy.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
            >>> base = torch.optim.SGD([x], lr=0.1)
            >>> UncertaintyWeighting(base, 2, likelihood="regression").log_variances.tolist()
            [0.0, 0.0]
        """
        return torch.tensor(self.memory["log_variances"], dtype=torch.float64, device="cpu")
