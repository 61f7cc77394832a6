"""What the graph behind losses holds, without a backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.autograd.graph import Node

__all__ = ["graph_nodes", "reaches", "share_a_graph"]


def graph_nodes(losses: Sequence[Tensor]) -> Iterator[Node]:
    """The operators of the losses' graph, each once."""
    stack = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    seen = set(stack)
    while stack:
        node = stack.pop()
        yield node
        for child, _ in node.next_functions:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)


def share_a_graph(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    """Whether a backward pass from ``a`` frees nodes that one from ``b`` needs."""
    before = {node for node in graph_nodes(a) if node.next_functions}  # leaves hold nothing
    return any(node in before for node in graph_nodes(b))


def reaches(loss: Tensor, params: Sequence[Tensor]) -> bool:
    """Whether the graph of ``loss`` shows one of ``params``; it does not look into reentrant
    checkpoints."""
    wanted = {id(p) for p in params}
    leaves = (getattr(node, "variable", None) for node in graph_nodes([loss]))
    return id(loss) in wanted or any(id(leaf) in wanted for leaf in leaves)
