"""Rows that are averaged over processes in buckets while backward passes run.

A bucket travels as soon as the pass has its gradients, the last one of a row when the pass has
ended, so that what fails within a pass can still be told by the row itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pyfront._utils.torch_private import backward_pass
from pyfront.backend.graph import reached
from pyfront.backend.task_gradients import Row
from pyfront.distributed.processes import Arrived, Memory
from pyfront.distributed.together import Together, waiting

__all__ = ["averaged_over_processes"]

LARGEST = 25 * 2**20  # bytes of a bucket, as DistributedDataParallel's
SMALLEST = 2**20  # as the first one there
PARTS = 8  # of a row, so that little of the last row is left when its pass ends


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

    def memory(self, kept: Tensor | None) -> Tensor:
        """Return the memory that was kept if it fits, else new one."""
        wanted = (self.entries + len(self.blocks), self.dtype, self.device)
        if kept is not None and (kept.numel(), kept.dtype, kept.device) == wanted:
            return kept
        return torch.empty(wanted[0], dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def filled(self, gradients: Row | None, ranks: int, flat: Tensor) -> Filled:
        """Return this process's part of the means in ``flat``; None for a process that failed."""
        views, start = [], 0
        for like in self.likes:  # in the parameter's own dense layout
            views.append(flat.as_strided(like.shape, like.stride(), start))
            start += like.numel()
        if gradients is None:
            flat.fill_(torch.nan)
            return flat, views
        for view, gradient in zip(views, gradients, strict=True):
            if gradient is None:
                view.zero_()
            else:
                torch.mul(_dense(gradient), 1.0 / ranks, out=view)
        flags = [float(gradient is not None) for gradient in gradients]
        flat[self.entries :] = torch.tensor(flags, dtype=self.dtype, device=self.device)
        return flat, views


Filled = tuple[Tensor, list[Tensor]]


def buckets_of(params: Sequence[Tensor]) -> list[Bucket]:
    """Return buckets in the order in which a backward pass fills them: last blocks first.

    One is full as soon as it holds an eighth of a row, or ``SMALLEST`` or ``LARGEST`` bytes.
    """
    row = sum(p.numel() * p.element_size() for p in params)
    enough = min(LARGEST, max(SMALLEST, row // PARTS))
    full: list[list[int]] = []
    open_: dict[Any, tuple[list[int], int]] = {}  # blocks and bytes, by what one memory can hold
    for block in reversed(range(len(params))):
        p = params[block]
        blocks, size = open_.pop((p.dtype, p.device), ([], 0))
        blocks.append(block)
        size += p.numel() * p.element_size()
        if size < enough:
            open_[p.dtype, p.device] = blocks, size
        else:
            full.append(blocks)
    found = full + [blocks for blocks, _ in open_.values()]
    return [Bucket(blocks, params) for blocks in sorted(found, key=min, reverse=True)]


class _Moving:
    """Rows on their way to the other processes.

    All processes reduce the buckets of a row in one order, whatever their passes reach.

    Args:
        processes: those that call this, each with rows of its own.
        params: T parameters.
        roots: for each row what its backward pass begins at, where one pass makes the row.
        memory: of buckets, which is used and filled.
    """

    def __init__(
        self,
        processes: Together,
        params: Sequence[Tensor],
        roots: Sequence[Sequence[Tensor]],
        memory: Memory,
    ) -> None:
        self.processes = processes
        self.params = params
        self.memory = memory
        self.buckets = buckets_of(params)
        self.roots = roots if len(self.buckets) > 1 else ()
        self.place = {b: place for place, found in enumerate(self.buckets) for b in found.blocks}
        self.rows: list[list[Filled]] = []
        self.works: list[Any] = []
        self.begin_row()

    def begin_row(self) -> None:
        self.current: int | None = None  # the pass that computes the row
        self.gradients: dict[int, Tensor | None] = {}  # that have come, by block
        self.filled: dict[int, Filled] = {}  # by place
        self.sent = 0  # so many of them

    # ------------------------------------------------------------------------------- within a pass

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Send the buckets of each row, all but its last, from within its backward pass."""
        handles: list[Any] = []
        if self.roots:
            hooks: list[tuple[Tensor, Any]] = [
                *((p, partial(self.came, block)) for block, p in enumerate(self.params)),
                *((root, self.begun) for roots in self.roots for root in roots),
            ]
            handles = [x.register_hook(hook) for x, hook in hooks]  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begun(self, _: Tensor) -> None:
        """Look which blocks the pass will reach; buckets without any are ready."""
        found = backward_pass()
        if found is None or found == self.current:
            return
        self.current = found
        leaves = reached(self.roots[len(self.rows)])
        there = [k for k, p in enumerate(self.params) if id(p) in leaves]
        self.missing = [set(bucket.blocks).intersection(there) for bucket in self.buckets]
        self.send_ready()

    def came(self, block: int, gradient: Tensor | None) -> None:
        """Take a gradient, unless it is of a backward pass inside the one that computes the row."""
        if self.current is None or backward_pass() != self.current:
            return
        place = self.place[block]
        if place in self.filled:
            raise RuntimeError(f"parameter {block} has a gradient that the graph does not show")
        self.gradients[block] = gradient
        self.missing[place].discard(block)
        if not self.missing[place]:
            self.send_ready()

    def send_ready(self) -> None:
        """Send buckets as far as they are complete; the last waits for the end of the pass."""
        for place in range(self.sent, len(self.buckets) - 1):
            if self.missing[place]:
                return
            self.fill(place, [self.gradients.pop(k, None) for k in self.buckets[place].blocks])
            self.reduce(place)

    # ---------------------------------------------------------------------------------- afterwards

    def send(self, row: Row | None) -> list[Tensor]:
        """Send what is left of a row whose pass has ended; None is that of a failed process."""
        for place in range(self.sent, len(self.buckets)):
            blocks = self.buckets[place].blocks
            self.fill(place, None if row is None else [row[block] for block in blocks])
            self.reduce(place)
        self.rows.append([self.filled[place] for place in range(len(self.buckets))])
        self.begin_row()
        return self.views(self.rows[-1])

    def fill(self, place: int, gradients: Row | None) -> None:
        bucket, key = self.buckets[place], (len(self.rows), place)
        flat = self.memory[key] = bucket.memory(self.memory.get(key))
        self.filled[place] = bucket.filled(gradients, self.processes.size, flat)

    def reduce(self, place: int) -> None:
        flat = self.filled[place][0]
        self.sent = place + 1
        *before, last = self.processes.groups
        for group in before:  # a mesh of several dimensions
            with waiting():
                dist.all_reduce(flat, group=group)
        with waiting():
            self.works.append(dist.all_reduce(flat, group=last, async_op=True))

    def views(self, row: Sequence[Filled]) -> list[Tensor]:
        """Return the blocks of a row in their places in the buckets."""
        found: dict[int, Tensor] = {}
        for bucket, (_, views) in zip(self.buckets, row, strict=True):
            found.update(zip(bucket.blocks, views, strict=True))
        return [found[block] for block in range(len(self.params))]

    def wait(self) -> None:
        for work in self.works:
            with waiting():
                work.wait()

    def arrived(self) -> list[list[Tensor | None]] | None:
        """Return the averages, None for a block that no process has; None if one has failed."""
        found: list[list[Tensor | None]] = []
        for row in self.rows:
            averages: list[Tensor | None] = list(self.views(row))
            for bucket, (flat, _) in zip(self.buckets, row, strict=True):
                flags = flat[bucket.entries :].tolist()
                if any(flag != flag for flag in flags):
                    return None
                for block, flag in zip(bucket.blocks, flags, strict=True):
                    if flag == 0.0:
                        averages[block] = None
            found.append(averages)
        return found


def averaged_over_processes(
    processes: Together,
    params: Sequence[Tensor],
    compute: Callable[[Arrived], Sequence[Row]],
    count: int,
    roots: Sequence[Sequence[Tensor]] = (),
    memory: Memory | None = None,
) -> list[Row]:
    """Return the averages over the processes of the first T blocks of each row.

    Args:
        processes: those that call this, each with rows of its own.
        params: T parameters.
        compute: gives each row to the function that it is given; entries after the T blocks stay.
        count: the number of rows.
        roots: for each row the losses at which its backward pass begins, where one pass over the
            parameters makes the row: its buckets travel from within the pass. Empty where passes
            make rows in other ways, which travel when they are given to the function.
        memory: of an earlier call, which the rows take; they have memory of their own where None.

    Raises:
        Exception: what ``compute`` has raised on any of the processes, on all.
    """
    moving = _Moving(processes, params, roots, {} if memory is None else memory)
    further: list[Row] = []
    error: Exception | None = None

    def arrived(row: Row) -> Row:
        further.append(row[len(params) :])
        return [*moving.send(row[: len(params)]), *further[-1]]

    try:
        with moving.watching():
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
