"""transformers' Trainer trains as a plain loop that makes the same decisions."""

import importlib

import plain_training
import pytest
import torch
from two_tasks import BATCHES, TwoTasks, balance, batches

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("peft", reason="peft is not installed")
example = importlib.import_module("trainer")


def recorded(model, folder, epochs, **options):
    """Train; return the Trainer and the batches that it drew."""
    trainer = example.trainer(model, str(folder), epochs, **options)
    seen, compute_loss = [], trainer.compute_loss

    def recording(model, inputs, **more):
        seen.append({name: value.clone() for name, value in inputs.items()})
        return compute_loss(model, inputs, **more)

    trainer.compute_loss = recording
    trainer.train()
    return trainer, seen


@pytest.mark.parametrize("make", [TwoTasks, example.with_lora])
def test_the_trainer_is_the_plain_loop_and_logs_it(make, tmp_path):
    model = make()
    trainer, seen = recorded(model, tmp_path, 3)
    expected, weights = plain_training.trained(seen, make())
    plain_training.assert_close(model, expected)
    logged = [row["weight/depth"] for row in trainer.state.log_history if "loss" in row]
    assert logged == pytest.approx(weights[BATCHES - 1 :: BATCHES, 1].tolist(), rel=1e-5)


@pytest.mark.parametrize("make", [TwoTasks, example.with_lora])
def test_the_preference_is_reached(make, tmp_path):
    model = make()
    example.trainer(model, str(tmp_path), 60).train()
    assert balance(model) == pytest.approx(1.0, abs=0.15)


def test_lora_trains_the_adapter_alone(tmp_path):
    model = example.with_lora()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    example.trainer(model, str(tmp_path), 1).train()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved and all("lora" in name or "modules_to_save" in name for name in moved)


def test_no_micro_batch_is_lost(tmp_path):
    model = TwoTasks()
    _, seen = recorded(model, tmp_path, 2, gradient_accumulation_steps=2)
    assert len(seen) == 2 * 2 * BATCHES
    plain_training.assert_close(model, plain_training.trained_in_parts(seen, 2))


def test_evaluation_decides_nothing(tmp_path):
    trainer = example.trainer(TwoTasks(), str(tmp_path), 1)
    trainer.train()
    memory = dict(trainer.pareto.memory)
    found = trainer.evaluate()["eval_loss"]
    w = trainer.pareto.report.weights.tolist()
    values = [float(x) for x in example.losses(trainer.model, next(batches(1, 64))).values()]
    assert found == pytest.approx(sum(a * b for a, b in zip(w, values, strict=True)), rel=1e-4)
    assert trainer.pareto.memory == memory


def test_resumed_training_is_bit_equal(tmp_path):
    whole = TwoTasks()
    options = {"save_strategy": "steps", "save_steps": BATCHES}
    example.trainer(whole, str(tmp_path), 3, **options).train()
    rest = TwoTasks(seed=1)
    checkpoint = str(tmp_path / f"checkpoint-{BATCHES}")
    example.trainer(rest, str(tmp_path), 3, **options).train(resume_from_checkpoint=checkpoint)
    plain_training.assert_equal(rest, whole)
