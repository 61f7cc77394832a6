"""Rows that are averaged over processes in buckets while the next pass runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pyfront._utils.torch_private import copy_all
from pyfront.backend.task_gradients import Row
from pyfront.distributed.processes import Arrived
from pyfront.distributed.together import Together, waiting

__all__ = ["averaged_rows"]

BUCKET = 25 * 2**20  # bytes, as DistributedDataParallel's


class Bucket:
    """Blocks of a row that travel in one piece of memory, of which their gradients are views.

    One more number a block follows them: positive where any process has a gradient, so that
    parameters without one are told from those with a zero; NaN where a process has failed.
    """

    def __init__(self, blocks: Sequence[int], params: Sequence[Tensor]) -> None:
        self.blocks = list(blocks)
        self.likes = [torch.empty_like(params[block], device="meta") for block in blocks]
        self.entries = sum(like.numel() for like in self.likes)
        self.dtype, self.device = self.likes[0].dtype, params[blocks[0]].device

    def filled(self, row: Row | None, ranks: int) -> tuple[Tensor, list[Tensor]]:
        """Return the memory with this process's part of the mean, and its views."""
        flat = torch.empty(self.entries + len(self.blocks), dtype=self.dtype, device=self.device)
        views, start = [], 0
        for like in self.likes:  # in the parameter's own dense layout
            views.append(flat.as_strided(like.shape, like.stride(), start))
            start += like.numel()
        if row is None:
            flat.fill_(torch.nan)
            return flat, views
        found = [(view, row[b]) for view, b in zip(views, self.blocks, strict=True)]
        there = [(view, _dense(g)) for view, g in found if g is not None]
        if len(there) < len(found):
            flat.zero_()
        if there:
            copy_all([view for view, _ in there], [g for _, g in there])
            flat.mul_(1.0 / ranks)
        flags = [float(row[b] is not None) for b in self.blocks]
        flat[self.entries :] = torch.tensor(flags, dtype=self.dtype, device=self.device)
        return flat, views


def buckets_of(params: Sequence[Tensor]) -> list[Bucket]:
    """Return buckets of at most ``BUCKET`` bytes, or of one larger parameter."""
    kinds: dict[Any, list[list[int]]] = {}
    filled: dict[Any, int] = {}
    for block, p in enumerate(params):
        kind, size = (p.dtype, p.device), p.numel() * p.element_size()
        lists = kinds.setdefault(kind, [])
        if not lists or filled[kind] + size > BUCKET:
            lists.append([])
            filled[kind] = 0
        lists[-1].append(block)
        filled[kind] += size
    return [Bucket(blocks, params) for lists in kinds.values() for blocks in lists]


class _Moving:
    """Rows on their way."""

    def __init__(self, processes: Together, params: Sequence[Tensor]) -> None:
        self.processes = processes
        self.params = params
        self.buckets = buckets_of(params)
        self.flats: list[list[Tensor]] = []
        self.rows: list[list[Tensor]] = []
        self.works: list[Any] = []

    def send(self, row: Row | None) -> list[Tensor]:
        """Begin to average a row; None is that of a process that has failed."""
        out: list[Tensor | None] = [None] * len(self.params)
        flats = []
        for bucket in self.buckets:
            flat, views = bucket.filled(row, self.processes.size)
            for block, view in zip(bucket.blocks, views, strict=True):
                out[block] = view
            flats.append(flat)
            *before, last = self.processes.groups
            for group in before:  # a mesh of several dimensions
                with waiting():
                    dist.all_reduce(flat, group=group)
            with waiting():
                self.works.append(dist.all_reduce(flat, group=last, async_op=True))
        self.flats.append(flats)
        self.rows.append([view for view in out if view is not None])
        return self.rows[-1]

    def wait(self) -> None:
        for work in self.works:
            with waiting():
                work.wait()

    def arrived(self) -> list[list[Tensor | None]] | None:
        """Return the averages, None for a block that no process has; None if one has failed."""
        found: list[list[Tensor | None]] = []
        for flats, row in zip(self.flats, self.rows, strict=True):
            averages: list[Tensor | None] = list(row)
            for bucket, flat in zip(self.buckets, flats, strict=True):
                flags = flat[bucket.entries :].tolist()
                if any(flag != flag for flag in flags):
                    return None
                for block, flag in zip(bucket.blocks, flags, strict=True):
                    if flag == 0.0:
                        averages[block] = None
            found.append(averages)
        return found


def averaged_rows(
    processes: Together,
    params: Sequence[Tensor],
    compute: Callable[[Arrived], Sequence[Row]],
    count: int,
) -> list[Row]:
    """Return the averages over the processes of the first T blocks of each row.

    Args:
        processes: those that call this, each with rows of its own.
        params: T parameters.
        compute: gives each row to the function that it is given; entries after the T blocks stay.
        count: the number of rows.

    Raises:
        Exception: what ``compute`` has raised on any of the processes, on all.
    """
    moving = _Moving(processes, params)
    further: list[Row] = []
    error: Exception | None = None

    def arrived(row: Row) -> Row:
        further.append(row[len(params) :])
        return [*moving.send(row[: len(params)]), *further[-1]]

    try:
        compute(arrived)
    except Exception as found:
        error = found
        for _ in range(count - len(moving.rows)):
            moving.send(None)
    moving.wait()
    rows = moving.arrived()
    if rows is None:
        processes.raise_for_all(error)
        raise AssertionError
    if error is not None:
        raise error  # after the last row
    return [[*row, *more] for row, more in zip(rows, further, strict=True)]


def _dense(gradient: Tensor) -> Tensor:
    return gradient if gradient.layout is torch.strided else gradient.to_dense()
