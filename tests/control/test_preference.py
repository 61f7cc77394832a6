"""The preference rule on plain numbers: an oracle, absent tasks, rays out of reach, state."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfront.control import PreferenceController, PreferenceRule

RULE = PreferenceRule(3.0, 0.05, 0.8, 0.02, True)


def oracle(sequence, r, rates, k, i, beta, floor):
    """The equations of the rule, one task and one number at a time."""
    total = sum(r)
    r = [x / total for x in r]
    q, mean, top, out = list(r), [0.0] * len(r), 0.0, []
    for t, (losses, rate) in enumerate(zip(sequence, rates, strict=True), 1):
        top = max(top, rate)
        f = 1.0 if top == 0.0 else min(top / rate if rate else math.inf, 10.0)
        mean = [beta * a + (1 - beta) * b for a, b in zip(mean, losses, strict=True)]
        seen = [a / (1 - beta**t) for a in mean]
        level = sum(a * b for a, b in zip(r, seen, strict=True)) / len(r)
        z = [min(max(math.log(a * b / level), -3), 3) for a, b in zip(r, seen, strict=True)]
        q = [a * math.exp(i * f * b) for a, b in zip(q, z, strict=True)]
        q = [max(a / sum(q), floor * b) for a, b in zip(q, r, strict=True)]
        q = [a / sum(q) for a in q]
        w = [a * math.exp(k * f * b) for a, b in zip(q, z, strict=True)]
        out.append([(1 - floor) * a / sum(w) + floor * b for a, b in zip(w, r, strict=True)])
    return out


def decided(rule, sequence, r, rates):
    state, out = {}, []
    for losses, rate in zip(sequence, rates, strict=True):
        decision, changed = rule.decide(np.array(losses), np.array(r) / sum(r), state, rate=rate)
        state |= changed
        out.append(decision.weights)
    return np.array(out), state


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_decisions_are_those_of_the_equations(seed, tasks):
    rng = np.random.default_rng(seed)
    sequence = rng.lognormal(0.0, 2.0, (40, tasks)).tolist()
    r = rng.uniform(0.1, 1.0, tasks).tolist()
    rates = (0.1 * rng.uniform(0.0, 1.0, 40) * (rng.random(40) < 0.9)).tolist()
    found, _ = decided(RULE, sequence, r, rates)
    np.testing.assert_allclose(found, oracle(sequence, r, rates, 3.0, 0.05, 0.8, 0.02), rtol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)


@given(st.floats(1e-30, 1e30), st.floats(1e-6, 1e6))
def test_units_of_losses_rates_and_preferences_do_not_matter(scale, rate):
    rng = np.random.default_rng(0)
    sequence, rates = rng.lognormal(size=(20, 3)), 0.1 * rng.random(20)
    plain, _ = decided(RULE, sequence, [1.0, 2.0, 3.0], rates)
    scaled, _ = decided(RULE, scale * sequence, [2.0, 4.0, 6.0], rate * rates)
    np.testing.assert_allclose(scaled, plain, rtol=1e-6)


def test_a_task_without_data_has_no_weight_and_keeps_its_state():
    controller = PreferenceController([1.0, 1.0, 2.0])
    for _ in range(5):
        controller.weights([0.5, 0.2, 0.1])
    before = controller.state_dict()
    weights = controller.weights([0.5, None, 0.1])
    after = controller.state_dict()
    assert weights[1] == 0.0 and weights.sum() == pytest.approx(1.0)
    for name in ("mean_losses", "counts", "integral", "average"):
        assert after[name][1] == pytest.approx(before[name][1], rel=1e-12), name
    pair = PreferenceController([1.0, 2.0])
    for _ in range(6):
        alone = pair.weights([0.5, 0.1])
    np.testing.assert_allclose(weights[[0, 2]], alone, rtol=0.05)
    with pytest.raises(ValueError, match="at least one"):
        controller.weights([None, None, None])


def test_absent_tasks_still_end_at_equal_losses():
    """θ between two corners; task 1 is seen at every second step only."""
    controller, theta, gradient = PreferenceController([1.0, 1.0], averaging=0.5), 0.9, [0.0, 0.0]
    for step in range(3000):
        losses = [(theta - 1.0) ** 2 + 0.2, 2.0 * theta**2 + 0.2]
        gradient = [2.0 * (theta - 1.0), 4.0 * theta]
        absent = step % 2 == 1
        weights = controller.weights([losses[0], None if absent else losses[1]])
        theta -= 0.002 * float(weights @ gradient)
    assert abs(math.log(losses[0] / losses[1])) < 0.25


def floored(theta):
    """Two losses of which the first cannot fall below 0.5: r = (10, 1) is out of reach."""
    return [(theta - 1.0) ** 2 + 0.5, theta**2]


def test_a_ray_out_of_reach_is_reported_with_the_nearest_one():
    controller, theta = PreferenceController([10.0, 1.0], averaging=0.0), 0.2
    for _ in range(600):
        weights = controller.weights(floored(theta))
        theta -= 0.1 * float(weights @ [2.0 * (theta - 1.0), 2.0 * theta])
    assert controller.decision.status == "unreachable"
    inverse = 1.0 / np.array(floored(theta))
    np.testing.assert_allclose(controller.decision.reachable, inverse / inverse.sum(), rtol=1e-3)
    for _ in range(200):  # its own ray is in reach
        other = PreferenceController(controller.decision.reachable, averaging=0.0)
        other.weights(floored(theta))
    assert other.decision.status == "ok" and other.decision.reachable is None


def test_the_floor_is_the_price_that_a_ray_may_cost():
    sums = []
    for floor in (1e-6, 0.05, 0.3):
        controller, theta = PreferenceController([10, 1], averaging=0.0, floor=floor), 0.2
        for _ in range(600):
            weights = controller.weights(floored(theta))
            assert (weights >= 0.999 * floor * controller.preference).all()
            theta -= 0.1 * float(weights @ [2.0 * (theta - 1.0), 2.0 * theta])
        sums.append(sum(floored(theta)))
    assert sums[0] > sums[1] > sums[2]


def test_state_is_json_and_goes_on_bit_for_bit():
    rng = np.random.default_rng(1)
    values = rng.lognormal(size=(30, 4))
    one, other = PreferenceController(np.ones(4)), PreferenceController(np.ones(4))
    for row in values[:20]:
        one.weights(row, rate=0.1)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for row in values[20:]:
        assert one.weights(row, rate=0.01).tolist() == other.weights(row, rate=0.01).tolist()
    assert one.state_dict() == other.state_dict()
    with pytest.raises(ValueError, match="4 tasks, expected 2"):
        PreferenceController([1.0, 1.0]).load_state_dict(one.state_dict())


def test_values_that_are_to_rise_are_distances_from_their_ideal():
    names = {"quality": 1.0, "cost": 2.0}
    rising = PreferenceController(names, maximize=["quality"], offset={"quality": 1.0, "cost": 0.0})
    falling = PreferenceController([1.0, 2.0])
    for quality, cost in ((0.3, 0.2), (0.5, 0.9), (0.9, 0.4)):
        weights = rising.weights({"cost": cost, "quality": quality})
        assert list(weights) == ["quality", "cost"]
        assert list(weights.values()) == falling.weights([1.0 - quality, cost]).tolist()
    with pytest.raises(ValueError, match=r"values\[0\] = -0.5.*offset"):
        rising.weights({"quality": 1.5, "cost": 1.0})


def test_units_divide_weights():
    plain, scaled = PreferenceController([1, 2]), PreferenceController([1, 2], unit=[1, 100])
    weights = scaled.weights([0.5, 40.0]) * [1, 100]
    np.testing.assert_allclose(weights, plain.weights([0.5, 0.4]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PreferenceController([1.0, 0.0]), r"preference\[1\] = 0"),
        (lambda: PreferenceController({}), "preference: expected at least one"),
        (lambda: PreferenceController([1.0, 1.0], maximize=True), "offset: a value that is to"),
        (lambda: PreferenceController([1.0, 1.0], maximize=[2]), "maximize: no task 2"),
        (lambda: PreferenceController({"a": 1}, maximize=["b"]), "maximize: no task 'b'.*'a'"),
        (lambda: PreferenceController([1.0, 1.0], unit=[1.0, 0.0]), r"unit\[1\] = 0"),
        (lambda: PreferenceController([1.0, 1.0], floor=1.0), "floor = 1.0"),
        (lambda: PreferenceController([1.0, 1.0], integral=-1.0), "integral = -1"),
        (lambda: PreferenceController([1.0, 1.0]).weights([1.0]), "values: expected 2"),
        (lambda: PreferenceController([1.0, 1.0]).weights([1.0, math.nan]), r"values\[1\] = nan"),
        (lambda: PreferenceController([1.0, 1.0]).weights([1.0, -1.0]), r"values\[1\] = -1"),
        (lambda: PreferenceController([1.0, 1.0]).weights({"a": 1.0}), "values: expected a list"),
        (lambda: PreferenceController({"a": 1}).weights({"b": 1.0}), "values: expected a, got b"),
        (lambda: PreferenceController([1.0, 1.0]).weights([1, 1], rate=-1.0), "rate = -1"),
        (lambda: PreferenceController([1.0, 1.0]).suggest_weights(), "no decision"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_refused_values_leave_the_state_as_it_was():
    controller = PreferenceController([1.0, 1.0])
    controller.weights([1.0, 2.0])
    before = controller.state_dict()
    with pytest.raises(ValueError, match="values"):
        controller.weights([1.0, -2.0])
    assert controller.state_dict() == before
