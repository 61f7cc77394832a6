"""transformers' Trainer: several losses by one overridden method, and LoRA by peft.

Run ``python examples/trainer.py``, or ``torchrun --nproc-per-node 2 examples/trainer.py``.
"""

import os
import tempfile
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments
from two_tasks import BATCHES, PREFERENCE, TwoTasks, balance, data, losses

import pyfront


class TwoLossTrainer(Trainer):
    """Hands the Trainer one scalar whose gradient is the direction, and logs the weights."""

    def __init__(self, model: nn.Module, opt: pyfront.EPO, **options: Any) -> None:
        super().__init__(model, optimizers=(opt, None), **options)
        self.pareto = opt  # self.optimizer becomes accelerate's wrapper, which hides scalarize()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor | Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Decide, or in evaluation take the losses at the last weights."""
        scalar = self.pareto.scalarize(losses(model, inputs))
        return (scalar, {}) if return_outputs else scalar

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        """Log losses and weights wherever the Trainer logs its loss."""
        super().log({**logs, **self.pareto.metrics()}, *args, **options)


def with_lora(seed: int = 0) -> nn.Module:
    """Return the model with a trunk that only LoRA changes; the heads are trained in full."""
    torch.manual_seed(seed)
    lora = LoraConfig(r=1, target_modules=["trunk"], modules_to_save=["segmentation", "depth"])
    return get_peft_model(TwoTasks(seed), lora)


def trainer(model: nn.Module, folder: str, epochs: int, **options: Any) -> TwoLossTrainer:
    """Return a Trainer on the CPU, for this process or for one of those that torchrun starts."""
    parts = options.get("gradient_accumulation_steps", 1) * int(os.environ.get("WORLD_SIZE", 1))
    arguments = TrainingArguments(
        folder,
        num_train_epochs=epochs,
        per_device_train_batch_size=64 // BATCHES // parts,
        learning_rate=0.02,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=BATCHES,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
        label_names=list(PREFERENCE),
        **{"save_strategy": "no", **options},
    )
    base = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    # the arguments start the processes that torchrun has asked for; in a single one this is None
    opt = pyfront.EPO(base, PREFERENCE, process_group=torch.distributed.group.WORLD)
    return TwoLossTrainer(model, opt, args=arguments, train_dataset=data(), eval_dataset=data())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, model in (("full", TwoTasks()), ("LoRA", with_lora())):
            trainer(model, folder, 60).train()
            print(f"{name}: r1 l1 / (r2 l2) = {balance(model):.3f}")
