"""One network for every preference against one process on the whole batch."""

import distributed_hypernetwork as cases
import pytest
import torch
from distributed_cases import same
from launch import launch


@pytest.fixture(scope="module")
def alone():
    return {name: cases.train(name, 0, 1) for name in cases.RUNS}


@pytest.fixture(scope="module")
def replicas():
    return launch(cases.replicas, 2)


@pytest.mark.parametrize("kind", ["bare", "DDP"])
@pytest.mark.parametrize("name", cases.RUNS)
def test_a_preference_per_call_is_that_of_one_process(name, kind, replicas, alone):
    first, second = (found[kind][name] for found in replicas)
    assert torch.equal(first["weights"], second["weights"])
    for p, q in zip(first["parameters"], second["parameters"], strict=True):
        assert torch.equal(p, q)
    same(first, alone[name])
    assert first["weights"].std(dim=0).max() > 1e-3  # they follow the preferences


def test_processes_that_draw_other_preferences_or_another_start_are_told():
    for preference, start in launch(cases.differences, 2):
        assert "rank 1 has another preference than rank 0" in preference
        assert "rank 1 holds other values of its parameters than rank 0" in start
