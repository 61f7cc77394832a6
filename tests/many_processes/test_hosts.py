"""Two hosts on a slow link that loses packets, and then goes down."""

import time

import hosts
import pytest
import torch


def test_a_lossy_link_changes_nothing_and_one_that_is_down_is_an_error(tmp_path):
    if why_not := hosts.obstacle():
        pytest.skip(why_not)
    with hosts.hosts():
        processes = [hosts.start(rank, tmp_path) for rank in range(2)]
        try:
            wait_for([tmp_path / f"{rank}.pt" for rank in range(2)], processes)
            lost = hosts.lost(0) + hosts.lost(1)
            hosts.cut()
            (tmp_path / "down").touch()
            wait_for([tmp_path / f"{rank}.txt" for rank in range(2)], processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    _, alone = hosts.trained(0, 1)
    for p, q, r in zip(*found, alone, strict=True):
        assert torch.equal(p, q) and (p - r).abs().max() < 1e-9
    for rank in range(2):
        said = (tmp_path / f"{rank}.txt").read_text()
        assert "the other processes did not arrive at this step" in said and "timeout" in said
    if not lost:
        pytest.skip("all held, but the link's queue never overflowed on this machine")


def wait_for(paths, processes, seconds=120):
    deadline = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        for process in processes:
            assert process.poll() in (None, 0), process.stderr.read()[-2000:]
        assert time.monotonic() < deadline, f"{paths} have not come"
        time.sleep(0.2)
