"""Two network namespaces that stand for two machines on a slow link, and what runs on them.

The kernel's token bucket limits the link and drops what overflows its short queue, so that packets
are late and lost and TCP sends them again.
"""

import contextlib
import datetime
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import pyfront

STEPS, BATCH, TIMEOUT = 3, 8, 8
SLOW = "rate 20mbit burst 8kb limit 12kb"  # at most 5 ms in the queue


def trained(rank, world):
    """Return an optimizer's step on fresh losses, and the parameters after some steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 2000), nn.Tanh(), nn.Linear(2000, 3)).double()
    called = DistributedDataParallel(model) if world > 1 else model
    group = dist.group.WORLD if world > 1 else None
    base = torch.optim.SGD(model.parameters(), lr=0.01)
    opt = pyfront.EPO(base, [0.5, 0.3, 0.2], process_group=group)
    generator = torch.Generator().manual_seed(1)
    batches = torch.randn(STEPS + 1, BATCH, 6, generator=generator).double()

    def step(x):
        losses = list(((called(x[rank::world]) - torch.arange(3.0)) ** 2).mean(0) + 0.1)
        opt.step(losses)

    for x in batches[:STEPS]:
        step(x)
    return lambda: step(batches[STEPS]), [p.detach().clone() for p in model.parameters()]


def on_host(rank, folder):
    """Train together; then make a step after the link has gone down, and write what it says."""
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://{address(0)}:29500",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=TIMEOUT),
    )
    step, parameters = trained(rank, 2)
    torch.save(parameters, folder / f"{rank}.part")
    os.replace(folder / f"{rank}.part", folder / f"{rank}.pt")
    deadline = time.monotonic() + 60
    while not (folder / "down").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        step()
        said = "nothing"
    except RuntimeError as error:
        said = str(error)
    (folder / f"{rank}.txt").write_text(said)
    os._exit(0)  # destroying the group would wait for the other host


def address(rank):
    return f"10.213.77.{rank + 1}"


def name(rank):
    return f"pyfront-{os.getpid()}-{rank}"


def obstacle():
    """Return why hosts cannot be made here, or None."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "iproute2 is not installed"
    try:
        tool("ip", "netns", "add", name(0))
    except subprocess.CalledProcessError as error:
        return f"network namespaces cannot be made here: {error.stderr.strip()}"
    try:
        limit(0, "lo", SLOW)
        return None
    except subprocess.CalledProcessError as error:
        return f"this kernel cannot limit a link: {error.stderr.strip()}"
    finally:
        tool("ip", "netns", "del", name(0))


def limit(rank, device, how):
    """Limit what a host sends."""
    tool("tc", "-n", name(rank), "qdisc", "add", "dev", device, "root", "tbf", *how.split())


def tool(*words):
    """Run an iproute2 command and return its output."""
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout


@contextlib.contextmanager
def hosts(link=SLOW):
    """Two namespaces, joined by one link; it is gone afterwards."""
    made = []
    try:
        for rank in range(2):
            tool("ip", "netns", "add", name(rank))
            made.append(name(rank))
        ends = ["name", "wire", "netns", name(0), "type", "veth"]
        tool("ip", "link", "add", *ends, "peer", "name", "wire", "netns", name(1))
        for rank in range(2):
            inside = ("ip", "-n", name(rank))
            tool(*inside, "addr", "add", f"{address(rank)}/24", "dev", "wire")
            tool(*inside, "link", "set", "wire", "up")
            tool(*inside, "link", "set", "lo", "up")
            limit(rank, "wire", link)
        yield
    finally:
        for found in made:
            tool("ip", "netns", "del", found)


def start(rank, *arguments, script=__file__):
    """Return the process on a host."""
    words = [sys.executable, str(script), str(rank), *map(str, arguments)]
    command = ["ip", "netns", "exec", name(rank), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "wire"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def lost(rank):
    """Return the number of packets that the queue of a host has dropped."""
    words = tool("tc", "-n", name(rank), "-s", "qdisc", "show", "dev", "wire").split()
    return int(words[words.index("(dropped") + 1].rstrip(","))


def cut():
    """Take the link down."""
    tool("ip", "-n", name(0), "link", "set", "wire", "down")


if __name__ == "__main__":
    torch.set_num_threads(1)
    on_host(int(sys.argv[1]), Path(sys.argv[2]))
