"""Which processes train one model: told by ``process_group`` and the parameters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from pyfront.distributed.processes import ALONE, Processes

__all__ = ["ProcessGroupLike", "as_process_group", "processes_of"]

ProcessGroupLike: TypeAlias = "torch.distributed.ProcessGroup | Literal[False] | None"


def as_process_group(name: str, value: Any) -> ProcessGroupLike:
    """Return ``value`` if it is None, False or a process group that this process is in.

    Raises:
        TypeError: anything else.
        ValueError: a group without this process.
    """
    if value is None or value is False:
        return None if value is None else False
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        raise ValueError(f"{name}: torch.distributed.init_process_group() has not been called")
    if value == distributed.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(
            f"{name}: rank {distributed.get_rank()} is not in this group; give False where the "
            "process trains a model of its own"
        )
    if not isinstance(value, distributed.ProcessGroup):
        raise TypeError(
            f"{name}: expected a torch.distributed.ProcessGroup, False or None, got "
            f"{type(value).__name__}"
        )
    return value


def processes_of(
    param_groups: Sequence[dict[str, Any]], group: ProcessGroupLike, base: torch.optim.Optimizer
) -> Processes:
    """Return those that train the model of these parameters.

    Args:
        param_groups: their T parameters that require a gradient are the model's.
        group: the option ``process_group``.
        base: the optimizer that makes the step.

    Raises:
        RuntimeError: several processes, and nothing says what they are to each other.
        TypeError: parameters or an optimizer of a wrapper that is not supported; it is named.
        ValueError: as for :class:`Shards` and :class:`Together`.
    """
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return ALONE
    params = [p for found in param_groups for p in found["params"] if p.requires_grad]
    if not params:
        return ALONE  # an error of its own follows
    _refuse(params, base)
    if any(_is_dtensor(p) for p in params):
        if group is not None:
            raise ValueError(
                "process_group: the parameters are DTensors, whose mesh says which processes train "
                "the model; leave it out"
            )
        from pyfront.distributed.shards import Shards

        return Shards(params)
    if group is False:
        return ALONE
    if group is None:
        if (ranks := distributed.get_world_size()) > 1:
            raise RuntimeError(
                f"torch.distributed runs {ranks} processes, and nothing says what they are to each "
                "other. If each holds the whole model, in DistributedDataParallel or not: give "
                "process_group=torch.distributed.group.WORLD. If each trains a model of its own: "
                "process_group=False. If the model is sharded, by fully_shard or "
                "parallelize_module: create the optimizer from its parameters afterwards"
            )
        return ALONE
    if distributed.get_world_size(group) == 1:
        return ALONE
    from pyfront.distributed.replicas import Replicas

    return Replicas(group, params)


def _is_dtensor(p: Tensor) -> bool:
    module: Any = sys.modules.get("torch.distributed.tensor")  # no DTensor exists before
    return module is not None and isinstance(p, module.DTensor)


def _refuse(params: Sequence[Tensor], base: torch.optim.Optimizer) -> None:
    """Raise a ``TypeError`` where a wrapper averages gradients in a backward pass of its own."""
    p = params[0]
    if any(type(q).__name__ == "FlatParameter" or hasattr(q, "_fsdp_flattened") for q in params):
        raise TypeError(
            "base: its parameters are those of FullyShardedDataParallel (FSDP1), which keeps one "
            "flat gradient; use torch.distributed.fsdp.fully_shard (FSDP2)"
        )
    if hasattr(p, "ds_id") or type(base).__module__.split(".")[0] == "deepspeed":
        raise TypeError(
            "base: DeepSpeed owns the backward pass and the gradients of its engines; use "
            "DistributedDataParallel or fully_shard"
        )
