"""Gradients that are sparse in every task, such as those of embedding tables.

Their rows on the union of the indices hold all that is not zero, so inner products and directions
are those of these rows: a table of N rows, of which a batch reads k, costs what k rows cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Support", "complex_values", "inner", "on_one_support", "real_values", "summed"]


class Support(NamedTuple):
    """Where a block is not zero.

    Attributes:
        indices: [s, k] int64, ascending: k places in the first s dimensions.
        shape: of the block.
    """

    indices: Tensor
    shape: torch.Size

    def tensor(self, values: Tensor) -> Tensor:
        """Return the block with these values, [k, …], at its places."""
        return torch.sparse_coo_tensor(
            self.indices, values, self.shape, check_invariants=False, is_coalesced=True
        )


@torch.no_grad()
def on_one_support(column: Sequence[Tensor | None]) -> tuple[list[Tensor | None], Support] | None:
    """Return the values of one block, [k, …] for each task that has it, and their support.

    None where a task's gradient is dense, or sparse in other dimensions: there is no such support.

    Args:
        column: the block's gradient in each task, or None.
    """
    there = [g for g in column if g is not None]
    if not there or any(g.layout is not torch.sparse_coo for g in there):
        return None
    shape, dimensions = there[0].shape, there[0].sparse_dim()
    if any((g.shape, g.sparse_dim()) != (shape, dimensions) for g in there):
        return None
    found = [None if g is None else g.detach().coalesce() for g in column]
    parts = [g for g in found if g is not None]
    first = parts[0].indices()
    if all(torch.equal(g.indices(), first) for g in parts[1:]):
        return [None if g is None else g.values() for g in found], Support(first, shape)
    sizes = shape[:dimensions]
    union = torch.unique(torch.cat([_numbers(g.indices(), sizes) for g in parts]))
    values = [None if g is None else _placed(g, union, sizes) for g in found]
    return values, Support(torch.stack(torch.unravel_index(union, sizes)), shape)


def _numbers(indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return indices [s, k] into dimensions of these sizes as single numbers, [k]."""
    strides = [math.prod(sizes[dimension + 1 :]) for dimension in range(len(sizes))]
    return (indices * indices.new_tensor(strides).unsqueeze(1)).sum(0)


def _placed(gradient: Tensor, union: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return the values of a gradient at the places of the union, zero where it has none."""
    values = gradient.values()
    if len(values) == len(union):
        return values
    out = values.new_zeros(len(union), *values.shape[1:])
    places = torch.searchsorted(union, _numbers(gradient.indices(), sizes))
    return out.index_copy_(0, places, values)


def summed(a: Tensor, b: Tensor) -> Tensor:
    """Return a + b: sparse where both are, with each index once."""
    if a.is_sparse and b.is_sparse:
        return (a + b).coalesce()
    return b + a if a.is_sparse else a + b  # torch adds a sparse tensor to a dense one alone


def inner(a: Tensor, b: Tensor) -> float:
    """Return ⟨a, b⟩ in float64 of two real tensors, each sparse or dense."""
    if a.is_sparse and b.is_sparse:
        found = on_one_support([a, b])
        (x, y), _ = found if found is not None else ([a.to_dense(), b.to_dense()], None)
        assert x is not None and y is not None
    elif a.is_sparse or b.is_sparse:
        sparse, dense = (a.coalesce(), b) if a.is_sparse else (b.coalesce(), a)
        x, y = sparse.values(), dense[tuple(sparse.indices())]
    else:
        x, y = a, b
    return float((x.double() * y.double()).sum().item())


def real_values(gradient: Tensor) -> Tensor:
    """Return a complex sparse tensor as a real one with real and imaginary parts, […, 2]."""
    found = gradient.coalesce()
    values = torch.view_as_real(found.values().resolve_conj())
    return Support(found.indices(), torch.Size([*found.shape, 2])).tensor(values)


def complex_values(gradient: Tensor) -> Tensor:
    """Undo :func:`real_values`."""
    values = torch.view_as_complex(gradient.values())
    return Support(gradient.indices(), gradient.shape[:-1]).tensor(values)
