"""A step on two replicas over the larger of its passes and its communication, and the update.

    python bench/processes.py                two processes on one host, by gloo
    python bench/processes.py --mbit 1000    two network namespaces on a link of this rate (as root)
    python bench/processes.py --mbit 1000 --shards    what a step with fully_shard sends on it

Each round times the m passes alone, the communication of m rows alone, the base's step alone and
the whole step, in turn, as the slower process sees them; the medians of the rounds are printed, and
the ratio's quartiles. Processor time depends less on what else the machine does.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import process_time

import torch
import torch.distributed as dist
from stopwatch import seconds
from torch import nn
from torch.distributed.fsdp import fully_shard

import pyfront

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import hosts
import launch

M = 3
NAMES = ["passes", "communication", "update", "step"]


def model_of():
    torch.manual_seed(0)
    widths = [(256, 1024), (1024, 1024), (1024, 1024)]
    trunk = nn.Sequential(*(part for a, b in widths for part in (nn.Linear(a, b), nn.Tanh())))
    return nn.Sequential(trunk, nn.Linear(1024, M))


def losses_on(model, batch):
    """Return a function that computes M losses on a batch of this process."""
    x, y = torch.randn(batch, 256), torch.randn(batch, M)
    return lambda: list(((model(x) - y) ** 2).mean(0))


def interleaved(calls, rounds):
    """Return times of the slower process and the mean of their processor times, [rounds, calls].

    Each round begins with another call. Processor time is that of all threads, gloo's too.
    """
    for call in [*calls, *calls]:
        call()
    times = torch.zeros(rounds, len(calls), dtype=torch.float64)
    work = torch.zeros_like(times)
    for k in range(rounds):
        for j in range(len(calls)):
            call = (j + k) % len(calls)
            dist.barrier()
            before = process_time()
            times[k, call] = seconds(calls[call])
            work[k, call] = process_time() - before
    dist.all_reduce(times, op=dist.ReduceOp.MAX)
    dist.all_reduce(work)
    return times, work / dist.get_world_size()


def floor(params, losses, base):
    """Return the calls of passes, communication and update: what a step cannot do without."""
    rows = [torch.zeros(sum(p.numel() for p in params)) for _ in range(M)]

    def passes():
        found = losses()
        for task, loss in enumerate(found):
            torch.autograd.grad(loss, params, retain_graph=task + 1 < M)

    def communication():
        for work in [dist.all_reduce(row, async_op=True) for row in rows]:
            work.wait()

    return [passes, communication, base.step]


def measured(rank, world, rounds, batch):
    """Return the times and processor times [rounds, 4], and n."""
    model = model_of()
    params = list(model.parameters())
    losses = losses_on(model, batch)
    base = torch.optim.AdamW(params, lr=1e-4)
    opt = pyfront.EPO(base, [0.5, 0.3, 0.2], process_group=dist.group.WORLD)
    opt.step(losses())  # so that the base has gradients
    calls = [*floor(params, losses, base), lambda: opt.step(losses())]
    return *interleaved(calls, rounds), sum(p.numel() for p in params)


def sharded(rank, world, rounds, batch):
    """Return bytes received and seconds per step with fully_shard, [rounds, 2], and n."""
    torch.manual_seed(0)
    widths = [(256, 1024), (1024, 1024), (1024, 1024), (1024, M)]
    layers = [part for a, b in widths for part in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers[:-1])
    n = sum(p.numel() for p in model.parameters())
    for layer in layers[:-1:2]:
        fully_shard(layer)
    fully_shard(model)
    opt = pyfront.EPO(torch.optim.AdamW(model.parameters(), lr=1e-4), [0.5, 0.3, 0.2])
    x, y = torch.randn(batch, 256), torch.randn(batch, M)
    counter = Path("/sys/class/net/wire/statistics/rx_bytes")
    found = torch.zeros(rounds, 2, dtype=torch.float64)
    for k in range(-1, rounds):
        dist.barrier()
        before = int(counter.read_text())
        took = seconds(lambda: opt.step(list(((model(x) - y) ** 2).mean(0))))
        dist.barrier()
        found[k, 0], found[k, 1] = int(counter.read_text()) - before, took
    return found, n


def on_link(mbit, what, rounds, batch, script=__file__):
    """Return what a function of a script does on two hosts."""
    if why_not := hosts.obstacle():
        sys.exit(why_not)
    link = f"rate {mbit}mbit burst 256kb limit 4mb"
    with tempfile.TemporaryDirectory() as folder, hosts.hosts(link):
        start = partial(hosts.start, script=script)
        processes = [start(rank, folder, what, rounds, batch) for rank in range(2)]
        errors = [process.communicate()[1] for process in processes]
        assert all(process.returncode == 0 for process in processes), errors
        return torch.load(Path(folder) / "found.pt")


def on_host(what, words):
    """Run on one of two hosts, as its command says."""
    rank, folder, rounds, batch = int(words[0]), *words[1:2], *map(int, words[3:5])
    torch.set_num_threads(1)
    address = f"tcp://{hosts.address(0)}:29500"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    found = what[words[2]](rank, 2, rounds, batch)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mbit", type=int)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--shards", action="store_true")
    args = parser.parse_args()
    if args.shards:
        found, n = on_link(args.mbit, "sharded", args.rounds, args.batch)
        received, took = found.median(dim=0).values.tolist()
        on_paper = (
            4 * n * (1 + 2 * M) / 2
        )  # float32; a forward pass gathers, the others also scatter
        print(f"n = {n:,}, m = {M}: {received / 1e6:.1f} MB received per step, {1e3 * took:.0f} ms")
        gloo = 4 * n * (1 + 3 * M) / 2
        print(f"on paper {on_paper / 1e6:.1f} MB, or {gloo / 1e6:.1f} MB if all-reduces scatter")
        return
    if args.mbit is None:
        times, work, n = launch.launch(measured, 2, args.rounds, args.batch)[0]
    else:
        times, work, n = on_link(args.mbit, "measured", args.rounds, args.batch)
        sent = 4 * M * n  # bytes of float32: 2 (W - 1) / W rows each way for W = 2
        print(f"on paper the link takes {8e3 * sent / (args.mbit * 1e6):.0f} ms")
    print(f"n = {n:,}, m = {M}, {args.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    for name, column, worked in zip(NAMES, times.T, work.T, strict=True):
        taken, busy = 1e3 * column.median(), 1e3 * worked.median()
        print(f"{name:14} {taken:8.1f} ms, {busy:8.1f} ms of a processor")
    compute, link, update, step = times.T
    ratio = step / (torch.maximum(compute, link) + update)
    low, middle, high = ratio.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    print(f"step / (max(passes, communication) + update) = {middle:.2f} ({low:.2f} to {high:.2f})")
    naive = ((compute + link + update) / (torch.maximum(compute, link) + update)).median()
    print(f"without overlap it would be {naive:.2f} or more")
    more = (work[:, 3] / work[:, :3].sum(dim=1)).median()
    print(f"the processor works {more:.2f} times as long as in the three parts")


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1].isdigit():
        on_host({"measured": measured, "sharded": sharded}, sys.argv[1:])
    else:
        main()
