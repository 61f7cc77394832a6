"""The short way to a gradient gives the bits of torch.autograd.grad, and steps aside for others."""

import logging
import subprocess
import sys

import pytest
import torch
from gradient_cases import CASES
from torch import nn
from torch.overrides import TorchFunctionMode

from pyfront.gradients import grad_passes
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.grad_passes import gradients
from pyfront.gradients.steal_engine import StealEngine


def two_losses():
    p = nn.Parameter(torch.randn(5))
    return [(p**2).sum(), p.exp().mean()], [p]


def goes_to_the_engine(losses, params):
    return grad_passes._are_plain((*losses, *params))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_short_way_gives_the_bits_of_autograd_grad(case):
    torch.manual_seed(0)
    losses, params = case()
    assert goes_to_the_engine(losses, params)
    rows = gradients(losses, params, [True] * len(losses))
    for loss, found in zip(losses, rows, strict=True):
        expected = torch.autograd.grad(loss, params, retain_graph=True, allow_unused=True)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype is b.dtype and a.layout is b.layout
                assert torch.equal(a.to_dense(), b.to_dense())


def test_loss_of_one_element_keeps_its_shape():
    p = nn.Parameter(torch.randn(3))
    loss = (p**2).sum().reshape(1, 1)
    ((found,),) = grad_passes._by_engine([loss], [p], [False])
    assert torch.equal(found, 2 * p)


def test_losses_of_several_shapes_and_dtypes_each_get_a_root_of_their_own():
    p = nn.Parameter(torch.randn(3))
    losses = [(p**2).sum(), p.sum().reshape(1), p.exp().sum().double(), p.sum(), p[:1] * p[1]]
    rows = grad_passes._by_engine(losses, [p], [True] * len(losses))
    for loss, (found,) in zip(losses, rows, strict=True):
        (expected,) = torch.autograd.grad(loss, [p], retain_graph=True)
        assert torch.equal(found, expected)


def test_keeps_the_graph_only_when_asked():
    (loss, _), params = two_losses()
    rows = grad_passes._by_engine([loss] * 3, params, [True, False, False])
    next(rows)
    next(rows)
    with pytest.raises(RuntimeError, match="second time"):
        next(rows)


def test_a_pass_is_made_when_its_gradient_is_asked_for():
    losses, params = two_losses()
    made = []
    losses[1].register_hook(made.append)
    rows = gradients(losses, params, [True, False])
    next(rows)
    assert not made
    next(rows)
    assert len(made) == 1


class Subclass(torch.Tensor):
    seen = ()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen = (*cls.seen, func)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_tensor_subclass_sees_the_call():
    p = torch.randn(4).as_subclass(Subclass).requires_grad_()
    losses = [(p**2).sum(), p.sum()]
    assert not goes_to_the_engine(losses, [p])
    Subclass.seen = ()
    GradEngine().rows(losses, [p], retain_graph=False)
    assert Subclass.seen.count(torch.autograd.grad) == 2


def test_mode_sees_the_call():
    calls = []

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    losses, params = two_losses()
    with Mode():
        assert not goes_to_the_engine(losses, params)
        GradEngine().rows(losses, params, retain_graph=False)
    assert calls.count(torch.autograd.grad) == 2
    assert goes_to_the_engine(losses, params)


def test_autograds_log_gets_its_lines(caplog):
    losses, params = two_losses()
    with caplog.at_level(logging.DEBUG, logger="torch.autograd.graph"):
        assert not goes_to_the_engine(losses, params)
        try:
            GradEngine().rows(losses, params, retain_graph=False)
        except ModuleNotFoundError as error:
            if error.name != "expecttest":
                raise
            pytest.skip(f"the log of torch {torch.__version__} needs expecttest")
    assert "Executing" in caplog.text
    assert goes_to_the_engine(losses, params)


def raising(error):
    def run(*args, **kwargs):
        raise error

    return run


@pytest.mark.parametrize("run", [raising(TypeError("signature")), lambda *a, **k: (None, None)])
def test_engine_with_another_entry_is_not_used(monkeypatch, run):
    monkeypatch.setattr(grad_passes, "engine_entry", lambda: run)
    monkeypatch.setattr(grad_passes, "_engine", grad_passes._engine.__wrapped__)
    assert grad_passes._engine() is None
    losses, params = two_losses()
    assert not goes_to_the_engine(losses, params)
    rows = GradEngine().rows(losses, params, retain_graph=False)
    assert torch.equal(rows[0][0], 2 * params[0])


def test_importing_makes_no_pass():
    """One before a fork would forbid those after it where there is a GPU."""
    code = (
        "import pyfront; from pyfront.gradients import grad_passes;"
        "assert grad_passes._engine.cache_info().currsize == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("engine", [GradEngine, StealEngine])
def test_hook_that_writes_into_its_gradient_changes_no_other_task(engine):
    """Torch advises against it and lets it happen; each pass begins with memory of its own."""
    p = nn.Parameter(torch.tensor([1.0, 2.0]))

    def losses():
        made = [p[0] ** 2, p[1] ** 2, (p**2).sum()]
        for loss in made:
            loss.register_hook(lambda g: g.mul_(3.0))
        return made

    rows = engine().rows(losses(), [p], retain_graph=False)
    assert [row[0].tolist() for row in rows] == [[6.0, 0.0], [0.0, 12.0], [6.0, 12.0]]
