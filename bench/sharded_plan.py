"""Memory, traffic and time per step of sharded runs, computed from the assumptions below.

    python bench/sharded_plan.py

Nothing is measured here. FSDP2, mixed precision (parameters gathered in bf16, gradients scattered
and states kept in float32), AdamW, and activations that are checkpointed at every layer, so that
each pass computes the forward pass again. All m losses depend on all n parameters. Links and
arithmetic overlap perfectly within a pass; logits are not counted.
"""

from dataclasses import dataclass

M = 3
FLOPS = 0.4 * 989e12  # of an H100 SXM in bf16 without sparsity, at 40 % of its peak
HBM = 3.35e12  # bytes per second
MEMORY = 80e9  # bytes
LINKS = {  # bytes per second into each GPU of a ring, at 80 % of what the hardware has
    "NVLink, one node": 0.8 * 450e9,
    "8 × 400 Gbit/s per node": 0.8 * 8 * 50e9,
    "100 Gbit/s per node": 0.8 * 12.5e9,
}


@dataclass(frozen=True)
class Run:
    """n parameters in `layers` of width `hidden`, on W GPUs, T tokens on each of them per step."""

    name: str
    n: float
    layers: int
    hidden: int
    gpus: int
    tokens: int
    link: str
    adapters: float  # entries of LoRA adapters over n

    def step(self, passes, *, rows=0, kept=False, lora=False):
        """Return bytes in memory and bytes received, per GPU, and the seconds of a step."""
        n, w, t = self.n, self.gpus, self.tokens
        trained = self.adapters * n if lora else n
        share = (w - 1) / w
        state = 16 * trained / w + (2 * n / w if lora else 0.0)
        held = 2 * n if kept else 2 * 2 * n / self.layers  # two layers: one is fetched ahead
        working = held + 4 * trained / self.layers
        activations = (2 * self.layers + 34) * self.hidden * t
        memory = state + 4 * rows * trained / w + working + activations
        forward_sent = 2 * n * share
        pass_sent = (0.0 if kept else 2 * n * share) + 4 * trained * share
        flops_of_pass = (4 if lora else 6) * n * t  # frozen weights need no gradient of their own
        speed = LINKS[self.link]
        seconds = max(2 * n * t / FLOPS, forward_sent / speed)
        seconds += passes * max(flops_of_pass / FLOPS, pass_sent / speed)
        seconds += (28 + 4 * (2 * rows + bool(rows))) * trained / w / HBM  # AdamW; C and d
        return memory, forward_sent + passes * pass_sent, seconds

    def fewest_gpus(self, rows, lora=False):
        """Return the smallest power of two whose memory suffices."""
        gpus = 1
        while Run(**{**vars(self), "gpus": gpus}).step(1, rows=rows, lora=lora)[0] > MEMORY:
            gpus *= 2
        return gpus


RUNS = [
    Run("1B", 1e9, 24, 2048, 8, 16384, "NVLink, one node", 0.01),
    Run("70B", 70e9, 80, 8192, 64, 8192, "8 × 400 Gbit/s per node", 0.003),
]
METHODS = {  # passes, rows in memory, whether adapters alone are trained
    "plain sum": (1, 0, False),
    "PreferenceFeedback": (1, 0, False),
    "EPO, every=10 (mean)": (1 + (M - 1) / 10, M, False),
    "EPO": (M, M, False),
    "products (SingleLoopMGDA)": (M, M, False),
    "plain sum, LoRA": (1, 0, True),
    "EPO, LoRA": (M, M, True),
}


def plan(run):
    """Yield the lines of a run's table."""
    yield (
        f"| {run.name} on {run.gpus} × H100, {run.tokens:,} tokens each | memory | received | time "
        "| over plain | fewest GPUs |"
    )
    yield "|---|---|---|---|---|---|"
    for name, (passes, rows, lora) in METHODS.items():
        memory, sent, seconds = run.step(passes, rows=rows, lora=lora)
        plain = run.step(1, lora=lora)[2]
        yield (
            f"| {name} | {memory / 1e9:.1f} GB | {sent / 1e9:.1f} GB | {seconds:.2f} s "
            f"| {seconds / plain:.2f} | {run.fewest_gpus(rows, lora)} |"
        )


def thresholds():
    """Yield the lines of the table of tokens at which links and arithmetic take the same time."""
    yield "| tokens per GPU and pass | anew | kept | LoRA, anew |"
    yield "|---|---|---|---|"
    for name, speed in LINKS.items():
        ratio = FLOPS / speed
        yield f"| {name} | {ratio:,.0f} | {ratio * 4 / 6:,.0f} | {ratio * 2 / 4:,.0f} |"


def tables():
    """Return what the documentation shows."""
    return ["\n".join(lines) for lines in (*map(plan, RUNS), thresholds())]


if __name__ == "__main__":
    print("\n\n".join(tables()))
