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
        (
            ALIGNED,
            "weights",
            0.5,
            1.0,
            [0, 0],
            ["No pair", "Fixed weights lower all losses", "sum"],
        ),
        (SCALED, "rescale", 0.5, 100.0, [0, 0], ["No pair", "100 times", "[1.98, 0.0198]"]),
        (UNEVEN, "conflict", -0.5, 3.0, [1, 0], ["task 0 rises", "MGDA(base): 2 back"]),
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
    if batches > 1:
        assert torch.allclose(found.expected_cosines, found.cosines)
        assert found.expected_cosine_errors.abs().max() < 1e-9
    if outcome == "conflict":
        assert ("on average" if batches > 1 else "in 100% of the batches") in found.verdict
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
    assert "cosine unknown" in found.verdict
    found = linear(*sign[:3])  # too few for pairs: 0.9, −0.9, 0.9 with two degrees of freedom
    assert found.outcome == "unclear" and found.expected_cosines[0, 1].isnan()
    assert f"cosine 0.30 ± {4.303 * 0.6:.2f}" in found.verdict


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


def test_noise_that_hides_a_conflict_within_batches_does_not_hide_it_across_them():
    rng = np.random.default_rng(0)
    mean = np.zeros((2, 4000))
    mean[:, :2] = UNEVEN
    noisy = mean + 6.0 * rng.standard_normal((32, 2, 4000)) / math.sqrt(4000)
    found = linear(*noisy.tolist())
    pairs = np.array([noisy[k] @ noisy[k + 1].T for k in range(0, 32, 2)])
    pairs = 0.5 * (pairs + pairs.transpose(0, 2, 1))
    d = pairs.mean(0)
    lengths = np.sqrt(np.diagonal(d))
    np.testing.assert_allclose(
        found.expected_cosines, np.clip(d / np.outer(lengths, lengths), -1, 1)
    )
    error = pairs.std(0, ddof=1) / 4.0 / np.outer(lengths, lengths)
    np.testing.assert_allclose(found.expected_cosine_errors, error)
    assert abs(found.cosines[0, 1].item()) < 0.05  # hidden in a batch
    assert found.expected_cosines[0, 1].item() == pytest.approx(-0.5, abs=0.15)
    assert found.outcome == "conflict" and found.rises.tolist() == [0.0, 0.0]
    assert "task 0 rises to first order on average" in found.verdict


def test_noise_alone_is_no_verdict():
    noise = np.random.default_rng(0).standard_normal((8, 2, 2000))
    found = linear(*noise.tolist())
    assert found.outcome == "unclear"
    pairs = np.array([(noise[b] * noise[b + 1]).sum(1) for b in range(0, 8, 2)])
    seen = pairs.mean(0) > pairs.std(0, ddof=1) / 2.0
    assert found.at_floor == tuple(np.flatnonzero(~seen))


def test_a_gradient_that_averages_out_may_be_at_its_floor():
    found = linear(*[[[s, 0.0], [0.0, 1.0]] for s in (1.0, -1.0) * 4])
    assert found.at_floor == (0,)
    assert found.signal[0].item() == pytest.approx(-1.0) and found.signal[1] == 1.0
    assert "Floors: task 0" in str(found) and "offset" in str(found)


def test_few_common_samples_are_no_verdict():
    found = linear(*[UNEVEN] * 4, overlap=0.25)
    assert found.outcome == "unclear"
    assert "25%" in found.verdict and "third" in found.verdict
    assert linear(*[UNEVEN] * 4, overlap=0.3).outcome == "conflict"
    assert "third of samples" in str(linear(ALIGNED))


def test_tasks_that_are_never_in_one_batch():
    found = linear([[1.0, 0.0], None], [None, [1.0, 1.0]])
    assert found.outcome == "unclear" and "cosine unknown" in found.verdict
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


def test_noise_seldom_looks_like_a_conflict():
    rng = np.random.default_rng(0)
    means = np.eye(4, 30)  # orthogonal: no pair conflicts
    outcomes = [
        linear(*(means + 3.0 * rng.standard_normal((8, 4, 30)) / math.sqrt(30)).tolist()).outcome
        for _ in range(80)
    ]
    assert sum(outcome in ("conflict", "opposed", "tolerable") for outcome in outcomes) <= 4
