"""Lightning and Fabric train as a plain loop that makes the same decisions."""

import csv
import importlib
from pathlib import Path

import plain_training
import pytest
import torch
from two_tasks import BATCHES, balance, batches, data

lightning = pytest.importorskip("lightning", reason="lightning is not installed")
example = importlib.import_module("lightning_loops")

pytestmark = pytest.mark.filterwarnings("ignore")
MODULES = [example.Automatic, example.Manual]


def in_loaders_order(epochs, size=64 // BATCHES):
    loader = torch.utils.data.DataLoader(data(), batch_size=size)
    return [batch for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("module", MODULES)
def test_lightning_is_the_plain_loop_and_logs_it(module, tmp_path):
    module = module()
    trainer = example.trained(module, tmp_path, epochs=4)
    expected, weights = plain_training.trained(batches(4))
    plain_training.assert_close(module.model, expected)
    with open(Path(trainer.logger.log_dir) / "metrics.csv") as file:
        logged = [float(row["weight/depth"]) for row in csv.DictReader(file)]
    torch.testing.assert_close(torch.tensor(logged), weights[:, 1].float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", MODULES)
def test_the_preference_is_reached(module, tmp_path):
    module = module()
    example.trained(module, tmp_path, epochs=60)
    assert balance(module.model) == pytest.approx(1.0, abs=0.1)


def test_manual_steps_take_a_closure_that_returns_the_losses(tmp_path):
    class ByClosure(example.Manual):
        def training_step(self, batch, index):
            self.optimizers().step(lambda: example.losses(self.model, batch))

    module = ByClosure()
    example.trained(module, tmp_path, epochs=2)
    plain_training.assert_equal(module.model, plain_training.trained(batches(2))[0])


def test_a_sum_of_losses_in_automatic_mode_is_explained(tmp_path):
    class Summed(example.Automatic):
        def training_step(self, batch, index):
            return sum(example.losses(self.model, batch).values())

    with pytest.raises(TypeError, match=r"scalarize\(losses\).backward\(\)"):
        example.trained(Summed(), tmp_path, epochs=1)


def test_micro_batches_of_lightning_add_their_directions(tmp_path):
    module = example.Automatic()
    example.trained(module, tmp_path, epochs=3, accumulate_grad_batches=2)
    plain_training.assert_close(module.model, plain_training.trained_in_parts(batches(3), 2))


def test_reduced_precision_decides_on_its_losses(tmp_path):
    module = example.Automatic()
    example.trained(module, tmp_path, epochs=3, precision="bf16-mixed")
    expected, _ = plain_training.trained(batches(3), autocast=torch.bfloat16)
    plain_training.assert_close(module.model, expected)


@pytest.mark.parametrize("module", MODULES)
def test_resumed_training_is_bit_equal(module, tmp_path):
    whole, half, rest = module(), module(), module()
    example.trained(whole, tmp_path, epochs=4)
    trainer = example.trained(half, tmp_path, epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    example.trained(rest, tmp_path, epochs=4, resume=tmp_path / "half.ckpt")
    plain_training.assert_equal(rest, whole)


def test_fabric_is_the_plain_loop_reaches_the_preference_and_resumes(tmp_path):
    half, whole = tmp_path / "half.ckpt", example.fabric_trained(4)
    plain_training.assert_close(whole, plain_training.trained(batches(4))[0])
    example.fabric_trained(2, checkpoint=half)
    plain_training.assert_equal(example.fabric_trained(2, resume=half), whole)
    assert balance(example.fabric_trained(60)) == pytest.approx(1.0, abs=0.1)


def test_fabric_in_reduced_precision(tmp_path):
    model = example.fabric_trained(3, precision="bf16-mixed")
    expected, _ = plain_training.trained(batches(3), autocast=torch.bfloat16)
    plain_training.assert_close(model, expected)
