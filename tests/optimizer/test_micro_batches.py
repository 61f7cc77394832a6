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


def test_a_preference_by_name_is_in_the_order_of_what_was_collected():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])

    def losses():
        return {"a": x[0] ** 2 / 2, "b": x[1] ** 2 / 2}

    opt.accumulate(losses())
    with pytest.raises(ValueError, match=r"preference\['x'\]: is no task"):
        opt.preference = {"x": 0.5, "y": 0.5}
    opt.preference = {"b": 0.9, "a": 0.1}
    report = opt.step(losses())
    assert report.tasks == ("a", "b") and report.losses.tolist() == [1.0, 4.0]
    assert report.weights.tolist() == [0.1, 0.9]


def test_a_checkpoint_of_other_names_is_refused_after_micro_batches():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def make():
        return pyfront.LinearScalarization(torch.optim.SGD([x], lr=0.1), [0.9, 0.1])

    saved = make()
    saved.backward({"b": x[1] ** 2, "a": x[0] ** 2})
    opt = make()
    opt.accumulate({"a": x[0] ** 2, "b": x[1] ** 2})
    with pytest.raises(ValueError, match=r"its tasks are \['b', 'a'\], expected \['a', 'b'\]"):
        opt.load_state_dict(saved.state_dict())


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
