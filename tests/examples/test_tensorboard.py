"""What is in TensorBoard's files is what metrics() gave, and nothing else than a plain loop did."""

import plain_training
import pytest
from two_tasks import PREFERENCE, balance, batches

pytest.importorskip("tensorboard", reason="tensorboard is not installed")

import tensorboard_loop
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@pytest.fixture
def scalars(tmp_path):
    """Train for so many epochs; return the model and the logged values by tag."""

    def run(epochs, **options):
        model = tensorboard_loop.train(tmp_path, epochs, **options)
        events = EventAccumulator(str(tmp_path)).Reload()
        return model, {
            tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
        }

    return run


def test_every_metric_of_every_step_is_in_the_files(scalars):
    _, found = scalars(3)
    names = {f"{kind}/{task}" for kind in ("loss", "weight", "change") for task in PREFERENCE}
    assert found.keys() == names | {"non_uniformity", "rising"}
    steps = len(list(batches(3)))
    assert all(len(values) == steps for values in found.values())
    rises = [any(found[f"change/{task}"][step] > 0 for task in PREFERENCE) for step in range(steps)]
    for step in range(steps):
        assert found["rising"][step] == pytest.approx(sum(rises[: step + 1]) / (step + 1))
        assert sum(found[f"weight/{task}"][step] for task in PREFERENCE) == pytest.approx(1.0)


def test_logging_changes_nothing(scalars):
    model, found = scalars(3)
    expected, weights = plain_training.trained(batches(3))
    plain_training.assert_equal(model, expected)
    for j, task in enumerate(PREFERENCE):
        assert found[f"weight/{task}"] == pytest.approx(weights[:, j].tolist(), abs=1e-6)


def test_the_preference_is_reached_without_tracking_rises(scalars):
    model, found = scalars(60, track_rises=False)
    assert balance(model) == pytest.approx(1.0, abs=0.1)
    assert "rising" not in found
