"""Look into the graph behind losses without a backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.autograd.graph import Node

from pyfront._utils.torch_private import CHECKPOINT_NODE, LEAF_NODE, leaf_of
from pyfront.backend import _core

__all__ = ["graph_nodes", "has_reentrant_checkpoint", "reached", "reaches", "share_a_graph"]


def graph_nodes(losses: Sequence[Tensor]) -> Iterator[Node]:
    """Yield the operators of the losses' graph, each once."""
    stack = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        yield node
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)


def has_reentrant_checkpoint(losses: Sequence[Tensor]) -> bool:
    """Return whether the graph holds a reentrant checkpoint, which hides its parameters.

    Called at every step: such a checkpoint appears when a part of the model is unfrozen, or when
    checkpointing is switched on.
    """
    return _core.graph_holds(losses, CHECKPOINT_NODE, LEAF_NODE)


def share_a_graph(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Return whether a backward pass from ``a`` frees nodes that one from ``b`` needs."""
    before = {node for node in graph_nodes(a) if node.next_functions}  # leaves hold nothing
    return any(node in before for node in graph_nodes(b))


def reaches(loss: Tensor, params: Sequence[Tensor]) -> bool:
    """Return whether the graph of ``loss`` shows one of ``params``.

    It does not look into reentrant checkpoints.
    """
    wanted = {id(p) for p in params}
    leaves = (leaf_of(node) for node in graph_nodes([loss]))
    return id(loss) in wanted or any(id(leaf) in wanted for leaf in leaves)


def reached(losses: Sequence[Tensor]) -> set[int]:
    """Return the `id` of every leaf that the graph of these losses shows."""
    leaves = (leaf_of(node) for node in graph_nodes(losses))
    beside = {id(loss) for loss in losses if loss.is_leaf}
    return beside | {id(leaf) for leaf in leaves if leaf is not None}
