"""Several optimizers under one decision: each makes the step it would make alone on the same d."""

import copy

import pytest
import torch
from optimizer_list_cases import (
    X,
    epo,
    matrices,
    pair_of,
    pairs,
    same,
    sgd_and_adamw,
    steps,
    vectors,
)
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, StepLR

import pyfront
from pyfront.optimizer.optimizer_list import OptimizerList


@pairs
@pytest.mark.parametrize("method", [pyfront.MGDA, lambda base: pyfront.EPO(base, [0.7, 0.3])])
def test_one_decision_over_all_parameters_and_both_steps(two_heads, pair, method):
    model = copy.deepcopy(two_heads)
    bases = pair(model)
    opt = method(bases)
    assert opt.param_groups == [g for base in bases for g in base.param_groups]
    by_hand = pair(two_heads)
    for _ in range(5):
        report = opt.step(model.losses(X))
        params = list(two_heads.parameters())
        rows = [
            torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
            for loss in two_heads.losses(X)
        ]
        torch.testing.assert_close(
            report.gramian, pyfront.functional.gramian(rows), rtol=1e-5, atol=1e-6
        )
        found = zip(params, pyfront.functional.combine(rows, report.weights), strict=True)
        for p, d in found:
            p.grad = d
        for base in by_hand:
            base.step()
    for p, q in zip(model.parameters(), two_heads.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_the_list_may_be_a_tuple_or_hold_one(two_heads):
    model = copy.deepcopy(two_heads)
    opt, plain = (
        epo((torch.optim.AdamW(model.parameters(), lr=0.01),)),
        epo(torch.optim.AdamW(two_heads.parameters(), lr=0.01)),
    )
    steps(opt, model)
    steps(plain, two_heads)
    same(model, two_heads)
    assert repr(opt).startswith("EPO(OptimizerList(AdamW), preference=[0.7, 0.3]")
    saved = {"state": opt.state_dict()["state"], "param_groups": opt.state_dict()["param_groups"]}
    assert str(saved) == str(plain.state_dict())  # the form of one optimizer


# --------------------------------------------------------------------------- around the optimizers


@pairs
def test_schedulers_of_each_base_and_of_all(two_heads, pair):
    bases = pair(two_heads)
    opt = epo(bases)
    rates = [group["lr"] for group in opt.param_groups]
    own = StepLR(bases[0], step_size=1, gamma=0.5)
    whole = LambdaLR(opt, lambda epoch: 1.0 / (1 + epoch))
    steps(opt, two_heads, 1)
    own.step()
    assert [g["lr"] for g in opt.param_groups] == [rates[0] / 2, rates[1]]
    whole.step()
    assert [g["lr"] for g in opt.param_groups] == [rates[0] / 2, rates[1] / 2]
    assert [base.param_groups[0]["lr"] for base in bases] == [rates[0] / 2, rates[1] / 2]


def test_a_scheduler_of_momentum_is_told_that_not_all_have_it(two_heads):
    opt = epo(sgd_and_adamw(two_heads))
    assert "momentum" not in opt.defaults and "betas" not in opt.defaults and "lr" in opt.defaults
    with pytest.raises(ValueError, match="momentum"):
        OneCycleLR(opt, max_lr=0.1, total_steps=5)
    OneCycleLR(opt, max_lr=[0.1, 0.2], total_steps=5, cycle_momentum=False)


def test_hooks_run_once_and_are_given_the_pyfront_optimizer(two_heads):
    bases = sgd_and_adamw(two_heads)
    opt, seen = epo(bases), []
    opt.register_step_pre_hook(lambda o, *_: seen.append(("pre", o)))
    handle = opt.register_step_post_hook(lambda o, *_: seen.append(("post", o)))
    bases[0].register_step_post_hook(lambda o, *_: seen.append(("own", o)))
    steps(opt, two_heads, 1)
    assert seen == [("pre", opt), ("own", bases[0]), ("post", opt)]
    handle.remove()
    seen.clear()
    steps(opt, two_heads, 1)
    assert [name for name, _ in seen] == ["pre", "own"]
    opt.register_step_pre_hook(lambda *_: ((), {}))
    with pytest.raises(TypeError, match="cannot change the arguments"):
        steps(opt, two_heads, 1)


@pairs
def test_a_gradient_scaler_steps_and_skips(two_heads, pair):
    model = copy.deepcopy(two_heads)
    opt, plain = epo(pair(two_heads)), epo(pair(model))
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for _ in range(3):
        opt.backward(two_heads.losses(X), scaler=scaler)
        scaler.unscale_(opt)
        scaler.step(opt)
        scaler.update()
        plain.step(model.losses(X))
    for p, q in zip(two_heads.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    before = [p.detach().clone() for p in two_heads.parameters()]
    opt.backward([loss * torch.inf for loss in two_heads.losses(X)], scaler=scaler)
    scaler.step(opt)
    scaler.update()
    assert scaler.get_scale() == 128.0
    for p, q in zip(two_heads.parameters(), before, strict=True):
        assert torch.equal(p, q)


def test_zero_grad_and_state_reach_every_base(two_heads):
    bases = sgd_and_adamw(two_heads)
    opt = epo(bases)
    assert not opt.state and len(opt.state) == 0
    steps(opt, two_heads, 1)
    params = matrices(two_heads) + vectors(two_heads)
    assert {id(p) for p in opt.state} == {id(p) for p in params}
    p = vectors(two_heads)[0]
    assert opt.state[p] is bases[1].state[p]
    opt.state[p] = {"step": torch.tensor(7.0)}
    assert bases[1].state[p]["step"] == 7 and p not in bases[0].state
    kept = dict(opt.state)
    opt.state = kept
    assert bases[1].state[p] is kept[p] and len(opt.state) == len(params)
    del opt.state[p]
    assert p not in opt.state
    with pytest.raises(KeyError):
        opt.state[pair_of(1)]
    opt.zero_grad()
    assert all(p.grad is None for p in params)


class Slow(torch.optim.SGD):
    """Has the two modes of schedule-free optimizers."""

    mode = "train"

    def train(self):
        self.mode = "train"

    def eval(self):
        self.mode = "eval"


def test_methods_that_some_bases_have_are_called_on_those():
    slow = Slow([pair_of(2)], lr=0.1)
    opt = epo([torch.optim.SGD([pair_of(3)], lr=0.1), slow])
    opt.eval()
    assert slow.mode == "eval"
    opt.train()
    assert slow.mode == "train"
    with pytest.raises(AttributeError, match=r"base OptimizerList\(SGD, Slow\) has an attribute"):
        opt.flush()


def test_frameworks_that_copy_attributes_share_the_bases(two_heads):
    opt = epo(sgd_and_adamw(two_heads))
    other = copy.copy(opt)
    steps(other, two_heads, 1)
    assert opt.report is other.report and len(opt.state) > 0


# ------------------------------------------------------------------------------------------- groups


def test_a_group_is_added_to_one_of_the_bases():
    x, y, z = pair_of(2), pair_of(2), pair_of(2)
    sgd, adamw = torch.optim.SGD([x], lr=0.1), torch.optim.AdamW([y], lr=0.01)
    opt = pyfront.MGDA([sgd, adamw])
    with pytest.raises(ValueError, match=r"which of OptimizerList\(SGD, AdamW\) is to train"):
        opt.add_param_group({"params": [z]})
    sgd.add_param_group({"params": [z], "lr": 0.2})
    assert [g["lr"] for g in opt.param_groups] == [0.1, 0.2, 0.01]
    opt.step([(x * z).sum(), (y * z).sum()])
    assert z.tolist() != [1.0, 1.0]
    adamw.add_param_group({"params": [z]})
    message = r"base\[1\] \(AdamW\): its parameter 0 of group 1 \(shape \[2\]\) is a parameter of "
    with pytest.raises(ValueError, match=message + r"base\[0\] \(SGD\) too"):
        opt.step([(x * z).sum(), (y * z).sum()])


def test_groups_may_be_removed_and_rebuilt_but_not_in_place():
    params = [pair_of(2) for _ in range(3)]
    sgd = torch.optim.SGD([{"params": [params[0]]}, {"params": [params[1]], "lr": 0.3}], lr=0.1)
    opt = pyfront.MGDA([sgd, torch.optim.AdamW([params[2]], lr=0.01)])
    for change in (
        lambda groups: groups.pop(),
        lambda groups: groups.reverse(),
        lambda groups: groups.append({}),
        lambda groups: groups.__setitem__(0, {}),
    ):
        with pytest.raises(TypeError, match=r"assign opt.param_groups = \[...\]"):
            change(opt.param_groups)
    opt.param_groups = opt.param_groups[1:]
    assert [g["lr"] for g in sgd.param_groups] == [0.3] and len(opt.param_groups) == 2
    opt.param_groups = [dict(group, lr=0.5) for group in opt.param_groups][::-1]
    assert [g["lr"] for g in sgd.param_groups] == [0.5]
    with pytest.raises(ValueError, match=r"param_groups\[0\]: none of its parameters belongs"):
        opt.param_groups = [{"params": [pair_of(2)]}]
    copied = copy.copy(opt.param_groups)
    copied.append({})
    assert len(copied) == 3


@pytest.mark.parametrize(
    ("bases", "error", "message"),
    [
        (lambda x, y: [], ValueError, "base: expected at least one optimizer, got an empty list"),
        (lambda x, y: [x], TypeError, r"base\[0\]: expected a torch.optim.Optimizer, got Param"),
        (
            lambda x, y: [torch.optim.SGD([x], lr=0.1), torch.optim.LBFGS([y])],
            TypeError,
            r"base\[1\]: LBFGS wants a closure",
        ),
        (
            lambda x, y: [pyfront.MGDA(torch.optim.SGD([x], lr=0.1))],
            TypeError,
            r"base\[0\]: expected a plain optimizer, got MGDA",
        ),
        (
            lambda x, y: [torch.optim.SGD([y], lr=0.1), torch.optim.AdamW([x, y])],
            ValueError,
            r"base\[1\] \(AdamW\): its parameter 1 of group 0 \(shape \[3\]\) is .*base\[0\]",
        ),
        (
            lambda x, y: [torch.optim.SGD([("y", y)], lr=0.1), torch.optim.AdamW([("y", y)])],
            ValueError,
            r"base\[1\] \(AdamW\): its 'y' \(shape \[3\]\) is a parameter of base\[0\] \(SGD\) too",
        ),
    ],
)
def test_lists_that_cannot_be_wrapped(bases, error, message):
    with pytest.raises(error, match=message):
        pyfront.MGDA(bases(pair_of(2), pair_of(3)))


def test_a_base_with_two_phases_is_refused_in_a_list():
    class Sharp(torch.optim.SGD):
        def first_step(self): ...
        def second_step(self): ...

    with pytest.raises(TypeError, match=r"base\[0\]: Sharp has two phases"):
        pyfront.MGDA([Sharp([pair_of(2)], lr=0.1)])


def test_a_list_takes_no_closure_itself():
    both = OptimizerList([torch.optim.SGD([pair_of(2)], lr=0.1)])
    with pytest.raises(TypeError, match=r"OptimizerList\(SGD\) takes no closure"):
        both.step(lambda: None)


def test_a_table_with_sparse_adam_and_heads_with_adam():
    torch.manual_seed(0)
    table, head = nn.Embedding(50, 4, sparse=True), nn.Linear(4, 2)
    places = torch.tensor([3, 7, 7, 40])
    opt = pyfront.MGDA(
        [
            torch.optim.SparseAdam(table.parameters(), lr=0.05),
            torch.optim.Adam(head.parameters(), lr=0.05),
        ]
    )
    first = None
    for _ in range(20):
        y = head(table(places))
        report = opt.step([(y[:, 0] - 1).square().mean(), (y[:, 1] + 1).square().mean()])
        first = report.losses if first is None else first
    assert (report.losses < 0.5 * first).all() and table.weight.grad.is_sparse
