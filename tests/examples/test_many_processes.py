"""The launches that the page on several processes shows."""

import os
import sys
from pathlib import Path

import pytest
from launch import finished
from sharding import needs_fully_shard

EXAMPLE = Path(__file__).parents[2] / "examples" / "many_processes.py"


def launched(processes, how):
    """Return the losses that the example prints under torchrun."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    status, output, errors = finished([*command, str(EXAMPLE), how], environment)
    assert status == 0, errors[-2000:]
    (line,) = (line for line in output.splitlines() if line.startswith("losses"))
    return [float(number) for number in line.split()[1:]]


@pytest.fixture(scope="module")
def alone():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    return launched(1, "alone")


@pytest.mark.parametrize(
    "processes, how",
    [
        (2, "ddp"),
        pytest.param(2, "fsdp2", marks=needs_fully_shard),
        pytest.param(4, "mesh", marks=needs_fully_shard),
    ],
)
def test_torchrun_gives_what_one_process_gives(processes, how, alone):
    assert launched(processes, how) == pytest.approx(alone, abs=2e-5)
