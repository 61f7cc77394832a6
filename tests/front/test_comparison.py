"""Solutions beside those of a baseline: which are compared, and the figures."""

import math

import pytest
from fronts import solution

from pyfront.front.front import Front


def example():
    return Front(
        [
            solution(0.25, 1.0, test=[0.3, 0.8], preference=[0.8, 0.2], method="feedback"),
            solution(0.2, 1.4, test=[0.2, 1.5], preference=[4, 1], method="linear"),
            solution(0.4, 1.2, test=[0.4, 1.3], preference=[0.8, 0.2], method="linear"),
            solution(0.5, 0.5, test=[0.5, 0.5], preference=[0.5, 0.5], method="EPO"),
            solution(0.1, 0.1, test=[0.1, 0.1], method="MGDA"),
        ]
    )


def test_each_solution_is_beside_the_mean_of_the_baselines_on_its_ray():
    found = example().compare(split="train")
    assert [row.solution.method for row in found] == ["feedback"]  # the others have none beside
    own, baseline = found[0].own, found[0].baseline
    assert own.angle == pytest.approx(0.0, abs=1e-9) and own.worst == pytest.approx(0.2)
    assert own.mean == pytest.approx(0.625)
    assert baseline.worst == pytest.approx((0.28 + 0.32) / 2)  # 0.2 · 1.4 and 0.8 · 0.4
    assert baseline.mean == pytest.approx(0.8)
    ray = math.atan2(4, 1)
    angles = [abs(math.atan2(1.4, 0.2) - ray), abs(math.atan2(1.2, 0.4) - ray)]
    assert baseline.angle == pytest.approx(math.degrees(sum(angles) / 2))
    assert found.below == 1 and found.split == "train" and found.baseline == "linear"


def test_the_split_is_the_common_one_unless_it_is_given():
    found = example().compare()
    assert found.split == "test" and found[0].own.worst == pytest.approx(0.24)
    assert found[0].baseline.worst == pytest.approx((0.3 + 0.32) / 2) and found.below == 1
    with pytest.raises(ValueError, match="expected 'train' or 'test'"):
        example().compare(split="validation")


def test_any_method_can_be_the_baseline():
    found = example().compare("feedback", split="train")
    assert [row.solution.method for row in found] == ["linear", "linear"] and found.below == 0
    assert found[0].baseline == found[1].baseline
    assert len(example().compare("EPO")) == 0


@pytest.mark.parametrize("baseline", ["UPGrad", "MGDA"])
def test_a_baseline_without_preferences_is_refused(baseline):
    text = f"baseline = '{baseline}': no solution of this method with a preference; methods here: "
    with pytest.raises(ValueError, match=text + "'feedback', 'linear', 'EPO', 'MGDA'"):
        example().compare(baseline)
    with pytest.raises(ValueError, match="methods here: none"):
        Front().compare(baseline)


def test_it_is_a_table():
    found = example().compare(split="train")
    assert repr(found).splitlines() == [
        "Beside linear: 1 solution, training losses; worst r·l below at 1",
        "method    preference      angle  linear  worst r·l  linear  mean loss  linear",
        "feedback  (0.800, 0.200)  0.00°   5.15°        0.2     0.3      0.625     0.8",
    ]
    assert repr(example().compare("EPO")) == "Beside EPO: 0 solutions, test losses"
    assert found[:1] == (found[0],)
    front = Front([*example(), solution(1, 2, test=[1, 2], preference=[4, 1], method="<b>")])
    text = front.compare()._repr_html_()
    assert "<td>&lt;b&gt;</td>" in text and text.count("<tr>") == 3
