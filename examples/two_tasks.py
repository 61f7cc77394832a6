"""The problem that every example trains: two targets behind a bottleneck too narrow for both."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

PREFERENCE = {"segmentation": 0.7, "depth": 0.3}
BATCHES = 4


class TwoTasks(nn.Module):
    """One number between the trunk and two heads, so that one task gains what the other loses."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Linear(4, 1)
            self.segmentation = nn.Linear(1, 1)
            self.depth = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the predictions for inputs [n, 4], each [n, 1]."""
        z = self.trunk(x)
        return {"segmentation": self.segmentation(z), "depth": self.depth(z)}


def data() -> list[dict[str, Tensor]]:
    """Return 64 samples: inputs [4], one target [1] per task."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    targets = {"segmentation": x[:, :1] + 0.2 * x[:, 2:3], "depth": x[:, 1:2] - 0.2 * x[:, 2:3]}
    return [
        {"x": x[k], **{task: target[k] for task, target in targets.items()}} for k in range(len(x))
    ]


def batches(epochs: int, size: int = 64 // BATCHES) -> Iterator[dict[str, Tensor]]:
    """Yield the batches of some epochs, always in one order."""
    samples = data()
    for _ in range(epochs):
        for start in range(0, len(samples), size):
            rows = samples[start : start + size]
            yield {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def losses(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the losses by the names of their tasks."""
    outputs = model(batch["x"])
    return {task: mse_loss(outputs[task].to(batch[task]), batch[task]) for task in PREFERENCE}


def balance(model: nn.Module) -> float:
    """Return r_1 l_1 / (r_2 l_2) on all samples: 1 where the preference is reached."""
    batch = next(batches(1, size=64))
    with torch.no_grad():
        found = losses(model, batch)
    products = [r * found[task].item() for task, r in PREFERENCE.items()]
    return products[0] / products[1]
