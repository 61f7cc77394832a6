"""Processes that each hold a part of the parameters: FSDP2, tensor parallel, HSDP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from pyfront._utils.arguments import FloatArray
from pyfront.backend.task_gradients import Row, TaskGradients
from pyfront.distributed.averaging import averaged_over_processes
from pyfront.distributed.processes import Arrived, Memory, local_squares
from pyfront.distributed.together import Together

__all__ = ["Shards"]


class Shards(Together):
    """Parameters that are DTensors on one mesh, or on parts of it.

    Autograd has averaged their gradients when they arrive. Each process reads its own parts, and
    C = Σ_parts J_p J_pᵀ is summed over the mesh: a part that W / S processes hold, of S different
    ones, counts S / W times in each. Plain parameters beside them are averaged as replicas.

    Args:
        params: T parameters, some of them DTensors.

    Raises:
        ValueError: meshes of which none holds the others, or plain tensors on several devices.
    """

    sharded = True

    def __init__(self, params: Sequence[Tensor]) -> None:
        meshes = [p.device_mesh for p in params if isinstance(p, DTensor)]
        mesh = max(meshes, key=lambda found: found.size())
        ranks = set(mesh.mesh.flatten().tolist())
        for other in meshes:
            if not set(other.mesh.flatten().tolist()) <= ranks or mesh.size() % other.size():
                raise ValueError(
                    f"parameters: their meshes {mesh} and {other} do not nest; one of them must "
                    "hold the others"
                )
        groups = [mesh.get_group(dimension) for dimension in range(mesh.ndim)]
        super().__init__(groups, self.local(params)[0].device)
        self.params = params
        self.blocks = len(params)
        self.parts = [_parts(p) for p in params]  # S of each block
        self.plain = [block for block, p in enumerate(params) if not isinstance(p, DTensor)]

    def equal(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return those that are no DTensors."""
        return [params[block] for block in self.plain]

    def averaged(
        self,
        compute: Callable[[Arrived], Sequence[Row]],
        count: int,
        roots: Sequence[Sequence[Tensor]] = (),
        memory: Memory | None = None,
    ) -> list[Row]:
        """Return the local parts of rows; those of plain parameters are averaged."""
        rows: list[list[Tensor | None]] = []

        def arrived(row: Row) -> Row:
            rows.append([_local_gradient(g, p) for g, p in zip(row, self.params, strict=True)])
            return rows[-1]

        def all_of_it() -> FloatArray:
            compute(arrived)
            return np.zeros(0)

        self.mean(all_of_it, 0)
        if self.plain:

            def plain_parts(send: Arrived) -> list[Row]:
                return [send([row[block] for block in self.plain]) for row in rows]

            params = [self.params[block] for block in self.plain]
            for row, means in zip(
                rows, averaged_over_processes(self, params, plain_parts, count), strict=True
            ):
                for block, gradient in zip(self.plain, means, strict=True):
                    row[block] = gradient
        return list(rows)

    def squares(
        self, gradients: TaskGradients, inside: list[int] | None, outside: list[int] | None
    ) -> tuple[FloatArray, FloatArray]:
        """Sum C and the norms of the different parts, by one all-reduce."""
        m = gradients.tasks
        c, norms = np.zeros((m, m)), np.zeros(m)
        for parts in sorted(set(self.parts)):
            of = [block for block, found in enumerate(self.parts) if found == parts]
            here = of if inside is None else [block for block in of if block in inside]
            there = [block for block in of if block in outside] if outside else []
            once, more = local_squares(gradients, here, there)
            c += once * (parts / self.size)
            norms += more * (parts / self.size)
        c, norms = self.total(c, norms) if outside else (self.total(c)[0], norms)
        return c, np.diagonal(c) + norms

    def all_true(self, flag: bool) -> bool:
        """Ask the processes that hold the other parts."""
        return bool(self.total(np.array([float(not flag)]))[0][0] == 0.0)

    def local(self, params: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the local parts, without a graph."""
        return [p.to_local().detach() if isinstance(p, DTensor) else p for p in params]

    def placed(self, params: Sequence[Tensor], direction: Row) -> Row:
        """Return DTensors placed as their parameters."""
        pairs = zip(params, direction, strict=True)
        return [_as_dtensor(d, p) if isinstance(p, DTensor) else d for p, d in pairs]


def _parts(p: Tensor) -> int:
    """Return the number of different parts that a parameter is cut into."""
    if not isinstance(p, DTensor):
        return 1
    pairs = enumerate(p.placements)
    cut = [p.device_mesh.size(d) for d, place in pairs if not isinstance(place, Replicate)]
    return int(np.prod(cut)) if cut else 1


def _local_gradient(gradient: Tensor | None, p: Tensor) -> Tensor | None:
    if gradient is None or not isinstance(p, DTensor):
        return gradient
    assert isinstance(gradient, DTensor)
    if gradient.placements != p.placements:
        gradient = gradient.redistribute(p.device_mesh, p.placements)
    local: Any = gradient.to_local()
    found: Tensor = local.wait() if hasattr(local, "wait") else local  # of an asynchronous one
    return found


def _as_dtensor(d: Tensor | None, p: DTensor) -> Tensor | None:
    if d is None:
        return None
    placed: Tensor = DTensor.from_local(
        d, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
    )
    return placed
