"""Task gradients split at a representation z that the losses share.

The chain rule gives g_j = (∂z/∂θ)ᵀ ∂l_j/∂z for the parameters θ before z. The exact split takes m
passes back to z and m from there; the upper bound of Sener and Koltun (2018, section 3.3) decides
on ∂l_j/∂z alone and goes on from z once, with Σ_j w_j ∂l_j/∂z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd.graph import Node

from pyfront._utils.torch_private import leaf_of
from pyfront.backend.task_gradients import Row
from pyfront.gradients.engine import check_reached, explained

__all__ = ["Features", "Split", "as_features"]

Features: TypeAlias = "Tensor | Sequence[Tensor]"


def as_features(features: Features) -> list[Tensor]:
    """Return the representation as tensors that have a graph and do not depend on each other.

    Raises:
        TypeError, ValueError: the first bad one; it is named.
    """
    if not isinstance(features, Iterable):
        raise TypeError(f"features: expected tensors, got {type(features).__name__}")
    found = [features] if isinstance(features, Tensor) else list(features)
    if not found:
        raise ValueError("features: expected at least one tensor, got none")
    for index, z in enumerate(found):
        if not isinstance(z, Tensor):
            raise TypeError(f"features[{index}]: expected a tensor, got {type(z).__name__}")
        if z.grad_fn is None:
            raise ValueError(f"features[{index}]: it has no graph; give what the trunk returned")
    _check_apart(found)
    return found


class Split:
    """The graph of the losses, cut at z.

    Args:
        losses: m scalar tensors.
        features: z, F tensors that the trunk returned.
        params: T tensors that require a gradient: those that z depends on are the trunk's.
        bound: whether the decision is to be made at z, by the upper bound.

    Raises:
        ValueError: a parameter that the losses reach both through z and beside it; a tensor that is
            given twice, or depends on another one.
    """

    def __init__(
        self, losses: Sequence[Tensor], features: Features, params: Sequence[Tensor], *, bound: bool
    ) -> None:
        self.losses = losses
        self.bound = bound
        self.features = as_features(features)
        self.params = params
        trunk = set(_leaves(self.features, []))
        beside = set(_leaves(losses, self.features))
        self.trunk = [block for block, p in enumerate(params) if id(p) in trunk]
        self.heads = [block for block, p in enumerate(params) if id(p) not in trunk]
        for block in self.trunk:
            if id(params[block]) in beside:
                raise ValueError(
                    f"features: parameter {block} (shape {list(params[block].shape)}) is reached "
                    "beside them as well; give every tensor through which the losses depend on it"
                )

    def rows(
        self,
        names: Sequence[str],
        retain_graph: bool,
        arrived: Callable[[Row], Row] = lambda row: row,
    ) -> list[Row]:
        """Return the m task gradients, T blocks; each is given to ``arrived`` when it is there.

        For the bound T + F blocks: None for the trunk, then ∂l_j/∂z.
        """
        rows: list[Row] = []
        last = len(self.losses) - 1
        for task, (loss, name) in enumerate(zip(self.losses, names, strict=False)):
            heads, at_features = self._to_features(loss, name, retain_graph or task < last)
            if self.bound:
                rows.append(arrived([*heads, *at_features]))
            else:
                trunk = self.trunk_gradient(at_features, retain_graph or task < last)
                rows.append(
                    arrived([t if h is None else h for h, t in zip(heads, trunk, strict=True)])
                )
        return rows

    def _to_features(self, loss: Tensor, name: str, retain_graph: bool) -> tuple[Row, Row]:
        """Return the gradient of a loss in what lies behind z, T blocks, and at z, F blocks."""
        inputs = [*(self.params[block] for block in self.heads), *self.features]
        with explained(name):
            found = torch.autograd.grad(loss, inputs, retain_graph=retain_graph, allow_unused=True)
        check_reached(name, found)
        count = len(self.heads)
        return self._spread(self.heads, found[:count]), found[count:]

    def trunk_gradient(self, at_features: Row, retain_graph: bool) -> Row:
        """Return (∂z/∂θ)ᵀ v for v given at z, F tensors or None: a row of T blocks."""
        pairs = [(z, v) for z, v in zip(self.features, at_features, strict=True) if v is not None]
        if not pairs or not self.trunk:
            return [None] * len(self.params)
        with explained("features"):
            found = torch.autograd.grad(
                [z for z, _ in pairs],
                [self.params[block] for block in self.trunk],
                [v for _, v in pairs],
                retain_graph=retain_graph,
                allow_unused=True,
            )
        return self._spread(self.trunk, found)

    def _spread(self, blocks: Sequence[int], found: Sequence[Tensor | None]) -> Row:
        row: list[Tensor | None] = [None] * len(self.params)
        for block, gradient in zip(blocks, found, strict=True):
            row[block] = gradient
        return row


def _check_apart(features: Sequence[Tensor]) -> None:
    """Raise where a path through two of them would count twice."""
    places = [(z.grad_fn, z.output_nr) for z in features]
    for index, place in enumerate(places):
        if place in places[:index] or not set(places).isdisjoint(_edges([place[0]], set())):
            raise ValueError(
                f"features[{index}]: it is given twice, or depends on another of them; give "
                "tensors that do not depend on each other"
            )


Edge: TypeAlias = "tuple[Node | None, int]"


def _edges(roots: Sequence[Node | None], closed: set[Edge]) -> Iterator[Edge]:
    """Yield the edges behind these nodes, without closed ones and those behind them."""
    stack = [node for node in roots if node is not None]
    seen: set[Edge] = set()
    while stack:
        for edge in stack.pop().next_functions:
            if edge[0] is not None and edge not in seen and edge not in closed:
                seen.add(edge)
                yield edge
                stack.append(edge[0])


def _leaves(outputs: Sequence[Tensor], cut: Sequence[Tensor]) -> Iterator[int]:
    """Yield the `id` of every leaf that the outputs reach other than through the tensors `cut`."""
    closed: set[Edge] = {(z.grad_fn, z.output_nr) for z in cut}
    roots = [o for o in outputs if (o.grad_fn, o.output_nr) not in closed]
    yield from (id(output) for output in roots if output.grad_fn is None)
    nodes = [output.grad_fn for output in roots]
    for node in [*nodes, *(edge[0] for edge in _edges(nodes, closed))]:
        if node is not None and (variable := leaf_of(node)) is not None:
            yield id(variable)
