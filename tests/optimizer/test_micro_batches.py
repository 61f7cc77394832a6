"""What ``accumulate`` collects belongs to the tasks and the parameters that it was given."""

import pytest
import torch

import pyfront


def setting():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    return x, pyfront.MGDA(torch.optim.SGD([x], lr=0.1))


def test_losses_by_name_are_added_to_those_of_the_same_name():
    x, opt = setting()
    opt.accumulate({"seg": x[0] ** 2, "depth": 5 * x[1] ** 2})
    report = opt.step({"depth": 5 * x[1] ** 2, "seg": x[0] ** 2})
    assert report.tasks == ("seg", "depth")
    assert report.losses.tolist() == [2.0, 40.0]


def test_other_names_are_refused_and_change_nothing():
    x, opt = setting()
    opt.accumulate({"seg": x[0] ** 2, "depth": x[1] ** 2})
    with pytest.raises(ValueError, match=r"losses\['foo'\]: is no task of this optimizer"):
        opt.step({"foo": x[0] ** 2, "bar": x[1] ** 2})
    assert opt.step({"seg": x[0] ** 2, "depth": x[1] ** 2}).losses.tolist() == [2.0, 8.0]


def test_names_go_with_what_was_collected():
    x, opt = setting()
    opt.accumulate({"a": x[0] ** 2, "b": x[1] ** 2, "c": x[0] * x[1]})
    opt.zero_grad()
    assert opt.step({"seg": x[0] ** 2, "depth": x[1] ** 2}).tasks == ("seg", "depth")


@pytest.mark.parametrize("change", ["frozen", "reordered"])
def test_gradients_are_not_added_to_those_of_other_parameters(change):
    a, b = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(3))
    opt = pyfront.MGDA(torch.optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1))
    b.requires_grad_(change != "frozen")

    def losses():
        return [(a * 5).sum() + b.sum(), (a * 2).sum() + (b**2).sum()]

    opt.accumulate(losses())
    if change == "frozen":
        a.requires_grad_(False)
        b.requires_grad_(True)
    else:
        opt.param_groups.reverse()
    with pytest.raises(ValueError, match=r"the parameters have changed since accumulate\(\)"):
        opt.step(losses())
    assert a.grad is None and b.grad is None and a.item() == 1.0
    opt.zero_grad()
    opt.step(losses())  # without them
    assert b.grad is not None
