"""The verdict on constructed cases, each with its numbers in closed form."""

import math

import numpy as np
import pytest
import torch

import pyfront

HALF = math.sqrt(0.75)


def linear(*jacobians, **options):
    """Diagnose losses with these gradients, one [m, n] per batch; None is a task without data."""
    n = max(len(row) for jacobian in jacobians for row in jacobian if row is not None)
    x = torch.nn.Parameter(torch.zeros(n, dtype=torch.float64))

    def losses(jacobian):
        rows = [None if row is None else torch.tensor(row, dtype=x.dtype) for row in jacobian]
        return [None if row is None else row @ x + 1.0 for row in rows]

    return pyfront.diagnose([losses(jacobian) for jacobian in jacobians], [x], **options)


ALIGNED = [[1.0, 0.0], [0.5, HALF]]  # cosine 1/2
SCALED = [[1.0, 0.0], [50.0, 100 * HALF]]  # the same, one 100 times as long
UNEVEN = [[1.0, 0.0], [-1.5, 3 * HALF]]  # cosine −1/2, three times as long
EVEN = [[1.0, 0.0], [-0.5, HALF]]  # cosine −1/2
FAR = [[1.0, 0.0], [-50.0, 100 * HALF]]
OPPOSITE = [[1.0, 0.0], [-1.0, 0.01]]
MANY = [*np.eye(6)[:5].tolist(), [-3.0] * 5 + [4.0]]


@pytest.mark.parametrize(
    "jacobian, outcome, cosine, ratio, rises, words",
    [
        (ALIGNED, "weights", 0.5, 1.0, [0, 0], ["No pair", "Fixed weights suffice", "sum"]),
        (SCALED, "rescale", 0.5, 100.0, [0, 0], ["No pair", "100 times", "[1.98, 0.0198]"]),
        (UNEVEN, "conflict", -0.5, 3.0, [1, 0], ["task 0 rises", "100%", "MGDA(base): 2 back"]),
        (EVEN, "tolerable", -0.5, 1.0, [0, 0], ["conflict", "no loss rises", "PreferenceFeedback"]),
        (FAR, "rescale", -0.5, 100.0, [1, 0], ["conflict", "100 times", "[1.98, 0.0198]"]),
        (OPPOSITE, "opposed", -1.0, 1.0, [0, 0], ["nearly cancel", "PreferenceFeedback"]),
    ],
)
@pytest.mark.parametrize("batches", [1, 4])
def test_two_tasks(jacobian, outcome, cosine, ratio, rises, words, batches):
    found = linear(*[jacobian] * batches)
    assert found.outcome == outcome
    assert found.cosines[0, 1].item() == pytest.approx(cosine, abs=1e-3)
    assert found.norm_ratio == pytest.approx(ratio, rel=1e-3)
    assert found.rises.tolist() == rises
    assert all(word in found.verdict for word in words)
    assert ("One batch" in found.verdict) == (batches == 1)
    c = np.array(jacobian) @ np.array(jacobian).T
    np.testing.assert_allclose(found.gramian, c)
    assert found.condition == pytest.approx(np.linalg.cond(c), rel=1e-6)


def test_the_balanced_weights_do_what_the_verdict_says():
    found = linear(FAR)
    after = found.gramian @ found.balanced_weights
    assert (found.gramian.sum(1)[0] < 0) and (after >= 0).all()


def test_many_tasks_are_sent_to_methods_whose_cost_is_flat():
    found = linear(MANY, MANY, MANY)
    assert found.outcome == "conflict" and found.rises.tolist() == [1, 1, 1, 1, 1, 0]
    assert "SingleLoopMGDA" in found.verdict and "and 2 more pairs" in found.verdict
    assert "MGDA(base): 6" not in found.verdict


def test_one_task():
    found = linear([[2.0]], [[3.0]])
    assert found.outcome == "one_task" and found.norm_ratio == 1.0 and found.condition == 1.0
    assert "Cosines" not in str(found)


def test_heads_alone_cannot_conflict():
    x = torch.nn.Parameter(torch.tensor([1.0]))
    y = torch.nn.Parameter(torch.tensor([2.0]))
    found = pyfront.diagnose([x.square().sum(), y.square().sum()], [x, y])
    assert found.outcome == "nothing_shared" and found.shared == ()
    assert found.norms.tolist() == [2.0, 4.0] and found.norm_ratio == 2.0
    assert "Cosines" not in str(found)


def test_gradients_of_zero():
    found = linear([[0.0], [0.0]])
    assert found.outcome == "stationary" and found.at_floor == (0, 1)
    assert found.condition == math.inf
    found = linear([[1.0], [0.0]], [[1.0], [0.0]])
    assert found.outcome == "weights" and found.at_floor == (1,)
    assert found.cosines[0, 1] == 0.0 and found.norm_ratio == 1.0
    assert "task 1: no gradient is seen" in str(found)


def test_noise_of_either_sign_is_no_verdict():
    sign = [[[1.0, 0.0], [s * 0.9, math.sqrt(0.19)]] for s in (1.0, -1.0, 1.0, -1.0)]
    found = linear(*sign)
    assert found.outcome == "unclear" and "do not tell" in found.verdict
    assert found.cosines[0, 1].item() == pytest.approx(0.0, abs=1e-12)
    # sum of squares 4 · 0.81, over 3 · 4
    assert found.cosine_errors[0, 1].item() == pytest.approx(0.9 / math.sqrt(3.0))
    assert f"± {3.182 * 0.9 / math.sqrt(3.0):.2f}" in found.verdict


def test_a_conflict_that_noise_cannot_explain_is_one():
    angles = [2.0, 2.1, 2.2, 2.3]
    found = linear(*[[[1.0, 0.0], [3 * math.cos(a), 3 * math.sin(a)]] for a in angles])
    cosines = np.cos(angles)
    assert found.outcome == "conflict"
    assert found.cosines[0, 1].item() == pytest.approx(cosines.mean())
    assert found.cosine_errors[0, 1].item() == pytest.approx(cosines.std(ddof=1) / 2)


def test_one_exception_in_many_batches_is_no_conflict():
    found = linear(*[ALIGNED] * 15, UNEVEN)
    assert found.outcome == "weights"
    assert found.rises.tolist() == [1 / 16, 0.0]


def test_high_dimensional_noise_is_no_conflict():
    noise = np.random.default_rng(0).standard_normal((8, 2, 2000))
    found = linear(*noise.tolist())
    assert found.outcome == "weights"
    assert found.at_floor == tuple(
        j
        for j in range(2)
        if sum(t := [noise[:b, j].sum(0) @ noise[b, j] for b in range(1, 8)])
        < math.sqrt(sum(v * v for v in t))
    )


def test_a_gradient_that_averages_out_may_be_at_its_floor():
    found = linear(*[[[s, 0.0], [0.0, 1.0]] for s in (1.0, -1.0) * 4])
    assert found.at_floor == (0,)
    assert found.signal[0].item() == pytest.approx(-1 / 7) and found.signal[1] == 1.0
    assert "Floors: task 0" in str(found) and "offset" in str(found)


def test_few_common_samples_are_no_verdict():
    found = linear(*[UNEVEN] * 4, overlap=0.25)
    assert found.outcome == "unclear"
    assert "25%" in found.verdict and "third" in found.verdict
    assert linear(*[UNEVEN] * 4, overlap=0.3).outcome == "conflict"
    assert "third of samples" in str(linear(ALIGNED))


def test_tasks_that_are_never_in_one_batch():
    found = linear([[1.0, 0.0], None], [None, [1.0, 1.0]])
    assert found.outcome == "unclear" and "never in one batch" in found.verdict
    assert found.cosines[0, 1].isnan() and math.isnan(found.condition)
    assert "not together" in str(found)
    assert found.present.tolist() == [0.5, 0.5] and found.losses.tolist() == [1.0, 1.0]


def test_a_task_without_data_in_some_batches():
    found = linear(ALIGNED, [[1.0, 0.0], None], ALIGNED, ALIGNED)
    assert found.outcome == "weights" and found.cosines[0, 1].item() == pytest.approx(0.5)
    assert found.present.tolist() == [1.0, 0.75]


def test_a_pair_seen_once_among_several_batches_is_unclear():
    assert linear(UNEVEN, [[1.0, 0.0], None]).outcome == "unclear"


def test_negative_losses_need_offsets():
    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    losses = {"likelihood": -(x[0] - 3 * x[1]), "depth": x[0] ** 2 / 4}
    found = pyfront.diagnose([losses], [x])
    assert found.negative == () and found.outcome == "conflict"
    found = pyfront.diagnose({**losses, "likelihood": losses["likelihood"] - 10}, [x])
    assert found.negative == (0,) and "offset" in found.verdict
    assert "Negative: likelihood" in str(found)


def test_the_table_and_its_html():
    x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    losses = {"<b>": (x[0] - x[1] + 1) ** 2, "depth": (x[1] + 1) ** 2}
    found = pyfront.diagnose(losses, [x])
    assert str(found) == repr(found)
    lines = str(found).splitlines()
    assert lines[0] == "Diagnosis: 2 tasks, 1 batch"
    assert lines[1].split()[0] == "task" and lines[2].split()[:2] == ["<b>", "1"]
    assert max(map(len, lines)) <= 100
    assert lines[-1] and "Verdict: <b> and depth (cosine -0.71) conflict." in str(found)
    html = found._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and "Verdict" in html
    assert html.count("<table>") == html.count("</table>") == 3


def test_long_lists_are_cut_in_the_table():
    found = linear(*[(np.eye(30) + 0.01).tolist()] * 2)
    text = str(found)
    assert "the lowest 6 of 435" in text and "task 19" in text and "task 20" not in text
