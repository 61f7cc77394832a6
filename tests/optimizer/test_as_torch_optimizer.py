"""What torch expects of an optimizer: schedulers, hooks, copies, checkpoints."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from multi_task_cases import X, every_method, sgd
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook

from pyfront import (
    EPO,
    MGDA,
)


@every_method
def test_it_is_an_optimizer_whose_state_is_the_bases(two_heads, method):
    base = sgd(two_heads, momentum=0.9)
    opt = method(base)
    assert isinstance(opt, torch.optim.Optimizer)
    assert opt.param_groups is base.param_groups and opt.state is base.state
    assert opt.defaults is base.defaults
    opt.step(two_heads.losses(X))
    assert len(opt.state) == len(list(two_heads.parameters()))
    extra = torch.nn.Parameter(torch.ones(2))
    opt.add_param_group({"params": [extra], "lr": 0.5})
    assert base.param_groups[1]["params"] == [extra]
    opt.zero_grad()
    assert all(p.grad is None for p in two_heads.parameters())


SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=10),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 / (1 + t)),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.LinearLR(o)], [2]
    ),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_schedulers_drive_the_base_without_warnings(two_heads, scheduler):
    plain = copy.deepcopy(two_heads)
    rates = []
    for model, wrap in ((two_heads, True), (plain, False)):
        base = sgd(model, momentum=0.9)
        opt = MGDA(base) if wrap else base
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # SequentialLR's own, about itself, in torch 2.6
            warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step")
            schedule = SCHEDULERS[scheduler](opt)
            seen = []
            for _ in range(4):
                if wrap:
                    opt.step(model.losses(X))
                else:
                    sum(model.losses(X)).backward()
                    opt.step()
                schedule.step()
                seen.append(base.param_groups[0]["lr"])
        rates.append(seen)
    assert rates[0] == rates[1]


def test_plateau_scheduler(two_heads):
    opt = MGDA(sgd(two_heads))
    schedule = lr_scheduler.ReduceLROnPlateau(opt, patience=0)
    for _ in range(3):
        opt.step(two_heads.losses(X))
        schedule.step(1.0)
    assert opt.param_groups[0]["lr"] < 0.1


@every_method
def test_hooks_run_exactly_once(two_heads, method):
    calls = []
    opt = method(sgd(two_heads))
    opt.register_step_pre_hook(lambda *_: calls.append("pre"))
    opt.register_step_post_hook(lambda *_: calls.append("post"))
    opt.register_state_dict_post_hook(lambda *_: calls.append("state"))
    opt.register_load_state_dict_pre_hook(lambda *_: calls.append("load"))
    everywhere = register_optimizer_step_post_hook(lambda *_: calls.append("global"))
    try:
        opt.step(two_heads.losses(X))
    finally:
        everywhere.remove()
    assert sorted(calls) == ["global", "post", "pre"]
    opt.load_state_dict(opt.state_dict())
    assert sorted(calls[3:]) == ["load", "state"]


@every_method
@pytest.mark.parametrize("clone", ["deepcopy", "pickle"])
def test_copies_are_independent_and_complete(two_heads, method, clone):
    opt = method(sgd(two_heads, momentum=0.9), weight_smoothing=0.5)
    lr_scheduler.StepLR(opt, 1)  # sets `step` on the instance
    opt.step(two_heads.losses(X))
    pair = (two_heads, opt)
    model, twin = copy.deepcopy(pair) if clone == "deepcopy" else pickle.loads(pickle.dumps(pair))
    opt.step(two_heads.losses(X))
    twin.step(model.losses(X))
    for p, q in zip(two_heads.parameters(), model.parameters(), strict=True):
        assert p is not q and torch.equal(p, q)
    assert twin.memory == opt.memory and len(opt.memory["weights"]) == 2


BASES = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9),
    "adamw": lambda params: torch.optim.AdamW(params, lr=0.01),
    "fused": lambda params: torch.optim.AdamW(params, lr=0.01, fused=True),
}


@every_method
@pytest.mark.parametrize("base", BASES)
def test_resume_is_bitwise(two_heads, method, base):
    def optimizer(model):
        return method(BASES[base](model.parameters()), weight_smoothing=0.7, every=2)

    opt = optimizer(two_heads)
    for _ in range(3):
        opt.step(two_heads.losses(X))
    buffer = io.BytesIO()
    torch.save({"model": two_heads.state_dict(), "opt": opt.state_dict()}, buffer)
    for _ in range(3):
        opt.step(two_heads.losses(X))

    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    model = copy.deepcopy(two_heads)
    model.load_state_dict(saved["model"])
    resumed = optimizer(model)
    resumed.load_state_dict(saved["opt"])
    for _ in range(3):
        resumed.step(model.losses(X))
    for p, q in zip(two_heads.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_checkpoint_of_the_bare_base_loads(two_heads):
    base = sgd(two_heads, momentum=0.9)
    sum(two_heads.losses(X)).backward()
    base.step()
    opt = EPO(sgd(two_heads, momentum=0.9), [0.7, 0.3])
    opt.load_state_dict(base.state_dict())
    assert opt.preference.tolist() == [0.7, 0.3]
    opt.step(two_heads.losses(X))


@every_method
def test_distributed_checkpoint_gets_and_sets_state(two_heads, method):
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    def optimizer(model):
        return method(torch.optim.AdamW(model.parameters(), lr=0.01), weight_smoothing=0.7)

    opt = optimizer(two_heads)
    opt.step(two_heads.losses(X))
    model = copy.deepcopy(two_heads)
    saved_model, saved_opt = copy.deepcopy(get_state_dict(two_heads, opt))
    fresh = optimizer(model)
    # fresh state is initialised by step(closure=None): our own must not advance by it
    get_state_dict(model, fresh)
    assert "weights" not in fresh.memory and fresh.report is None
    set_state_dict(model, fresh, model_state_dict=saved_model, optim_state_dict=saved_opt)
    opt.step(two_heads.losses(X))
    fresh.step(model.losses(X))
    for p, q in zip(two_heads.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)
