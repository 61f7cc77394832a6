"""Replicas against one process on the whole batch."""

import distributed_cases as cases
import pytest
import torch
from distributed_cases import same
from launch import launch

WORLD = 2


@pytest.fixture(scope="module")
def alone():
    return cases.train(cases.RUNS, 0, 1)


@pytest.fixture(scope="module")
def ddp():
    return launch(cases.ddp, WORLD, list(cases.RUNS))


@pytest.mark.parametrize("name", cases.RUNS)
def test_data_parallel_training_is_that_of_one_process_on_the_whole_batch(name, ddp, alone):
    first, second = (found[name] for found in ddp)
    assert torch.equal(first["weights"], second["weights"])
    for p, q in zip(first["parameters"], second["parameters"], strict=True):
        assert torch.equal(p, q)
    same(first, alone[name])
    assert (first["losses"] - alone[name]["losses"]).abs().max() < 1e-6
    moved = first["parameters"][1] - cases.ThreeHeads().trunk.weight
    assert moved.abs().max() > 1e-3  # it has trained at all


def test_rows_in_one_bucket_between_passes_are_those_of_one_process(alone):
    for found in launch(cases.bare, WORLD, cases.BARE):
        for name in cases.BARE:
            same(found[name], alone[name])


def test_unequal_parts_of_a_batch_count_by_their_share(alone):
    for found in launch(cases.uneven, WORLD):
        for name in cases.UNEVEN:
            same(found[name], alone[name])


@pytest.mark.parametrize("absent", ["None", "share=0"])
def test_a_task_may_have_data_in_one_process_alone(absent):
    expected = cases.without_data(0, 1, "")
    first, second = launch(cases.without_data, WORLD, absent)
    for name in cases.WITHOUT:
        assert torch.equal(
            first[name]["weights"].nan_to_num(), second[name]["weights"].nan_to_num()
        )
        for found in (first, second):
            same(found[name], expected[name])
