"""Compiled models: several backward passes through one compiled graph."""

import copy

import pytest
import torch

from pyfront import EPO, MGDA, LinearScalarization, SingleLoopMGDA

X = torch.linspace(-1, 1, 30).reshape(6, 5)
METHODS = {
    "mgda": lambda base: MGDA(base),
    "epo": lambda base: EPO(base, [0.7, 0.3]),
    "linear": lambda base: LinearScalarization(base, [0.7, 0.3]),
}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_compiled_model_gives_the_same_step(two_heads, method):
    compiled = copy.deepcopy(two_heads)
    fast = torch.compile(compiled, backend="aot_eager")
    opt, opt_compiled = method(sgd(two_heads)), method(sgd(compiled))
    for _ in range(2):
        opt.step([(y**2).mean() for y in two_heads(X)])
        opt_compiled.step([(y**2).mean() for y in fast(X)])
    for p, q in zip(two_heads.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_donated_buffers_are_explained(two_heads):
    fast = torch.compile(lambda x: [(y**2).mean() * x.sum().cos() for y in two_heads(x)])
    sum(fast(X)).backward()  # compiled for one backward pass
    with pytest.raises(RuntimeError, match=r"losses\[0\].*donated_buffer = False"):
        MGDA(sgd(two_heads)).backward(fast(X))


def test_products_of_a_compiled_model_are_those_of_the_model_or_an_error(two_heads):
    fast = torch.compile(two_heads, backend="aot_eager")
    products = {}
    for name, model in (("eager", two_heads), ("compiled", fast)):
        opt = SingleLoopMGDA(torch.optim.SGD(two_heads.parameters(), lr=0.0), products="forward")
        products[name] = opt.step(lambda model=model: [(y**2).mean() for y in model(X)]).gap
    assert products["compiled"] == pytest.approx(products["eager"], rel=1e-5)
    with pytest.raises(RuntimeError, match="products='double_backward'.*set products='forward'"):
        SingleLoopMGDA(sgd(two_heads)).step([(y**2).mean() for y in fast(X)])


def test_batches_of_changing_sizes_need_buffers_that_stay(two_heads, method):
    """A graph for changing sizes is compiled with its backward pass, before anybody makes two."""
    eager, compiled = copy.deepcopy(two_heads), copy.deepcopy(two_heads)
    opt, opt_compiled = method(sgd(eager)), method(sgd(compiled))
    torch.compiler.reset()
    with torch._functorch.config.patch(donated_buffer=False):
        fast = torch.compile(compiled, backend="aot_eager")
        for rows in (6, 6, 3, 5):
            opt.step([(y**2).mean() for y in eager(X[:rows])])
            opt_compiled.step([(y**2).mean() for y in fast(X[:rows])])
    for p, q in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(p, q)
