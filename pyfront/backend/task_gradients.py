"""Task gradients that the core reads in place, and their weighted sum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront.backend import _core
from pyfront.backend import cuda as devices
from pyfront.backend.sparse import Support, complex_values, on_one_support, real_values, summed

__all__ = [
    "Destination",
    "Row",
    "TaskGradients",
    "add_rows",
    "all_finite",
    "as_complex",
    "as_real",
    "largest_entry",
]

Row: TypeAlias = Sequence[Tensor | None]
Destination: TypeAlias = _core.TensorTable  # where a weighted sum of gradients is written


class TaskGradients:
    """The Jacobian J as m rows of T blocks that the core can read in place.

    The core takes a block as a pointer and a length, so a gradient must be dense and laid out as
    the same block of the other tasks. Tensors that are not (expanded, strided otherwise, lazily
    negated) are copied, and only those. A block that is sparse in every task that has it is read on
    the union of the indices; one that is sparse in some of them is copied into dense memory.

    Args:
        rows: m sequences of T tensors or None (a zero block).
        sparse: blocks may stay sparse.

    Attributes:
        rows: m rows of what the core reads: of a sparse block its values at the union of indices.
        supports: the indices of each block that is sparse.

    Raises:
        TypeError: an entry that is no real floating-point tensor, or differs in dtype from its
            block in another task.
        ValueError: rows of unequal length, blocks of unequal shape, or memory that cannot be read.
    """

    def __init__(self, rows: Sequence[Row], *, sparse: bool = True) -> None:
        self.rows, self.table, self.supports = _readable(rows, sparse)

    @property
    def tasks(self) -> int:
        """m."""
        return self.table.tasks

    def select(self, blocks: Sequence[int]) -> TaskGradients:
        """Return the same tasks on some of the blocks."""
        selected = TaskGradients([[row[block] for block in blocks] for row in self.rows])
        pairs = enumerate(blocks)
        selected.supports = {k: self.supports[b] for k, b in pairs if b in self.supports}
        return selected

    def blocks(self) -> list[Tensor | None]:
        """Return one gradient of each block that has any, of its dtype and what is read of it."""
        return [
            None if task < 0 else self.rows[task][block]
            for block, task in enumerate(self.table.first_tasks)
        ]

    def sparse_blocks(self) -> list[bool | None]:
        """Return whether Jᵀ w is sparse in each block; None where it has none."""
        reached = enumerate(self.table.first_tasks)
        return [None if task < 0 else block in self.supports for block, task in reached]

    @property
    def device(self) -> torch.device:
        """Where the gradients are; the CPU where there is none."""
        return torch.device("cpu" if self.table.device < 0 else f"cuda:{self.table.device}")

    def destination(
        self, out: Sequence[Tensor | None], *, plain: bool = False
    ) -> Destination | None:
        """Return ``out`` as what :meth:`combine` writes into, None where it cannot.

        It can where the tensors are laid out as the blocks, in memory of their own. With ``plain``
        there must be one for each block with a gradient, without a graph and of no subclass.
        """
        return self.table.destination(out, Tensor, plain)

    def gramian(self) -> FloatArray:
        """Return C = J Jᵀ, [m, m] float64, on the host: it waits for a CUDA device."""
        if self.table.device >= 0:
            return devices.gramian(self.table).cpu().numpy()
        return _core.gramian(self.table, torch.get_num_threads())

    def combine(
        self, weights: FloatArray | Tensor, out: Destination | Sequence[Tensor | None]
    ) -> None:
        """Write d = Jᵀ w into ``out``: T tensors laid out as :meth:`blocks`, or None.

        Weights are an array, or for gradients on a CUDA device a float64 tensor there; ``out`` may
        be what :meth:`destination` has made of it.
        """
        if not isinstance(out, _core.TensorTable):
            out = _core.TensorTable([out], Tensor)
        if self.table.device >= 0:
            if not isinstance(weights, Tensor):
                weights = devices.to_device(weights, self.device)
            return devices.combine(self.table, weights, out)
        weights = weights.numpy() if isinstance(weights, Tensor) else weights
        _core.combine(self.table, weights, out, torch.get_num_threads())

    def spread(self, out: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return what :meth:`combine` has written as tensors of the parameters' shapes."""
        spread = list(out)
        for block, support in self.supports.items():
            values = spread[block]
            spread[block] = None if values is None else support.tensor(values)
        return spread


Readable: TypeAlias = tuple[list[list[Tensor | None]], _core.TensorTable, dict[int, Support]]


def _readable(rows: Sequence[Row], sparse: bool) -> Readable:
    plain = [list(row) for row in rows]
    table = _core.TensorTable(plain, Tensor)
    if not table.irregular:
        return plain, table, {}
    supports = _compacted(plain, {block for _, block in table.irregular}) if sparse else {}
    for task, block in table.irregular:
        if block not in supports:
            plain[task][block] = _copy(plain[task][block])
    table = _core.TensorTable(plain, Tensor)
    for block in {block for _, block in table.irregular}:  # two dense layouts of one block
        for row in plain:
            row[block] = _copy(row[block])
    return plain, _core.TensorTable(plain, Tensor) if table.irregular else table, supports


def _compacted(rows: list[list[Tensor | None]], blocks: set[int]) -> dict[int, Support]:
    """Put values on one support in the place of sparse blocks, and return the supports."""
    supports = {}
    for block in sorted(blocks):
        if (found := on_one_support([row[block] for row in rows])) is not None:
            values, supports[block] = found
            for row, part in zip(rows, values, strict=True):
                row[block] = part
    return supports


def _copy(gradient: Tensor | None) -> Tensor | None:
    """Return the values of ``gradient`` in a C-contiguous tensor of its own."""
    if gradient is None:
        return None
    if gradient.device.type not in ("cpu", "cuda"):
        raise ValueError(f"gradients: device {gradient.device} is not supported by this build")
    if gradient.layout is not torch.strided:
        gradient = gradient.to_dense()
    return gradient.detach().resolve_neg().clone(memory_format=torch.contiguous_format)


def all_finite(tensors: Row) -> bool:
    """Whether no tensor holds NaN or infinity; it waits for a CUDA device."""
    if not any(t is not None and t.is_complex() for t in tensors):
        table = _core.TensorTable([tensors], Tensor)
        if table.device < 0 and not table.irregular:
            return _core.all_finite(table, torch.get_num_threads())
    return bool(largest_entry(tensors).isfinite())


def largest_entry(tensors: Row) -> Tensor:
    """The largest magnitude of an entry where the tensors are; NaN where one is NaN, 0 for none."""
    values = [t.coalesce().values() if t.is_sparse else t for t in tensors if t is not None]
    values = [v for v in as_real(values) if v is not None and v.numel() > 0]  # torch wants some
    return torch.nn.utils.get_total_norm(values, norm_type=math.inf)


# ------------------------------------------------------------------------------- complex parameters


def as_real(row: Row) -> Row:
    """Complex entries as their real and imaginary parts, [..., 2], in the same memory.

    For these the inner product of two gradients is Re⟨g_i, g_j⟩, as a real loss asks for.
    """
    if not any(t is not None and t.is_complex() for t in row):
        return row
    return [t if t is None or not t.is_complex() else _as_real(t) for t in row]


def _as_real(t: Tensor) -> Tensor:
    return real_values(t) if t.is_sparse else torch.view_as_real(t.resolve_conj())


def as_complex(row: Row, like: Sequence[Tensor]) -> Row:
    """Undo :func:`as_real` where the tensor ``like`` an entry is complex."""
    if not any(t.is_complex() for t in like):
        return row
    return [
        d if d is None or d.is_complex() or not t.is_complex() else _as_complex(d)
        for d, t in zip(row, like, strict=True)
    ]


def _as_complex(d: Tensor) -> Tensor:
    return complex_values(d) if d.is_sparse else torch.view_as_complex(d)


def add_rows(a: Row, b: Row) -> Row:
    """Return the sum of two rows in new tensors; None counts as zero."""
    return [y if x is None else x if y is None else summed(x, y) for x, y in zip(a, b, strict=True)]
