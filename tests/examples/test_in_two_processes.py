"""Frameworks in two processes, launched by torchrun, train as one process on the whole batches."""

import os
import sys
from pathlib import Path

import plain_training
import pytest
import torch
from launch import finished
from sharding import needs_fully_shard

TESTS = Path(__file__).parents[1]
NEEDS = {
    "automatic": ["lightning"],
    "manual": ["lightning"],
    "fabric": ["lightning"],
    "model_parallel": ["lightning"],
    "accelerate": ["accelerate"],
    "trainer": ["transformers", "peft"],
}
SHARDED = "model_parallel"


@pytest.fixture
def in_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_fully_shard) if name == SHARDED else name for name in NEEDS],
)
def test_a_framework_in_two_processes_is_one_on_the_whole_batch(name, tmp_path, in_float64):
    for package in NEEDS[name]:
        pytest.importorskip(package, reason=f"{package} is not installed")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join([str(TESTS), str(TESTS.parent / "examples")])
    threads = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": path}
    status, _, errors = finished(
        [*command, str(TESTS / "framework_processes.py"), name, str(tmp_path)],
        {**os.environ, **threads, "ACCELERATE_USE_CPU": "true"},
    )
    assert status == 0, errors[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["world"] == 2 and len(first["seen"]) == len(second["seen"]) == 12
    whole = [
        {key: torch.cat([a[key], b[key]]) for key in a}
        for a, b in zip(first["seen"], second["seen"], strict=True)
    ]
    assert not torch.equal(first["seen"][0]["x"], second["seen"][0]["x"])  # each has its part
    expected, _ = plain_training.trained(whole)
    for p, q, r in zip(
        first["parameters"], second["parameters"], expected.parameters(), strict=True
    ):
        assert torch.equal(p, q)
        assert (p - r).abs().max() < 1e-9
