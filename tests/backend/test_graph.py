"""The look at a graph finds one kind of node wherever it is, and only that."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from pyfront._utils.torch_private import CHECKPOINT_NODE
from pyfront.backend.graph import graph_nodes, has_reentrant_checkpoint


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def random_graph(generator, depth, hidden):
    """Return losses over a random graph with shared parts, one node of it a checkpoint."""
    leaves = [torch.rand(3, requires_grad=True) for _ in range(3)]
    values = list(leaves)
    place = int(torch.randint(depth, (), generator=generator))
    for k in range(depth):
        a, b = (values[int(torch.randint(len(values), (), generator=generator))] for _ in "ab")
        value = Twice.apply(a * b + a)
        if hidden and k == place:
            value = checkpoint(torch.sin, value, use_reentrant=True)
        values.append(value)
    return [value.sum() for value in values[3:]]


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_the_walk_agrees_with_the_nodes_one_by_one(seed, hidden):
    losses = random_graph(torch.Generator().manual_seed(seed), 12, hidden)
    for some in (losses, losses[:1], losses[-1:]):
        names = [type(node).__name__ for node in graph_nodes(some)]
        assert has_reentrant_checkpoint(some) == (CHECKPOINT_NODE in names)
    assert has_reentrant_checkpoint(losses) == hidden


def test_a_leaf_has_no_graph_and_a_detached_loss_none():
    x = torch.rand((), requires_grad=True)
    assert not has_reentrant_checkpoint([x, x.detach(), x * 1])


def test_a_class_of_that_name_in_a_module_of_its_own_counts():
    class CheckpointFunction(Twice):
        pass

    x = torch.rand((), requires_grad=True)
    assert has_reentrant_checkpoint([CheckpointFunction.apply(x)])
    assert not has_reentrant_checkpoint([Twice.apply(x)])


def test_a_long_chain_takes_no_stack():
    x = torch.rand((), requires_grad=True)
    for _ in range(20_000):
        x = x + 1
    assert not has_reentrant_checkpoint([x])
