"""Distributed checkpoints that are flat take a group's keys from the groups in use."""

import copy

import pytest
import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

import pyfront

X = torch.linspace(-1, 1, 30).reshape(6, 5)
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)
BASES = {
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01),
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.01),
}


def grouped(model):
    return [{"params": list(model.trunk.parameters())}, {"params": list(model.heads.parameters())}]


def epo(base):
    return pyfront.EPO(base, [0.7, 0.3], weight_smoothing=0.5, every=2, task_gradients="own")


@pytest.mark.parametrize("groups", [lambda model: list(model.parameters()), grouped])
@pytest.mark.parametrize("base", BASES)
def test_a_flat_checkpoint_keeps_the_memory_both_ways(two_heads, base, groups):
    def optimizer(model):
        return epo(BASES[base](groups(model)))

    opt = optimizer(two_heads)
    for _ in range(2):
        opt.step(two_heads.losses(X))
    flat = copy.deepcopy(get_optimizer_state_dict(two_heads, opt, options=FLAT))
    model = copy.deepcopy(two_heads)
    resumed = optimizer(model)
    set_optimizer_state_dict(model, resumed, optim_state_dict=flat, options=FLAT)
    assert resumed.memory == opt.memory and len(opt.memory["weights"]) == 2
    for _ in range(3):
        opt.step(two_heads.losses(X))
        resumed.step(model.losses(X))
    assert resumed.memory == opt.memory
    for p, q in zip(two_heads.parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_the_memory_is_found_whatever_became_of_the_groups(two_heads):
    opt = epo(BASES["AdamW"](grouped(two_heads)))
    opt.step(two_heads.losses(X))
    opt.param_groups.reverse()
    flat = copy.deepcopy(get_optimizer_state_dict(two_heads, opt, options=FLAT))
    model = copy.deepcopy(two_heads)
    resumed = epo(BASES["AdamW"](grouped(model)[::-1]))
    set_optimizer_state_dict(model, resumed, optim_state_dict=flat, options=FLAT)
    assert resumed.memory == opt.memory


def test_the_mark_in_the_groups_is_inert(two_heads):
    base = BASES["AdamW"](grouped(two_heads))
    plain = BASES["AdamW"](grouped(two_heads))
    opt = epo(base)
    assert base.param_groups[0]["pyfront"] == "" and "pyfront" not in base.param_groups[1]
    opt.step(two_heads.losses(X))
    memory = dict(opt.memory)
    opt.load_state_dict(plain.state_dict())  # of a bare base: nothing of ours
    opt.load_state_dict(base.state_dict())  # of ours, saved past us
    assert opt.memory == memory and base.param_groups[0]["pyfront"] == ""
    plain.load_state_dict(opt.state_dict())
    opt.param_groups = [dict(group, lr=0.5) for group in plain.param_groups]
    assert opt.param_groups[0]["lr"] == 0.5 and "pyfront" in opt.param_groups[0]


def test_equal_optimizers_have_equal_checkpoints_and_repeated_groups_repeat(two_heads):
    opt = epo(BASES["AdamW"](two_heads.parameters()))
    for _ in range(3):
        opt.step(two_heads.losses(X))
    model = copy.deepcopy(two_heads)
    twin = epo(BASES["AdamW"](model.parameters()))
    twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    for _ in range(3):
        opt.step(two_heads.losses(X))
        twin.step(model.losses(X))
    assert str(opt.state_dict()) == str(twin.state_dict())
    twin.param_groups.extend(twin.param_groups)
    assert opt.state_dict()["param_groups"][-1] == twin.state_dict()["param_groups"][-1]
    del twin.param_groups[1:]
    twin.param_groups.extend(copy.deepcopy(twin.param_groups))
    first, second = (group["pyfront"] for group in twin.state_dict()["param_groups"])
    assert first == second and '"method": "EPO"' in first
