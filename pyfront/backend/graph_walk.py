"""Look for one kind of node in the graph of autograd."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pyfront.backend import _core

__all__ = ["holds_node"]


def holds_node(losses: Sequence[Tensor], name: str, leaf: str) -> bool:
    """Return whether a node whose type has this name is behind the losses.

    Args:
        losses: tensors with a graph.
        name: of the type that is looked for.
        leaf: of the type that has nothing behind it, which need not be asked.
    """
    return _core.graph_holds(losses, name, leaf)
