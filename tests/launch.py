"""Run a function in several real processes with gloo, and collect what each returns."""

import datetime
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def launch(function, world, *args, timeout=60):
    """Return what ``function(rank, world, *args)`` returned in each process.

    None is a process that has ended without a result.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = mp.get_context("spawn")
        given = (function, world, folder, timeout, args)
        processes = [
            context.Process(target=_process, args=(rank, *given), daemon=True)
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
        return [
            torch.load(path, weights_only=False) if path.exists() else None
            for path in (Path(folder) / f"{rank}.pt" for rank in range(world))
        ]


def _process(rank, function, world, folder, timeout, args):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=world,
        timeout=datetime.timedelta(seconds=timeout),
    )
    result = function(rank, world, *args)
    torch.save(result, f"{folder}/{rank}.part")
    os.replace(f"{folder}/{rank}.part", f"{folder}/{rank}.pt")
    leave()


def leave():
    """Leave the process group once gloo's threads have let go of what was sent.

    A thread needs the interpreter for that. torch 2.6 ends the group with the interpreter locked,
    and waits for ever for a thread that comes too late.
    """
    time.sleep(0.02)
    dist.destroy_process_group()


def finished(command, environment, timeout=300):
    """Run a command to its end; return (status, output, errors). None of its processes stays."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output, errors
