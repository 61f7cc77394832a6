"""Which task a parameter belongs to, as batch after batch shows it."""

import copy
import io

import pytest
import torch

import pyfront
from pyfront.optimizer.roles import SHARED, owners_after, task_specific

X = torch.linspace(-1, 1, 40).reshape(8, 5)


class Routed(torch.nn.Module):
    """An embedding, two experts that tasks are routed to, and a head for each task."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Linear(5, 4)
        self.experts = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
        self.heads = torch.nn.ModuleList(torch.nn.Linear(4, 1) for _ in range(2))

    def losses(self, *routes):
        z = torch.tanh(self.embed(X))
        features = [sum(torch.tanh(self.experts[k](z)) for k in route) for route in routes]
        return [((h(f) - 1) ** 2).mean() for h, f in zip(self.heads, features, strict=False)]

    def flat(self, *parts):
        return torch.cat([p.grad.flatten() for part in parts for p in part.parameters()])


BOTH, ALONE = ((0, 1), (0, 1)), ((0,), (1,))


def optimizer(model, make=pyfront.MGDA, **options):
    chosen = {"gramian_over": "shared", "task_gradients": "own"} | options
    return make(torch.optim.SGD(model.parameters(), lr=0.0), **chosen)


def after(*earlier):
    """Return the report and the gradients of a typical batch, after earlier ones."""
    model = Routed()
    opt = optimizer(model)
    for batch in earlier:
        opt.step(model.losses(*batch))
    report = opt.step(model.losses(*BOTH))
    return report, model.flat(model.experts), model.flat(model.heads)


def test_a_task_that_arrives_late_makes_a_parameter_shared():
    expected, found = after(), after(ALONE)
    torch.testing.assert_close(found[0].gramian, expected[0].gramian)
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b)


def test_what_two_tasks_have_reached_stays_shared():
    model = Routed()
    opt = optimizer(model)
    opt.step(model.losses(*BOTH))
    report = opt.step(model.losses(*ALONE))
    losses = model.losses(*ALONE)
    shared = [*model.embed.parameters(), *model.experts.parameters()]
    rows = []
    for loss in losses:
        found = torch.autograd.grad(loss, shared, retain_graph=True, allow_unused=True)
        pairs = zip(found, shared, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        )
    jacobian = torch.stack(rows).double()
    torch.testing.assert_close(report.gramian, jacobian @ jacobian.T, rtol=1e-5, atol=1e-9)
    opt.detect_roles()  # and may be forgotten
    embed = sum(p.numel() for p in model.embed.parameters())
    alone = jacobian[:, :embed]
    report = opt.step(model.losses(*ALONE))
    torch.testing.assert_close(report.gramian, alone @ alone.T, rtol=1e-5, atol=1e-9)


def test_one_loss_alone_proves_nothing():
    """C of that step is over all parameters, and the next step tells trunk and heads apart."""
    model = Routed()
    opt = optimizer(model)
    report = opt.step(model.losses((0, 1)))
    everything = model.flat(model.embed, model.experts, model.heads[0]).double()
    torch.testing.assert_close(report.gramian.item(), (everything @ everything).item())
    torch.testing.assert_close(opt.step(model.losses(*BOTH)).gramian, after()[0].gramian)


def test_a_mask_has_a_graph_and_reaches():
    """A loss times zero: its gradient is zero, and it is a task's all the same."""
    model = Routed()
    opt = optimizer(model)
    first, second = model.losses(*BOTH)
    opt.step([first, second * 0.0])
    torch.testing.assert_close(opt.step(model.losses(*BOTH)).gramian, after()[0].gramian)


def test_a_frozen_trunk_is_named_and_thawing_it_is_noticed():
    model = Routed()
    for part in (model.embed, model.experts):
        part.requires_grad_(False)
    opt = optimizer(model)
    with pytest.raises(ValueError, match="unfreeze the shared part of the model if it is frozen"):
        opt.step(model.losses(*BOTH))
    for part in (model.embed, model.experts):
        part.requires_grad_(True)
    torch.testing.assert_close(opt.step(model.losses(*BOTH)).gramian, after()[0].gramian)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_knows_what_was_seen(cut):
    batches = [ALONE, BOTH, ALONE, ALONE]
    model, found = Routed(), []
    opt = optimizer(model)
    for batch in batches:
        found.append(opt.step(model.losses(*batch)).gramian)
    model = Routed()
    opt = optimizer(model)
    for step, batch in enumerate(batches):
        if step == cut:
            file = io.BytesIO()
            torch.save(opt.state_dict(), file)
            file.seek(0)
            model = Routed()
            opt = optimizer(model)
            opt.load_state_dict(torch.load(file, weights_only=True))
        assert torch.equal(opt.step(model.losses(*batch)).gramian, found[step])


def test_copies_go_on_for_themselves():
    model = Routed()
    opt = optimizer(model)
    opt.step(model.losses(*ALONE))
    twin, copied = copy.deepcopy((model, opt))
    copied.step(twin.losses(*BOTH))  # shared from now on, for the copy
    assert not torch.equal(
        copied.step(twin.losses(*ALONE)).gramian, opt.step(model.losses(*ALONE)).gramian
    )


def test_owners_by_cases():
    params = [torch.nn.Parameter(torch.zeros(1)) for _ in range(5)]
    params[1].requires_grad_(False)  # has no column
    g = torch.zeros(1)
    known = [None, 0, 0, SHARED, None]
    rows = [[g, g, None, None], [None, g, g, None]]
    found = owners_after(known, params, rows, [0, 2])
    assert found == [0, 0, SHARED, SHARED, None]
    assert owners_after([None] * 5, params, rows[:1], [0]) == [None] * 5  # one loss
    assert owners_after(found, params, rows[:1], [1])[0] == SHARED  # of a task that had none
    groups = [{"params": params}]
    assert task_specific([1, 0, SHARED, None, 2], groups) == [0, 3]
    groups = [{"params": params[:3]}, {"params": params[3:], "role": "task"}]
    assert task_specific([1, 0, SHARED, None, 2], groups) == [2, 3]
