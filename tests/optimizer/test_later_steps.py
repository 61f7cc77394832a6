"""Steps under other modes, after a failure, and with parameters or bases that are not as before."""

import collections
import contextlib
import functools
import gc
import warnings
import weakref

import pytest
import torch
from loop_cases import X, setting

import pyfront


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "make",
    [
        lambda base: pyfront.MGDA(base),
        lambda base: pyfront.MGDA(base, engine="steal"),
        lambda base: pyfront.MGDA(base, engine="columns"),
        lambda base: pyfront.SingleLoopMGDA(base),
        lambda base: pyfront.PreferenceFeedback(base, [1.0, 2.0]),
    ],
    ids=["grad", "steal", "columns", "products", "losses"],
)
def test_a_step_does_not_depend_on_the_mode_it_is_made_in(make, mode):
    def weights_in(mode):
        p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        opt, seen = make(torch.optim.SGD([p], lr=0.1)), []
        for _ in range(3):
            losses = [(p**2).sum(), p.exp().sum()]
            with mode():
                seen.append(opt.backward(losses).weights.tolist())
            opt.step()
        return seen, p.tolist()

    assert weights_in(mode) == weights_in(contextlib.nullcontext)


@pytest.mark.parametrize(
    "make",
    [
        lambda base: pyfront.PreferenceFeedback(base, [0.5, 0.5]),
        lambda base: pyfront.LinearScalarization(base, [0.5, 0.5]),
        pyfront.SingleLoopMGDA,
        pyfront.FAMO,
    ],
    ids=["feedback", "linear", "products", "famo"],
)
def test_a_task_whose_parameters_are_frozen_later_is_named(make):
    heads = [torch.nn.Linear(4, 1) for _ in range(2)]
    opt = make(torch.optim.SGD([p for head in heads for p in head.parameters()], lr=0.05))
    x = X.clone().requires_grad_()  # keeps a graph, as other models in front do

    def losses():
        return [(head(x) - 1).square().mean() for head in heads]

    opt.step(losses())
    heads[1].requires_grad_(False)
    with pytest.raises(ValueError, match=r"losses\[1\]: the graph reaches no parameter"):
        opt.step(losses())
    heads[1].requires_grad_(True)
    opt.step(losses())


def test_a_step_can_be_repeated_after_the_base_has_raised():
    model, opt = setting()
    calls = []

    def fail(*_):
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("full disk")

    opt.base.register_step_pre_hook(fail)
    with pytest.raises(RuntimeError, match="full disk"):
        opt.step([model(X)[:, k].square().mean() for k in range(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it knows who has filled .grad
        opt.step()


def test_rises_are_measured_when_a_failed_step_is_repeated():
    model, opt = setting(lambda base: pyfront.MGDA(base, track_rises=True))
    opt.backward([model(X)[:, k].square().mean() for k in range(2)])
    fail = opt.base.register_step_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        opt.step()
    fail.remove()
    opt.step()
    assert {"change/0", "change/1", "rising"} <= opt.metrics().keys()


def test_losses_and_features_that_are_none_are_named():
    model, opt = setting()
    with pytest.raises(ValueError, match="losses: expected at least one loss, got none"):
        pyfront.MGDA(torch.optim.SGD(model.parameters(), lr=0.1)).step({})
    with pytest.raises(TypeError, match="features: expected tensors, got int"):
        opt.step([model(X)[:, k].square().mean() for k in range(2)], features=3)
    z = model(X)
    opt.step([z[:, k].square().mean() for k in range(2)], features=collections.deque([z]))


class Old(torch.optim.SGD):
    """In torch's form before 1.7."""

    def zero_grad(self):
        super().zero_grad()


class Zeros(torch.optim.SGD):
    """With torch's default before 2.0."""

    def zero_grad(self, set_to_none=False):
        super().zero_grad(set_to_none)


class Named(torch.optim.SGD):
    """By keyword alone."""

    def zero_grad(self, *, set_to_none=True):
        super().zero_grad(set_to_none)


class Wrapped(torch.optim.SGD):
    """Under a decorator that shows another signature than it has."""

    @functools.wraps(torch.optim.SGD.zero_grad)
    def zero_grad(self):
        super().zero_grad()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("base", [Old, Zeros, Named, Wrapped])
def test_bases_in_torchs_old_forms_are_cleared(base, several):
    p = torch.nn.Parameter(torch.ones(2))
    one = base([p], lr=0.1)
    opt = pyfront.MGDA([one] if several else one)
    opt.backward([p[0] ** 2, p[1] ** 2])
    opt.zero_grad()
    assert p.grad is None


def test_parameters_that_are_gone_are_not_kept():
    p, q = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = pyfront.LinearScalarization(torch.optim.SGD([p], lr=0.1), [0.5, 0.5])
    opt.step([p[0] ** 2, p[1] ** 2])
    gone = weakref.ref(p)
    opt.base.param_groups[0]["params"] = [q]
    opt.base.state.clear()
    del p
    gc.collect()
    assert gone() is None
    opt.step([q[0] ** 2, q[1] ** 2])
