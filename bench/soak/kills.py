"""Sweeps whose workers and parents are killed with signal 9 at random moments.

``python bench/soak/kills.py --kills 500`` starts a sweep of two workers on a folder, kills a worker
or the parent after a random time, and starts the sweep again until it ends; then another folder.
After each sweep: every run is there, with the bits of a run that nobody disturbed; no run that had
been saved was trained again; no run was trained twice by one sweep; and no process is left over.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

import pyfront

RUNS = [(k / 41, (41 - k) / 41) for k in range(1, 41)]
STEPS = 100


def train(preference: tuple[float, ...], *, folder: Path) -> pyfront.Solution:
    """A training of a fraction of a second that leaves a line where it begins."""
    with (folder / "calls").open("a") as file:
        file.write(f"{preference[0]}\n")
    net = torch.nn.Linear(4, 2)
    opt = pyfront.LinearScalarization(torch.optim.Adam(net.parameters()), preference)
    for _ in range(STEPS):
        out = net(torch.randn(16, 4))
        losses = opt.step([out[:, j].square().mean() for j in range(2)]).losses.tolist()
        time.sleep(0.001)  # the same number of moments on a machine of any speed
    return pyfront.Solution(method="linear", preference=preference, train_losses=losses)


def sweep(folder: Path) -> pyfront.Front:
    runs = functools.partial(train, folder=folder)
    return pyfront.sweep(runs, RUNS, workers=2, folder=folder / "kept", progress=False)


def children(pid: int) -> list[int]:
    """The worker processes: children with a process group of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and int(fields[2]) == int(entry.name):
                found.append(int(entry.name))
    return found


def calls(folder: Path) -> list[str]:
    file = folder / "calls"
    return file.read_text().split() if file.exists() else []


def kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def wait_until_gone(pids: set[int]) -> None:
    limit = time.monotonic() + 60
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        if time.monotonic() > limit:
            raise AssertionError(f"processes {left} outlived their sweep")
        time.sleep(0.05)


def disturbed(folder: Path, choice: random.Random, kills: dict[str, int], limit: int) -> None:
    """One start of the sweep, and what is killed of it; checks that nothing was trained twice."""
    kept = folder / "kept"
    saved = {path.name for path in kept.glob("*.json")}
    done = {str(r[0]) for r in RUNS if name_of(r) in saved}
    before = len(calls(folder))
    parent = start(folder)
    workers: set[int] = set()
    # a place in the sweep, not a time, so that a slow machine gets on too
    seen, calm = before, choice.randint(1, 6)
    while parent.is_alive():
        workers |= set(children(parent.pid))
        time.sleep(0.01)
        if len(calls(folder)) - seen < calm or sum(kills.values()) >= limit:
            continue
        time.sleep(choice.uniform(0.0, 0.3))
        seen, calm = len(calls(folder)), choice.randint(1, 6)
        running = children(parent.pid)
        if choice.random() < 0.75 and running:
            kills["workers"] += kill(choice.choice(running))
        else:
            kills["parents"] += kill(parent.pid)
            break
    parent.join()
    wait_until_gone(workers)
    begun = calls(folder)[before:]
    if again := done & set(begun):
        raise AssertionError(f"{folder}: trained again although they were saved: {sorted(again)}")
    if len(set(begun)) != len(begun):
        raise AssertionError(f"{folder}: one sweep trained a run twice: {begun}")
    left = saved - {path.name for path in kept.glob("*.json")}
    if left:
        raise AssertionError(f"{folder}: saved runs are gone: {sorted(left)}")


def start(folder: Path) -> multiprocessing.process.BaseProcess:
    """A sweep in a process of its own, which has imported torch before it is forked."""
    process = multiprocessing.get_context("fork").Process(target=quiet_sweep, args=(folder,))
    process.start()
    return process


def quiet_sweep(folder: Path) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sweep(folder)


def name_of(run: tuple[float, ...]) -> str:
    return f"{pyfront.sweeps.runs.digest(run).hex()[:20]}.json"


def main(arguments: list[str] | None = None) -> dict[str, int]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    choice = random.Random(options.seed)
    kills = {"workers": 0, "parents": 0}
    folders = starts = 0
    with tempfile.TemporaryDirectory() as place:
        alone = Path(place) / "undisturbed"
        alone.mkdir()
        start(alone).join()
        expected = sweep(alone)  # loaded: no thread of autograd may start before a fork
        while sum(kills.values()) < options.kills:
            folder = Path(place) / str(folders)
            folder.mkdir()
            folders += 1
            while len(list((folder / "kept").glob("*.json"))) < len(RUNS) + 1:  # and sweep.json
                disturbed(folder, choice, kills, options.kills)
                starts += 1
                print(json.dumps({"folders": folders, "starts": starts, **kills}), flush=True)
            front = sweep(folder)  # trains nothing: all of it is loaded
            found = [(s.preference, s.train_losses) for s in front]
            assert found == [(s.preference, s.train_losses) for s in expected], folder
    return kills


if __name__ == "__main__":
    main()
