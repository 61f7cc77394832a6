"""What a loop can do wrong with its one scalar is explained, and nothing is decided by it."""

import pytest
import torch
from scalarize_cases import METHODS, X, adam, gradients, same

from pyfront import EPO


def test_a_second_backward_is_explained_and_can_be_wanted(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    scalar = opt.scalarize(two_heads.losses(X))
    scalar.backward(retain_graph=True)
    d = gradients(two_heads)
    scalar.backward()
    assert same(gradients(two_heads), [2 * g for g in d])
    with pytest.raises(RuntimeError, match="called twice on a scalar of scalarize"):
        scalar.backward()


def test_second_derivatives_are_refused(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    scalar = opt.scalarize(two_heads.losses(X)) ** 2
    g = torch.autograd.grad(scalar, two_heads.trunk.bias, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g[0].sum().backward()


@pytest.mark.parametrize("name", ["epo", "linear"])
def test_a_scalar_that_was_forgotten_is_explained(two_heads, name):
    opt = METHODS[name](adam(two_heads))
    before = two_heads.trunk.bias.clone()
    opt.scalarize(two_heads.losses(X))
    with pytest.raises(ValueError, match=r"no backward\(\) of its scalar has run"):
        opt.step()
    assert torch.equal(two_heads.trunk.bias, before)
    opt.step(two_heads.losses(X))  # said once


@pytest.mark.parametrize("caller", ["backward", "accumulate"])
@pytest.mark.parametrize("ran", [True, False])
def test_mixing_with_backward_is_explained(two_heads, caller, ran):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    scalar = opt.scalarize(two_heads.losses(X))
    if ran:
        scalar.backward()
    state = "has put its direction into" if ran else "waits for its backward"
    with pytest.raises(ValueError, match=f"{caller}: a scalar of scalarize.. {state}"):
        getattr(opt, caller)(two_heads.losses(X))
    getattr(opt, caller)(two_heads.losses(X))


def test_a_scalar_after_backward_is_explained(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    opt.backward(two_heads.losses(X))
    with pytest.raises(ValueError, match="backward.losses. has filled .grad"):
        opt.scalarize(two_heads.losses(X))
    opt.step()
    opt.scalarize(two_heads.losses(X)).backward()
    opt.step()


def test_an_error_changes_nothing(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    losses = two_heads.losses(X)
    with pytest.raises(ValueError, match=r"losses\[1\]"):
        opt.scalarize([losses[0], losses[1] * float("nan")])
    with pytest.raises(TypeError, match=r"scalarize\(\) takes the losses"):
        opt.scalarize(lambda: losses)
    assert opt.report is None and two_heads.trunk.bias.grad is None
    opt.step()  # nothing waits


def test_without_gradients_nothing_is_decided(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])
    with torch.no_grad():
        losses = two_heads.losses(X)
        assert opt.scalarize(losses).item() == pytest.approx(float(sum(losses)) / 2)
    opt.step(two_heads.losses(X))
    report, memory = opt.report, dict(opt.memory)
    with torch.no_grad():
        losses = two_heads.losses(X)
        expected = sum(w * x.item() for w, x in zip(report.weights.tolist(), losses, strict=True))
        found = opt.scalarize(losses, fixed=torch.tensor(2.0))
        assert found.item() == pytest.approx(expected + 2.0) and found.dim() == 0
        with pytest.raises(ValueError, match="expected 2 as in the last report, got 1"):
            opt.scalarize(losses[:1])
    assert opt.report is report and opt.memory == memory
    opt.step()


def test_a_closure_in_torchs_own_style_is_explained(two_heads):
    opt = EPO(adam(two_heads), [0.7, 0.3])

    def closure():
        opt.zero_grad()
        loss = sum(two_heads.losses(X))
        loss.backward()
        return loss

    before = two_heads.trunk.bias.clone()
    with pytest.raises(TypeError, match=r"closure: it returned one number; return the losses"):
        opt.step(closure)
    assert torch.equal(two_heads.trunk.bias, before)
