"""Checkpoints between numbers of processes, roles, and what is refused."""

import distributed_state as cases
import pytest
import torch
from distributed_cases import same
from launch import launch
from sharding import needs_fully_shard


@needs_fully_shard
def test_a_checkpoint_of_four_processes_is_resumed_by_two_and_by_one(tmp_path):
    saved = launch(cases.save, 4, tmp_path)
    for world in (2, 1):
        for found in launch(cases.resume, world, tmp_path):
            same({"parameters": found}, {"parameters": saved[0]})


def test_roles_are_those_of_all_processes_together():
    (memory, first), (other, second) = launch(cases.roles, 2)
    assert memory == other and '"owners": [-1, -1, -1, -1' in memory
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


SAID = {
    "no group": "TypeError: process_group: expected a torch.distributed.ProcessGroup",
    "FSDP1, False": "TypeError: base: its parameters are those of FullyShardedDataParallel (FSDP1)",
    "FSDP1, True": "TypeError: base: its parameters are those of FullyShardedDataParallel (FSDP1)",
    "backend": "ValueError: process_group: its backend 'cuda:gloo' has no collectives for",
    "meshes apart": "do not nest; one of them must hold the others",
    "DeepSpeed": "TypeError: base: DeepSpeed owns",
    "pipeline": "stages of a pipeline",
    "a mesh and a group": "process_group: the parameters are DTensors",
    "features": "features[0]: it has no graph",
    "upper bound": "upper_bound: the gradients of sharded parameters are made by hooks",
    "second batch": "second: the gradients of sharded parameters are made by hooks",
    "absent task": "losses[0]: None on rank 0, with data on rank 1: a sharded model needs every",
    "plain parameters differ": "rank 1 holds other values of its parameters than rank 0",
}


@pytest.fixture(scope="module")
def said():
    return launch(cases.refusals, 2)


@needs_fully_shard
@pytest.mark.parametrize("misuse", SAID)
def test_what_is_not_supported_is_refused_on_every_rank(misuse, said):
    for found in said:
        assert SAID[misuse] in found[misuse]


@needs_fully_shard  # as the rest of what these processes try
def test_a_group_belongs_to_running_processes(said):
    assert "rank 1 is not in this group" in said[1]["not in the group"]
    for found in said:
        assert found["copies"] == [None, None] and found["own model"] == "ok"
