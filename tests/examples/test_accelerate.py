"""Accelerate trains as a plain loop that makes the same decisions."""

import importlib

import plain_training
import pytest
import torch
from two_tasks import balance, batches

accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
example = importlib.import_module("accelerate_loop")


def forget_state():
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


@pytest.fixture(autouse=True)
def _fresh_state():
    forget_state()  # of what the tests before have trained by transformers
    yield
    forget_state()


def test_accelerate_is_the_plain_loop():
    seen = []
    model = example.train(4, log=seen.append)
    expected, weights = plain_training.trained(batches(4))
    plain_training.assert_close(model, expected)
    assert [row["weight/depth"] for row in seen] == pytest.approx(weights[:, 1].tolist(), rel=1e-5)


def test_the_preference_is_reached():
    assert balance(example.train(60)) == pytest.approx(1.0, abs=0.1)


def test_no_micro_batch_is_lost():
    model = example.train(3, micro_batches=2)
    plain_training.assert_close(model, plain_training.trained_in_parts(batches(3), 2))


def test_mixed_precision_decides_on_its_losses():
    model = example.train(3, precision="bf16")
    plain_training.assert_close(
        model, plain_training.trained(batches(3), autocast=torch.bfloat16)[0]
    )


def test_a_loaded_state_goes_on_bit_equal(tmp_path):
    whole = example.train(4)
    example.train(2, save=tmp_path)
    plain_training.assert_equal(example.train(2, load=tmp_path), whole)
