"""Constraints by feedback on plain numbers: exact end points, slack, infeasible bounds, targets."""

import json
import math

import numpy as np
import pytest

from pyfront.control import ConstraintController

CORNERS = np.eye(3)


def descend(controller, steps, theta, lr=0.1, values=None):
    """θ in R³, l_j = ‖θ − e_j‖² and its gradient."""
    for _ in range(steps):
        losses = ((theta - CORNERS) ** 2).sum(axis=1)
        seen = losses if values is None else values(losses)
        weights = np.asarray(list(controller.weights(seen).values()) if values else
                             controller.weights(seen))  # fmt: skip
        theta = theta - lr * 2.0 * weights @ (theta - CORNERS)
    return ((theta - CORNERS) ** 2).sum(axis=1), theta


def make(**options):
    settings = {"objective": 0, "bounds": {1: 0.5}, "averaging": 0.0} | options
    return ConstraintController(3, **settings)


def test_it_ends_where_the_bound_holds_exactly():
    """On the segment from e₀ to e₁ at distance √b from e₁; ‖e₀ − e₁‖ = √2."""
    controller = make()
    losses, theta = descend(controller, 3000, np.full(3, 0.3))
    s = math.sqrt(0.5) / math.sqrt(2.0)
    np.testing.assert_allclose(theta, s * CORNERS[0] + (1 - s) * CORNERS[1], atol=1e-4)
    assert losses[1] == pytest.approx(0.5, rel=1e-4)
    assert controller.decision.status == "ok"
    w = controller.decision.weights
    assert w[1] / w[0] == pytest.approx((1 - s) / s, rel=1e-3) and w[2] == 0.0


def test_a_bound_with_room_to_spare_costs_nothing():
    controller = make(bounds={1: 2.5, 2: 2.5})
    _, theta = descend(controller, 400, np.full(3, 0.3))
    assert controller.decision.weights.tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_allclose(theta, CORNERS[0], atol=1e-6)
    assert controller.state_dict()["integral"] == [0.0, 0.0, 0.0]  # nothing winds up


def test_several_objectives_and_bounds():
    controller = make(objective={0: 1.0, 1: 1.0}, bounds={2: 0.8})
    losses, _ = descend(controller, 3000, np.full(3, 0.3))
    assert losses[2] == pytest.approx(0.8, rel=1e-3) and losses[0] == pytest.approx(losses[1])


def test_bounds_that_cannot_hold_together_are_reported():
    controller = make(bounds={1: 0.1, 2: 0.1})  # ‖e₁ − e₂‖² = 2 > (2 √0.1)²
    losses, _ = descend(controller, 3000, np.full(3, 0.3))
    assert controller.decision.status == "infeasible"
    assert losses[1] == pytest.approx(0.5, rel=0.05) and losses[2] == pytest.approx(0.5, rel=0.05)
    controller = make(bounds={1: 0.6, 2: 0.6})
    descend(controller, 3000, np.full(3, 0.3))
    assert controller.decision.status == "ok"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_units_of_the_losses_do_not_matter(scale):
    plain, scaled = make(), make(bounds={1: 0.5 * scale})
    theta = np.full(3, 0.3)
    for _ in range(50):
        losses = ((theta - CORNERS) ** 2).sum(axis=1)
        w = plain.weights(losses)
        v = scaled.weights(losses * [1.0, scale, 1.0]) * [1.0, scale, 1.0]
        np.testing.assert_allclose(v, w, rtol=1e-9)
        theta = theta - 0.1 * 2.0 * w @ (theta - CORNERS)


def test_targets_with_names_are_bounds_with_signs():
    controller = ConstraintController(
        ["cost", "accuracy", "latency"],
        objective="cost",
        bounds={"accuracy": ">=0.95", "latency": "<= 200"},
        maximize=["accuracy"],
    )
    plain = ConstraintController(3, objective=0, bounds={1: -0.95, 2: 200.0})
    for cost, accuracy, latency in ((1.0, 0.9, 150.0), (2.0, 0.96, 260.0), (1.5, 0.5, 300.0)):
        weights = controller.weights({"cost": cost, "accuracy": accuracy, "latency": latency})
        assert list(weights.values()) == plain.weights([cost, -accuracy, latency]).tolist()
    assert weights["accuracy"] > 0.0 and weights["latency"] > 0.0


def test_an_absent_value_keeps_its_multiplier():
    controller = make(integral=0.1)
    for _ in range(20):
        controller.weights([1.0, 0.8, 1.0])
    before = controller.state_dict()["integral"]
    assert controller.weights([1.0, None, 1.0]).tolist() == [1.0, 0.0, 0.0]
    assert controller.state_dict()["integral"] == before and before[1] > 0.0


def test_state_is_json_and_goes_on_bit_for_bit():
    rng = np.random.default_rng(2)
    one, other = make(averaging=0.9), make(averaging=0.9)
    for row in rng.lognormal(size=(20, 3)):
        one.weights(row, rate=0.1)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for row in rng.lognormal(size=(20, 3)):
        assert one.weights(row, rate=0.03).tolist() == other.weights(row, rate=0.03).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": {}}, "objective, bounds: expected"),
        ({"bounds": {3: 1.0}}, "bounds: no task 3"),
        ({"bounds": {1: math.nan}}, r"bounds\[1\] = nan"),
        ({"bounds": {1: 0.0}}, r"unit\[1\]: a bound of 0"),
        ({"bounds": {1: ">=0.5"}}, "is to fall"),
        ({"bounds": {1: "<=0.5"}, "maximize": [1]}, "is to rise"),
        ({"bounds": {1: "0.5"}}, 'expected a number, "<=NUMBER"'),
        ({"bounds": {1: "<=1e999"}}, "no finite number"),
        ({"objective": {0: -1.0}}, r"objective\[0\] = -1"),
        ({"unit": {2: 1.0}}, r"unit\[2\]: this task has no bound"),
        ({"unit": {1: 0.0}}, r"unit\[1\] = 0"),
        ({"proportional": -1.0}, "proportional = -1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
