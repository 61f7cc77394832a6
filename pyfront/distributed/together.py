"""Collectives of several processes that train one model, and errors that all of them raise."""

from __future__ import annotations

import builtins
from abc import ABC
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from pyfront._utils.arguments import FloatArray
from pyfront.distributed.header import CAPACITY, Header, disagreement
from pyfront.distributed.processes import Processes

__all__ = ["Together", "waiting"]

_TEXT = 2048  # bytes of an error that travel


class Together(Processes, ABC):
    """Several processes, by the groups that span them: one, or one for each mesh dimension.

    Args:
        groups: all-reducing over each in turn reduces over all processes.
        device: that of the parameters.

    Raises:
        ValueError: a backend without collectives for the parameters' device.
    """

    several = True

    def __init__(self, groups: Sequence[dist.ProcessGroup], device: torch.device) -> None:
        self.groups = list(groups)
        self.size = int(np.prod([dist.get_world_size(group) for group in self.groups]))
        self.rank = dist.get_rank()
        devices = {_devices(group) for group in self.groups}
        if not all(device.type in found for found in devices):
            backend = dist.get_backend(self.groups[0])
            raise ValueError(
                f"process_group: its backend {backend!r} has no collectives for parameters on "
                f"{device.type}; initialise it with backend='cpu:gloo,cuda:nccl', or move the model"
            )
        self.device = torch.device("cpu") if all("cpu" in found for found in devices) else device

    # ------------------------------------------------------------------------------ the first word

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Raise an error of the block on every process that enters its step."""
        try:
            yield
        except Exception as error:
            self.gathered(Header(self.rank, failed=True).packed())
            self.raise_for_all(error)

    def agree(self, header: Header) -> list[Header]:
        """Exchange headers; raise where an earlier error or a difference is in one."""
        headers = [Header.unpacked(row) for row in self.gathered(header.packed())]
        if any(other.failed for other in headers):
            self.raise_for_all(None)
        if found := disagreement(headers):
            raise ValueError(f"process_group: {found}")
        if header.values.size > CAPACITY:
            for other, more in zip(headers, self.gathered(header.rest()), strict=True):
                values, shares = np.split(more, 2)
                other.values = np.append(other.values, values)
                other.shares = np.append(other.shares, shares)
        return headers

    def raise_for_all(self, error: Exception | None) -> None:
        """Raise the first process's error on all; every process calls this, with its own or None.

        Raises:
            Exception: of the same built-in class, with the rank in its message.
        """
        mine = np.zeros(_TEXT)
        if error is not None:
            sent = f"{_builtin(error)}\n{error}".encode()[:_TEXT]
            mine[: len(sent)] = list(sent)
        for rank, text in zip(self.ranks(), self.gathered(mine), strict=True):
            if text.any():
                received = bytes(text.astype(np.uint8)).rstrip(b"\0").decode(errors="replace")
                kind, _, words = received.partition("\n")
                raise getattr(builtins, kind)(f"rank {rank}: {words}") from error
        raise RuntimeError("process_group: a process failed without an error") from error

    # --------------------------------------------------------------------------------- collectives

    def ranks(self) -> list[int]:
        """Return the global ranks in the order of :meth:`gathered`."""
        return [int(row[0]) for row in self.gathered(np.array([float(self.rank)]))]

    def gathered(self, numbers: FloatArray) -> FloatArray:
        """Return the float64 numbers of all processes, one row each."""
        table = torch.from_numpy(numbers[None]).to(self.device)
        for group in self.groups:
            parts = [torch.empty_like(table) for _ in range(dist.get_world_size(group))]
            with waiting():
                dist.all_gather(parts, table, group=group)
            table = torch.cat(parts)
        found: FloatArray = table.cpu().numpy()
        return found

    def total(self, *arrays: FloatArray) -> list[FloatArray]:
        """Return the sums over the processes, by one all-reduce; the bits are the same on all."""
        flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))
        flat = flat.to(self.device)
        for group in self.groups:
            with waiting():
                dist.all_reduce(flat, group=group)
        parts = np.split(flat.cpu().numpy(), np.cumsum([array.size for array in arrays])[:-1])
        return [part.reshape(array.shape) for part, array in zip(parts, arrays, strict=True)]

    def mean(self, compute: Callable[[], FloatArray], size: int) -> FloatArray:
        """Return the mean; an error of ``compute`` on one process is raised on all."""
        error, values = None, np.zeros(size)
        try:
            values = compute()
        except Exception as found:
            error = found
        values, failed = self.total(values / self.size, np.array([float(error is not None)]))
        if failed[0] > 0.0:
            self.raise_for_all(error)
        return values

    def same_weights(self, weights: FloatArray) -> FloatArray:
        """Broadcast the first process's weights."""
        sent = torch.from_numpy(np.array(weights)).to(self.device)
        for group in self.groups:
            with waiting():
                dist.broadcast(sent, src=dist.get_global_rank(group, 0), group=group)
        found: FloatArray = sent.cpu().numpy()
        return found


def _devices(group: dist.ProcessGroup) -> tuple[str, ...]:
    """Return the device types that a group has collectives for."""
    config: str = dist.get_backend_config(group)  # such as "cpu:gloo,cuda:nccl"
    return tuple(pair.partition(":")[0] for pair in config.split(","))


def _builtin(error: Exception) -> str:
    """Return the nearest built-in class of an error that can be made from a text."""
    for kind in type(error).__mro__:
        if kind.__module__ == "builtins" and not issubclass(kind, (UnicodeError, OSError)):
            return kind.__name__
    return "RuntimeError"


class waiting:
    """Say what a collective that fails means for training."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            text: Any = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RuntimeError(
                "process_group: the other processes did not arrive at this step: one has ended, or "
                "did not call backward() or step() within the group's timeout "
                f"(init_process_group(timeout=…)); its own output says why ({text})"
            ) from error
