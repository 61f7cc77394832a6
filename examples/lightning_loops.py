"""Lightning: automatic optimization, manual optimization and Fabric, with one scalar in each.

Run ``python examples/lightning_loops.py``.
"""

import tempfile
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from two_tasks import BATCHES, PREFERENCE, TwoTasks, balance, batches, data, losses

import pyfront


class Automatic(lightning.LightningModule):
    """Lightning clears the gradients, calls backward on the scalar, and steps."""

    def __init__(self) -> None:
        super().__init__()
        self.model = TwoTasks()

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Return one scalar for Lightning's backward."""
        scalar = self.pareto.scalarize(losses(self.model, batch))
        self.log_dict(self.pareto.metrics())
        return scalar

    @property
    def pareto(self) -> pyfront.EPO:
        """Lightning's wrapper of the optimizer, which has its attributes."""
        return cast(pyfront.EPO, self.optimizers())

    def configure_optimizers(self) -> Any:
        """Wrap Adam; ``group.WORLD`` is None in one process."""
        base = torch.optim.Adam(self.parameters(), lr=0.02)
        return pyfront.EPO(base, PREFERENCE, process_group=torch.distributed.group.WORLD)


class Manual(Automatic):
    """The user clears, calls backward and steps."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        """Make one step."""
        self.pareto.zero_grad()
        scalar = self.pareto.scalarize(losses(self.model, batch))
        self.manual_backward(scalar)
        self.pareto.step()
        self.log_dict(self.pareto.metrics())
        return scalar.detach()


def trained(
    module: lightning.LightningModule,
    folder: str | Path,
    epochs: int,
    resume: str | None = None,
    devices: int = 1,
    **options: Any,
) -> lightning.Trainer:
    """Train a module on the CPU and return the trainer.

    ``devices=2, strategy="ddp"`` trains the same in two processes, each on half of every batch.
    """
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        max_epochs=epochs,
        logger=CSVLogger(folder),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    samples = cast("Dataset[dict[str, Tensor]]", data())  # a list, which has all that is needed
    loader = DataLoader(samples, batch_size=64 // BATCHES // devices)
    trainer.fit(module, loader, ckpt_path=resume)
    return trainer


def fabric_trained(
    epochs: int,
    checkpoint: Path | None = None,
    resume: Path | None = None,
    precision: Any = None,
    devices: int = 1,
    **options: Any,
) -> Any:
    """Train with Fabric; load ``resume`` before and save ``checkpoint`` after it.

    ``devices=2, strategy="ddp"`` trains the same in two processes, each on half of every batch.
    """
    fabric = lightning.Fabric(accelerator="cpu", devices=devices, precision=precision, **options)
    fabric.launch()
    model = TwoTasks()
    base = torch.optim.Adam(model.parameters(), lr=0.02)
    opt = pyfront.EPO(base, PREFERENCE, process_group=torch.distributed.group.WORLD)
    model, opt = fabric.setup(model, opt)
    if resume is not None:
        fabric.load(resume, {"model": model, "opt": opt})
    for whole in batches(epochs):
        batch = {name: x[fabric.global_rank :: devices] for name, x in whole.items()}
        opt.zero_grad()
        with fabric.autocast():  # Fabric forbids the passes of scalarize() on model(x) itself
            found = losses(model.module, batch)
        fabric.backward(opt.scalarize(found))
        opt.step()
    if checkpoint is not None:
        fabric.save(checkpoint, {"model": model, "opt": opt})
    return model


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for module in (Automatic(), Manual()):
            trained(module, folder, epochs=60)
            print(f"{type(module).__name__}: r1 l1 / (r2 l2) = {balance(module.model):.3f}")
    print(f"Fabric: r1 l1 / (r2 l2) = {balance(fabric_trained(60)):.3f}")
