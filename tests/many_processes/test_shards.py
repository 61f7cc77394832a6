"""Sharded models against one process on the whole batch."""

import distributed_cases as cases
import pytest
import torch
from distributed_cases import same
from launch import launch
from sharding import FULLY_SHARDS, needs_fully_shard

NAMES = [name for name in cases.RUNS if name not in ("second batch", "upper bound")]
# torch 2.6 leaves 1.1e-9 where a gradient scaler meets DTensors
SOME = ["EPO", "PreferenceFeedback", "FERERO", "adamw", "shared", "own", "micro-batches"]
SOME += ["scaler"] if FULLY_SHARDS else []


@pytest.fixture(scope="module")
def alone():
    return cases.train(NAMES, 0, 1)


@pytest.fixture(scope="module")
def fsdp2():
    return launch(cases.fsdp2, 2, NAMES)


def check(ranks, expected):
    first, *others = ranks
    same(first, expected)
    for other in others:
        assert torch.equal(first["weights"], other["weights"])
        for p, q in zip(first["parameters"], other["parameters"], strict=True):
            assert torch.equal(p, q)


@needs_fully_shard
@pytest.mark.parametrize("name", NAMES)
def test_fully_sharded_training_is_that_of_one_process_on_the_whole_batch(name, fsdp2, alone):
    check([found[name] for found in fsdp2], alone[name])


def test_tensor_parallel_training_is_that_of_one_process(alone):
    found = launch(cases.tensor_parallel, 2, SOME)
    for name in SOME:
        check([rank[name] for rank in found], alone[name])


@needs_fully_shard
def test_two_dimensions_of_processes_train_as_one(alone):
    found = launch(cases.four, 4, SOME)
    for kind in ("hybrid", "2-D"):
        for name in SOME:
            check([rank[kind][name] for rank in found], alone[name])
