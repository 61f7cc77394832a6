"""Reward weights of TRL's GRPO trainer, set while it trains. Importing it imports transformers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import TrainerCallback

from pyfront.control.controllers import Controller

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from trl.trainer.grpo_trainer import GRPOTrainer

__all__ = ["RewardControl"]

KEY = "pyfront_control"  # in ``stateful_callbacks`` of trainer_state.json


class RewardControl(TrainerCallback):
    """Set ``trainer.reward_weights`` after each log by the mean rewards that it holds.

    The trainer logs the mean of each reward over all processes, so that every rank decides the
    same. The state of the controller is a part of the trainer's state in each checkpoint, and is
    taken over when training resumes from one.

    Args:
        trainer: a ``trl.GRPOTrainer``; add the callback to it with ``trainer.add_callback``. Set
            ``logging_steps=1``, so that every step is seen, and
            ``multi_objective_aggregation="normalize_then_sum"`` (GDPO): rewards are then normalised
            each for itself within a group before they are weighted, and a weight does the same
            whatever the spread of its reward.
        controller: a :class:`~pyfront.control.PreferenceController` or
            :class:`~pyfront.control.ConstraintController` whose tasks are the trainer's rewards, by
            position or by the names of the reward functions. Rewards are to rise: ``maximize=True``
            and, for a preference, ``offset=`` the most that each can be. A reward that is not in
            ``maximize`` is to fall, and gets a negative weight.

    Raises:
        ValueError: a controller whose tasks are not the trainer's rewards.

    Example:
        >>> from pyfront.control import PreferenceController
        >>> controller = PreferenceController([2, 1], maximize=True, offset=[1, 1])
        >>> trainer.add_callback(RewardControl(trainer, controller))  # doctest: +SKIP

    Source of the normalisation: Liu et al., GDPO, 2026, as TRL has it.
    """

    def __init__(self, trainer: GRPOTrainer, controller: Controller) -> None:
        names = tuple(trainer.reward_func_names)
        ours = controller.tasks.names
        if controller.tasks.size != len(names) or (ours is not None and set(ours) != set(names)):
            raise ValueError(
                f"controller: it has {controller.tasks.size} tasks"
                f"{'' if ours is None else ' ' + str(list(ours))}, the trainer's rewards are "
                f"{list(names)}"
            )
        self.trainer, self.controller, self.names = trainer, controller, names

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Decide on the rewards of a log; one without all of them (evaluation) is passed over."""
        logs = logs or {}
        means = [logs.get(f"rewards/{name}/mean") for name in self.names]
        if any(mean is None for mean in means):
            return
        named = self.controller.tasks.names is not None
        found = [None if np.isnan(mean) else float(mean) for mean in means]  # type: ignore[arg-type]
        values = dict(zip(self.names, found, strict=True)) if named else found
        weights = self.controller.weights(values, rate=float(logs.get("learning_rate", 0.0)))
        self._set(weights)
        self._keep(state)

    def _set(self, weights: Any) -> None:
        tasks = self.controller.tasks
        signed = -self.controller.signs * (
            np.array(list(weights.values())) if isinstance(weights, dict) else weights
        )
        order = range(tasks.size) if tasks.names is None else map(tasks.names.index, self.names)
        ours = self.trainer.reward_weights
        for place, task in enumerate(order):
            ours[place] = float(signed[task]) * tasks.size  # 1 on average, as TRL's own

    def _keep(self, state: TrainerState) -> None:
        """Put the controller's state into the trainer's, which goes into every checkpoint."""
        kept = {
            "controller": self.controller.state_dict(),
            "reward_weights": self.trainer.reward_weights.tolist(),
        }
        state.stateful_callbacks = {**(state.stateful_callbacks or {}), KEY: kept}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take over the state of the checkpoint from which training resumes."""
        if state.global_step == 0:
            self._keep(state)
            return
        saved: Any = (state.stateful_callbacks or {}).get(KEY)
        if saved is None:
            warnings.warn(
                "the checkpoint holds no state of RewardControl; the controller starts anew",
                stacklevel=2,
            )
            return
        self.controller.load_state_dict(saved["controller"])
        for place, weight in enumerate(saved["reward_weights"]):
            self.trainer.reward_weights[place] = weight
