"""Checkpoints and copies of several optimizers under one decision."""

import copy
import io
import pickle

import pytest
import torch
from optimizer_list_cases import epo, pair_of, pairs, same, sgd_and_adamw, steps, vectors
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)


@pairs
def test_a_checkpoint_resumes_bit_equal_and_loads_with_weights_only(two_heads, pair):
    opt = epo(pair(two_heads))
    steps(opt, two_heads)
    assert opt.state_dict().keys() == {"state", "param_groups"}
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        torch.save(opt.state_dict(), file)
    assert files[0].getvalue() == files[1].getvalue()
    model = copy.deepcopy(two_heads)
    resumed = epo(pair(model))
    resumed.load_state_dict(torch.load(io.BytesIO(files[0].getvalue()), weights_only=True))
    assert resumed.memory == opt.memory
    for a, b in ((opt, two_heads), (resumed, model)):
        steps(a, b)
    same(model, two_heads)


@pairs
@pytest.mark.parametrize("flat", [False, True])
def test_a_distributed_checkpoint_keeps_everything(two_heads, pair, flat):
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    opt = epo(pair(two_heads))
    steps(opt, two_heads)
    saved = copy.deepcopy(get_optimizer_state_dict(two_heads, opt, options=options))
    model = copy.deepcopy(two_heads)
    resumed = epo(pair(model))
    set_optimizer_state_dict(model, resumed, optim_state_dict=saved, options=options)
    assert resumed.memory == opt.memory
    for a, b in ((opt, two_heads), (resumed, model)):
        steps(a, b)
    same(model, two_heads)


def test_groups_that_do_not_fit_are_named_and_nothing_is_loaded(two_heads):
    saved = epo(sgd_and_adamw(two_heads)).state_dict()
    first, second = sgd_and_adamw(two_heads)
    second.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    opt = epo([first, second])
    before = copy.deepcopy(opt.state_dict())
    message = r"expected 3 groups, 1 of base\[0\] \(SGD\), 2 of base\[1\] \(AdamW\); got 2"
    with pytest.raises(ValueError, match=message):
        opt.load_state_dict(saved)
    other = epo(sgd_and_adamw(two_heads)[::-1])
    with pytest.raises(ValueError, match=r"parameters in group 0 of base\[0\] \(AdamW\), got"):
        opt2 = epo([torch.optim.AdamW(vectors(two_heads)[:1]), torch.optim.SGD([pair_of(2)], lr=1)])
        opt2.load_state_dict(other.state_dict())
    assert str(opt.state_dict()) == str(before)


class Extra(torch.optim.SGD):
    """Saves more than torch's two entries."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        return super().step(closure)

    def state_dict(self):
        return {**super().state_dict(), "count": self.count}

    def load_state_dict(self, state_dict):
        state_dict = dict(state_dict)
        self.count = state_dict.pop("count")
        super().load_state_dict(state_dict)


class Without(torch.optim.SGD):
    """Saves no groups, as Lookahead does."""

    def state_dict(self):
        return {"inner": super().state_dict()}

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict["inner"])


def test_what_a_base_saves_of_its_own_comes_back_to_it():
    def three():
        params = [pair_of(2), pair_of(3), pair_of(2)]
        bases = [
            Without(params[:1], lr=0.1, momentum=0.9),
            Extra(params[1:2], lr=0.1, momentum=0.9),
            torch.optim.AdamW(params[2:], lr=0.01),
        ]
        return params, bases, epo(bases)

    def losses(params):
        return [sum((p**2).sum() for p in params), sum(((p - 2) ** 2).sum() for p in params)]

    params, _, opt = three()
    for _ in range(3):
        opt.step(losses(params))
    file = io.BytesIO()
    torch.save(opt.state_dict(), file)
    file.seek(0)
    again, bases, resumed = three()
    for p, q in zip(again, params, strict=True):
        p.data.copy_(q)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert bases[1].count == 3 and resumed.memory == opt.memory
    for _ in range(3):
        opt.step(losses(params))
        resumed.step(losses(again))
    for p, q in zip(again, params, strict=True):
        assert torch.equal(p, q)


@pairs
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_go_on_alone(two_heads, pair, copied):
    opt = epo(pair(two_heads))
    steps(opt, two_heads)
    model, other = copied((two_heads, opt))
    same(model, two_heads)
    steps(opt, two_heads)
    before = [p.detach().clone() for p in model.parameters()]
    assert any(not torch.equal(p, q) for p, q in zip(before, two_heads.parameters(), strict=True))
    steps(other, model)
    same(model, two_heads)


def test_hooks_of_checkpoints(two_heads):
    opt, seen = epo(sgd_and_adamw(two_heads)), []
    opt.register_state_dict_pre_hook(lambda o: seen.append("save"))
    opt.register_state_dict_post_hook(lambda o, state: {**state, "more": len(seen)})
    opt.register_load_state_dict_pre_hook(
        lambda o, state: {k: v for k, v in state.items() if k != "more"}
    )
    opt.register_load_state_dict_post_hook(lambda o: seen.append("loaded"), prepend=True)
    saved = opt.state_dict()
    assert saved["more"] == 1
    opt.load_state_dict(saved)
    assert seen == ["save", "loaded"]
