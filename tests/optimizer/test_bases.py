"""Base optimizers: which can be wrapped, and what of theirs is reached through the wrapper."""

import copy

import pytest
import torch

import pyfront
from pyfront import MGDA


def pair():
    return torch.nn.Parameter(torch.tensor([1.0, 2.0]))


def losses(x):
    return [x[0] ** 2, (x[1] - 1) ** 2]


class Required(torch.optim.SGD):
    """Its signature says that it wants a closure."""

    def step(self, closure):
        closure()
        return super().step()


class AliG(torch.optim.SGD):
    """Its body says so, and its name is known."""

    def step(self, closure=None):
        if closure is None:
            raise RuntimeError("a closure, please")


class FullBatchLBFGS(torch.optim.SGD):
    pass


class Descendant(AliG):
    pass


@pytest.mark.parametrize("base", [Required, AliG, Descendant, FullBatchLBFGS, torch.optim.LBFGS])
def test_a_base_that_wants_a_closure_is_refused_when_wrapped(base):
    with pytest.raises(TypeError, match=f"base: {base.__name__} wants a closure.*another base"):
        MGDA(base([pair()], lr=0.1))


class Sharp(torch.optim.Optimizer):
    """Sharpness-aware descent: climb by ρ d/‖d‖, then step from where it began with d there."""

    def __init__(self, params, lr=0.1, rho=0.05):
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                climb = group["rho"] * p.grad / p.grad.norm()
                self.state[p]["climb"] = climb
                p.add_(climb)
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(self.state[p]["climb"]).sub_(group["lr"] * p.grad)
        if zero_grad:
            self.zero_grad()

    def step(self, closure=None):
        assert closure is not None, "a closure, please"


def test_a_base_with_two_phases_is_told_the_phases_and_runs_them():
    x = pair()
    opt = pyfront.LinearScalarization(Sharp([x]), [0.5, 0.5], weight_smoothing=0.5)
    for call in (lambda: opt.step(losses(x)), lambda: opt.step(lambda: losses(x)), opt.step):
        with pytest.raises(TypeError, match=r"base Sharp wants a closure.*base.second_step\(\)"):
            call()
    assert x.grad is None and x.tolist() == [1.0, 2.0] and "weights" not in opt.memory
    for _ in range(3):
        opt.backward(losses(x))
        opt.base.first_step(zero_grad=True)
        opt.backward(losses(x))
        opt.base.second_step()
    y = pair().detach()
    gradient = lambda z: torch.stack([z[0], z[1] - 1])  # noqa: E731
    for _ in range(3):
        d = gradient(y)
        y = y - 0.1 * gradient(y + 0.05 * d / d.norm())
    torch.testing.assert_close(x.detach(), y)


class Slow(torch.optim.Optimizer):
    """A wrapper as Lookahead is: it steps through another optimizer and saves no groups."""

    def __init__(self, inner):
        self.inner = inner
        self.state, self.defaults = {}, inner.defaults
        self.slow = [p.detach().clone() for group in self.param_groups for p in group["params"]]

    @property
    def param_groups(self):
        return self.inner.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        self.inner.step()
        params = [p for group in self.param_groups for p in group["params"]]
        for p, slow in zip(params, self.slow, strict=True):
            slow.lerp_(p, 0.5)
            p.copy_(slow)

    def state_dict(self):
        return {"slow": [s.clone() for s in self.slow], "inner": self.inner.state_dict()}

    def load_state_dict(self, state):
        assert set(state) == {"slow", "inner"}  # a stranger's key would not be known
        self.slow = [s.clone() for s in state["slow"]]
        self.inner.load_state_dict(state["inner"])


def test_a_base_that_saves_no_groups_keeps_the_memory_at_the_top():
    def make(x):
        return MGDA(Slow(torch.optim.Adam([x], lr=0.05)), weight_smoothing=0.5)

    x = pair()
    opt = make(x)
    for _ in range(3):
        opt.step(losses(x))
    y = torch.nn.Parameter(x.detach().clone())
    resumed = make(y)
    resumed.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert resumed.memory == opt.memory and len(opt.memory["weights"]) == 2
    for _ in range(3):
        opt.step(losses(x))
        resumed.step(losses(y))
    assert torch.equal(x, y)
    with pytest.raises(ValueError, match="saved by MGDA"):
        pyfront.GradNorm(Slow(torch.optim.Adam([y]))).load_state_dict(opt.state_dict())


def test_a_base_without_groups_is_refused():
    class Bare(torch.optim.Optimizer):
        def __init__(self):
            self.state = {}

        def step(self, closure=None):
            return None

    with pytest.raises(TypeError, match="base: Bare has no list of param_groups"):
        MGDA(Bare())


class Averaging(torch.optim.SGD):
    """As schedule-free optimizers do: eval() puts averaged weights in, train() takes them out."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.kept = None

    def eval(self):
        (p,) = self.param_groups[0]["params"]
        self.kept = p.detach().clone()
        p.data.mul_(0.5)

    def train(self):
        (p,) = self.param_groups[0]["params"]
        p.data.copy_(self.kept)


def test_train_and_eval_of_the_base_are_reached():
    x = pair()
    opt = MGDA(Averaging([x], lr=0.1))
    opt.step(losses(x))
    before = x.detach().clone()
    assert callable(getattr(opt, "eval", None))  # what frameworks look for
    opt.eval()
    assert torch.equal(x, 0.5 * before)
    opt.train()
    assert torch.equal(x, before)


def test_what_is_private_to_the_base_stays_there():
    """A fused base unscales gradients itself; a scaler must not believe that the wrapper does."""
    opt = MGDA(torch.optim.Adam([pair()], fused=True))
    assert opt.base._step_supports_amp_scaling
    assert not hasattr(opt, "_step_supports_amp_scaling")
