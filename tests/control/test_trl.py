"""Reward weights of a real GRPO trainer with a tiny random model."""

import importlib
import json
import math
import warnings

import grpo
import pytest
import torch

from pyfront.control import ConstraintController, PreferenceController

for name in ("transformers", "trl", "datasets"):
    pytest.importorskip(name, reason=f"{name} is not installed: rewards of LLM training need it")

KEY, RewardControl = (
    getattr(importlib.import_module("pyfront.control.trl"), name)
    for name in ("KEY", "RewardControl")
)


def rewards():
    often, seldom = grpo.share(0, 6), grpo.share(6, 8)
    often.__name__, seldom.__name__ = "often", "seldom"
    return [often, seldom]


def means(trainer):
    logs = [log for log in trainer.state.log_history if "rewards/often/mean" in log]
    return [[log["rewards/often/mean"], log["rewards/seldom/mean"]] for log in logs]


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
def test_weights_are_those_of_the_controller_on_the_logged_means(tmp_path, aggregation):
    trainer = grpo.trainer(tmp_path, rewards(), steps=4, multi_objective_aggregation=aggregation)
    controller = PreferenceController(
        {"seldom": 1, "often": 2}, maximize=True, offset={"seldom": 1, "often": 1}
    )
    trainer.add_callback(RewardControl(trainer, controller))
    trainer.train()
    logs = [log for log in trainer.state.log_history if "rewards/often/mean" in log]
    twin = PreferenceController([2, 1], maximize=True, offset=[1, 1])
    for log in logs:
        values = [log["rewards/often/mean"], log["rewards/seldom/mean"]]
        weights = twin.weights(values, rate=log["learning_rate"])
    assert len(logs) == 4
    torch.testing.assert_close(trainer.reward_weights.double(), torch.tensor(2 * weights))


def test_training_resumes_with_the_state_of_the_controller(tmp_path):
    def make(steps):
        options = {"save_strategy": "steps", "save_steps": 2, "save_only_model": False}
        trainer = grpo.trainer(tmp_path, rewards(), steps=steps, **options)
        controller = PreferenceController([2, 1], maximize=True, offset=[1, 1])
        trainer.add_callback(RewardControl(trainer, controller))
        return trainer, controller

    trainer, controller = make(2)
    trainer.train()
    file = tmp_path / "checkpoint-2" / "trainer_state.json"
    saved = json.loads(file.read_text())
    assert saved["stateful_callbacks"][KEY]["controller"] == controller.state_dict()
    other, resumed = make(4)
    other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state_dict()["decisions"] == 4
    del saved["stateful_callbacks"][KEY]
    file.write_text(json.dumps(saved))
    other, anew = make(4)
    with pytest.warns(UserWarning, match="holds no state of RewardControl"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert anew.state_dict()["decisions"] == 2


def test_a_reward_with_a_bound_and_one_that_is_to_fall(tmp_path):
    trainer = grpo.trainer(tmp_path, rewards(), steps=2)
    controller = ConstraintController(
        ["often", "seldom"],
        objective="seldom",
        bounds={"often": ">=0.9"},
        maximize=["often"],
    )
    trainer.add_callback(RewardControl(trainer, controller))
    trainer.train()
    often, seldom = trainer.reward_weights.tolist()
    assert often > 0.0 > seldom  # its share is to fall: a negative weight
    assert all(math.isfinite(value) for row in means(trainer) for value in row)


def test_other_rewards_than_the_controllers_are_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = grpo.trainer(tmp_path, rewards(), steps=1)
    for preference in ([1, 1, 1], {"often": 1, "never": 2}):
        controller = PreferenceController(preference)
        with pytest.raises(ValueError, match=r"the trainer's rewards are \['often', 'seldom'\]"):
            RewardControl(trainer, controller)
