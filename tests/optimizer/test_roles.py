"""The parameters that the Gramian is over, named by the user."""

import copy
import pickle

import pytest
import torch

from pyfront import EPO, MGDA

X = torch.linspace(-1, 1, 30).reshape(6, 5)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def gramian_of(model, params):
    rows = [
        torch.cat(
            [g.reshape(-1).double() for g in torch.autograd.grad(loss, params, retain_graph=True)]
        )
        for loss in model.losses(X)
    ]
    return torch.stack([torch.stack([a @ b for b in rows]) for a in rows])


@pytest.mark.parametrize("task_gradients", ["weighted", "own"])
def test_the_gramian_is_over_the_named_parameters(two_heads, task_gradients):
    trunk = two_heads.trunk
    for named in ([trunk.weight], trunk.parameters(), (trunk.bias, trunk.bias)):
        params = list(named)
        opt = MGDA(sgd(two_heads), gramian_over=iter(params), task_gradients=task_gradients)
        report = opt.backward(two_heads.losses(X))
        expected = gramian_of(two_heads, list(dict.fromkeys(params)))
        torch.testing.assert_close(report.gramian, expected, rtol=1e-6, atol=1e-9)
        head = torch.autograd.grad(two_heads.losses(X)[0], two_heads.heads[0].weight)[0]
        w = 1.0 if task_gradients == "own" else report.weights[0].item()
        torch.testing.assert_close(two_heads.heads[0].weight.grad, w * head)


def test_frozen_parameters_shift_no_name(two_heads):
    trunk = two_heads.trunk
    opt = EPO(sgd(two_heads), [0.5, 0.5], gramian_over=[trunk.bias])
    trunk.weight.requires_grad_(False)
    report = opt.backward(two_heads.losses(X))
    expected = gramian_of(two_heads, [trunk.bias])
    torch.testing.assert_close(report.gramian, expected, rtol=1e-6, atol=1e-9)
    trunk.bias.requires_grad_(False)
    with pytest.raises(ValueError, match="gramian_over: none of the named parameters requires"):
        opt.backward(two_heads.losses(X))


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_name_their_own_parameters(clone):
    # a model that pickles: the fixture's class belongs to a module that cannot be imported
    model = torch.nn.Linear(3, 2)
    opt = MGDA(sgd(model), gramian_over=[model.bias])
    twin, copied = clone((model, opt))
    report = copied.backward(list(twin(torch.ones(3)) ** 2))
    assert report.gramian[0, 1] == 0 and twin.bias.grad is not None and model.bias.grad is None
    torch.testing.assert_close(
        report.gramian.diagonal(), (2 * twin(torch.ones(3)).detach()).double() ** 2
    )


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        (lambda model: [], ValueError, "gramian_over: names no parameter"),
        (lambda model: "trunk", ValueError, "gramian_over = 'trunk'"),
        (lambda model: model.trunk.weight, TypeError, "gramian_over: expected a list.*Parameter"),
        (lambda model: None, TypeError, "gramian_over: expected a list.*NoneType"),
        (lambda model: ["trunk"], TypeError, r"gramian_over\[0\]: expected a tensor, got str"),
        (
            lambda model: [model.trunk.weight, torch.ones(2)],
            ValueError,
            r"gramian_over\[1\]: is no parameter of this optimizer",
        ),
    ],
)
def test_bad_names(two_heads, named, error, message):
    with pytest.raises(error, match=message):
        MGDA(sgd(two_heads), gramian_over=named(two_heads))
