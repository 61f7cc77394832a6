"""explain() says what the next step does: its words are compared with what that step then did."""

import re

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import pyfront
from pyfront import EPO, MGDA, LinearScalarization
from pyfront.gradients.engines import ENGINES
from pyfront.gradients.grad_engine import GradEngine

X = torch.linspace(-1, 1, 30).reshape(6, 5)


@pytest.fixture
def passes(monkeypatch):
    """The number of backward passes of every engine call, as they are made."""
    made = []

    class Counting(GradEngine):
        name = "counting"

        def gradients(self, *given):
            for gradient in super().gradients(*given):
                made.append(None)
                yield gradient

        def weighted(self, *given):
            made.append(None)
            return super().weighted(*given)

    monkeypatch.setitem(ENGINES, "counting", Counting)
    return made


def subject(opt, name):
    (line,) = [x for x in opt.explain().splitlines()[1:] if x.strip().startswith(f"{name}: ")]
    return line.partition(": ")[2]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


CASES = {
    "MGDA": (MGDA, {}, "for the Gramian that MGDA decides on"),
    "linear": (lambda b, **o: LinearScalarization(b, [1, 1], **o), {}, "of the weighted sum"),
    "feedback": (lambda b, **o: pyfront.PreferenceFeedback(b, [0.7, 0.3], **o), {}, "weighted sum"),
    "own": (
        lambda b, **o: LinearScalarization(b, [1, 1], **o),
        {"task_gradients": "own"},
        "as task_gradients='own' needs them",
    ),
    "tracked": (
        lambda b, **o: LinearScalarization(b, [1, 1], **o),
        {"track_rises": True},
        "as track_rises needs the task gradients",
    ),
    "every": (MGDA, {"every": 3}, "every=3"),
    "product over shared": (
        pyfront.SingleLoopMGDA,
        {"gramian_over": "shared"},
        "as SingleLoopMGDA takes C w from the Gramian here",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_next_step_takes_as_many_passes_as_it_says(two_heads, case, passes):
    make, options, words = CASES[case]
    opt = make(sgd(two_heads), engine="counting", **options)
    opt.step(two_heads.losses(X))
    for _ in range(4):
        said = subject(opt, "next step")
        assert words in said
        passes.clear()
        opt.step(two_heads.losses(X))
        assert len(passes) == int(re.match(r"(\d+) backward pass", said)[1])


def test_every_counts_down(two_heads):
    opt = MGDA(sgd(two_heads), every=3)
    said = []
    for _ in range(4):
        opt.step(two_heads.losses(X))
        said.append(subject(opt, "next step"))
    assert said[0] == (
        "1 backward pass, with the weights of an earlier step; every=3: the next decision is in 2 "
        "steps"
    )
    assert said[1].endswith("is in 1 step")
    assert said[2] == (
        "2 backward passes, for the Gramian that MGDA decides on; every=3: it decides anew"
    )
    assert said[3] == said[0]


def test_before_the_first_step_it_says_what_is_not_known(two_heads):
    opt = MGDA(sgd(two_heads), gramian_over="shared")
    assert subject(opt, "tasks") == "not known before the first step"
    assert subject(opt, "engine") == "grad or steal, as the graph of the first step asks"
    assert subject(opt, "roles") == "detected at the first step"
    assert subject(opt, "next step").startswith("one backward pass per loss")
    assert subject(opt, "memory") == "one gradient per task"
    assert subject(EPO(sgd(two_heads), [0.7, 0.3]), "tasks") == "2"


def test_roles_and_memory_are_those_of_the_model(two_heads):
    opt = MGDA(sgd(two_heads), gramian_over="shared")
    opt.step(dict(zip(("segmentation", "depth"), two_heads.losses(X), strict=True)))
    assert subject(opt, "tasks") == "2 (segmentation, depth)"
    assert subject(opt, "roles") == "2 tensors shared, 4 of one task"
    trunk, heads = 5 * 7 + 7, 7 * 3 + 3 + 7 * 2 + 2
    assert subject(opt, "memory").startswith(f"2 task gradients, {4 * (2 * trunk + heads)} B")
    assert subject(opt, "parameters") == (
        f"{trunk + heads} numbers in 6 tensors, {4 * (trunk + heads)} B"
    )
    assert subject(opt, "Gramian") == "over shared parameters"
    opt = MGDA(sgd(two_heads))
    opt.step(two_heads.losses(X))
    assert "not looked at" in subject(opt, "roles")
    assert subject(opt, "memory").startswith(f"2 task gradients, at most {8 * (trunk + heads)} B")


def test_roles_by_group_and_named_parameters(two_heads):
    groups = [
        {"params": list(two_heads.trunk.parameters())},
        {"params": list(two_heads.heads.parameters()), "role": "task"},
    ]
    opt = MGDA(torch.optim.SGD(groups, lr=0.1), gramian_over=list(two_heads.trunk.parameters()))
    assert subject(opt, "roles") == "by the groups' role: 4 tensors of one task"
    assert subject(opt, "Gramian") == "over 2 named parameters"
    two_heads.trunk.bias.requires_grad_(False)
    assert subject(opt, "parameters").endswith("; 1 frozen")


def test_the_engine_is_that_of_the_last_step(two_heads):
    opt = MGDA(sgd(two_heads))
    opt.step(two_heads.losses(X))
    assert subject(opt, "engine") == "grad, chosen from the graph of the last step"
    z = checkpoint(lambda x: torch.tanh(two_heads.trunk(x)), X.requires_grad_(), use_reentrant=True)
    opt.step([(head(z) ** 2).mean() for head in two_heads.heads])
    assert subject(opt, "engine") == "steal, chosen from the graph of the last step"
    assert subject(MGDA(sgd(two_heads), engine="grad"), "engine") == "grad"


def test_products_bounds_and_what_waits(two_heads):
    opt = pyfront.SingleLoopMGDA(sgd(two_heads), products="forward")
    assert subject(opt, "next step") == "1 backward pass and one product C w (products='forward')"
    assert subject(opt, "memory") == "no task gradients beside .grad"
    opt.accumulate(two_heads.losses(X))
    assert "as micro-batches are accumulated" in subject(opt, "next step")
    assert "2 task gradients of micro-batches" in subject(opt, "kept between steps")
    opt = MGDA(sgd(two_heads), upper_bound=True)
    assert "features" in subject(opt, "Gramian") and "trunk" in subject(opt, "next step")
    opt = MGDA(sgd(two_heads))
    opt.scalarize(two_heads.losses(X))
    assert "1 scalar without its backward" in subject(opt, "kept between steps")
    opt = pyfront.PreferenceFeedback(sgd(two_heads), [0.7, 0.3])
    opt.step(two_heads.losses(X))
    assert "integral" in subject(opt, "kept between steps")


def test_nothing_changes(two_heads):
    opt = MGDA(sgd(two_heads), every=2)
    opt.step(two_heads.losses(X))
    before = opt.state_dict()
    assert opt.explain() == opt.explain()
    assert str(opt.state_dict()) == str(before)
