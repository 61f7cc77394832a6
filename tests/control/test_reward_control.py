"""The state of a controller of rewards in the checkpoints of a real transformers Trainer."""

import importlib
import json
import warnings

import pytest
import torch

from pyfront.control import PreferenceController

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
KEY, RewardControl = (
    getattr(importlib.import_module("pyfront.control.trl"), name)
    for name in ("KEY", "RewardControl")
)


class Model(torch.nn.Module):
    """One weight; the loss does not matter here."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        return {"loss": ((self.weight * x - 1) ** 2).mean(), "logits": x}


class Trainer(transformers.Trainer):
    """Logs two rewards, as TRL's trainers do."""

    reward_func_names = ("often", "seldom")

    def __init__(self, folder, steps, rewards):
        self.rewards, self.reward_weights = rewards, torch.ones(2)
        data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 8
        super().__init__(
            Model(),
            transformers.TrainingArguments(
                str(folder), max_steps=steps, save_steps=5, logging_steps=1, report_to=[],
                per_device_train_batch_size=1, disable_tqdm=True, use_cpu=True,
                lr_scheduler_type="constant",
            ),
            train_dataset=data,
        )  # fmt: skip
        self.controller = PreferenceController(
            [2, 1], maximize=True, offset=[1, 1], proportional=0.5
        )
        self.add_callback(RewardControl(self, self.controller))

    def log(self, logs, *args, **kwargs):
        means = {
            f"rewards/{name}/mean": mean
            for name, mean in zip(self.reward_func_names, self.rewards, strict=True)
        }
        super().log({**logs, **means} if "loss" in logs else logs, *args, **kwargs)


class AtBegin(transformers.TrainerCallback):
    """Sees what has been taken over, after the callbacks before it."""

    def __init__(self, trainer):
        self.trainer, self.seen = trainer, []

    def on_train_begin(self, args, state, control, **kwargs):
        controller = self.trainer.controller.state_dict()
        self.seen.append((self.trainer.reward_weights.tolist(), controller))


def test_the_state_is_that_of_the_checkpoint_wherever_it_lies(tmp_path):
    first = Trainer(tmp_path / "first", 5, (0.9, 0.1))
    first.train()
    other = Trainer(tmp_path / "other", 5, (0.1, 0.9))
    other.train()
    assert not torch.equal(first.reward_weights, other.reward_weights)
    third = Trainer(tmp_path / "other", 6, (0.5, 0.5))
    third.add_callback(begin := AtBegin(third))
    third.train(resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-5"))
    assert begin.seen == [(first.reward_weights.tolist(), first.controller.state_dict())]


def test_training_goes_on_as_without_a_stop(tmp_path):
    whole = Trainer(tmp_path / "whole", 10, (0.9, 0.1))
    whole.train()
    Trainer(tmp_path / "parts", 5, (0.9, 0.1)).train()
    rest = Trainer(tmp_path / "parts", 10, (0.9, 0.1))
    rest.train(resume_from_checkpoint=True)
    assert torch.equal(rest.reward_weights, whole.reward_weights)


def test_a_checkpoint_before_the_first_log_has_a_state_too(tmp_path):
    trainer = Trainer(tmp_path, 5, (0.9, 0.1))
    begun = transformers.TrainerState()
    callback = trainer.callback_handler.callbacks[-1]
    callback.on_train_begin(trainer.args, begun, trainer.control)
    begun.global_step = 1
    begun.save_to_json(str(tmp_path / "state.json"))
    resumed = transformers.TrainerState.load_from_json(str(tmp_path / "state.json"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback.on_train_begin(trainer.args, resumed, trainer.control)
    assert trainer.reward_weights.tolist() == [1.0, 1.0]


def test_a_checkpoint_without_a_state_says_so(tmp_path):
    Trainer(tmp_path, 5, (0.9, 0.1)).train()
    file = tmp_path / "checkpoint-5" / "trainer_state.json"
    state = json.loads(file.read_text())
    del state["stateful_callbacks"][KEY]
    file.write_text(json.dumps(state))
    again = Trainer(tmp_path, 6, (0.9, 0.1))
    with pytest.warns(UserWarning, match="holds no state of RewardControl"):
        again.train(resume_from_checkpoint=True)
    assert again.controller.state_dict()["decisions"] == 1
