"""Sweeps whose runs several ranks train together, grouped by preference on a mesh."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sweep_cases
import torch.distributed as dist

import pyfront

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without gloo"
)

# what a user would write: groups of 2 ranks, each with its slice of the preferences
SCRIPT = """
import functools, json, os, sys
import pyfront, sweep_cases
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("preference", "replica"))
group = sweep_cases.GROUP = mesh.get_group("replica")
rank, index = mesh.get_rank(), mesh.get_local_rank("preference")
train = functools.partial(sweep_cases.together, folder=".")
runs = [[float(k), 1.0] for k in range(1, 6)]
seed = 1 if "seed" in sys.argv and rank == 3 else 0
found = {}
try:
    front = pyfront.sweep(
        train, runs[index::2], process_group=group, folder="kept", seed=seed, progress=False
    )
except pyfront.SweepError as error:
    found["reasons"] = {f.preference[0]: f.reason for f in error.failures}
    front = error.front
except ValueError as error:
    found["error"], front = str(error), pyfront.Front()
found["runs"] = [[s.preference, s.train_losses, s.metrics] for s in front]
open(f"rank-{rank}", "w").write(json.dumps(found))
dist.barrier()  # a rank that ends early would cut off the others
dist.destroy_process_group()
"""


def torchrun(folder, *arguments):
    (folder / "script.py").write_text(SCRIPT)
    paths = [str(Path(sweep_cases.__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4"]
    done = subprocess.run(
        [*command, "script.py", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"rank-{rank}").read_text()) for rank in range(4)]


def calls(folder, rank):
    return (folder / f"calls-{rank}").read_text().split()


def test_groups_train_their_slices_and_one_rank_of_each_keeps_them(tmp_path):
    found = torchrun(tmp_path)
    assert found[0] == found[1] and found[2] == found[3]
    assert [r[0][0] for r in found[0]["runs"]] == [1.0, 5.0]
    assert [r[0][0] for r in found[2]["runs"]] == [2.0, 4.0]
    reason = found[0]["reasons"]["3.0"]
    assert reason.startswith("rank 1: Traceback") and "three is not for rank 1" in reason
    names = sorted(p.suffix for p in (tmp_path / "kept").iterdir())
    assert names == [".json"] * 5  # four runs and what defines the sweep
    alone = pyfront.sweep(sweep_cases.plain, [[1, 1], [5, 1]], workers=0, progress=False)
    expected = [[list(s.preference), list(s.train_losses), s.metrics] for s in alone]
    assert found[0]["runs"] == expected  # bit for bit
    assert torchrun(tmp_path) == found  # only the run that failed is tried again
    assert [calls(tmp_path, rank) for rank in range(4)] == [
        *[["1.0", "3.0", "5.0", "3.0"]] * 2,
        *[["2.0", "4.0"]] * 2,
    ]


def test_ranks_that_were_given_different_things_all_get_the_same_error(tmp_path):
    found = torchrun(tmp_path, "seed")
    assert len(found[0]["runs"]) == 2  # the other group is not touched
    for rank in (2, 3):
        assert "rank 1 was given other preferences or another seed" in found[rank]["error"]
    assert not (tmp_path / "calls-2").exists()


def test_bad_groups_are_named():
    sweep = pyfront.sweep
    with pytest.raises(TypeError, match="process_group: expected a torch.distributed group, got 3"):
        sweep(sweep_cases.train, [[1, 1]], process_group=3)
    with pytest.raises(ValueError, match="process_group: needs no workers, no executor and no"):
        sweep(sweep_cases.train, [[1, 1]], process_group=3, workers=2)
