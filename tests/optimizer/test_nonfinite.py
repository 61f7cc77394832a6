"""Gradients that are not finite behind losses that are: no method takes them in any step."""

import copy

import pytest
import torch

import pyfront
from pyfront.backend.task_gradients import all_finite

R = [0.6, 0.4]
ONE_PASS = {
    "linear": lambda base, **o: pyfront.LinearScalarization(base, R, **o),
    "uncertainty": lambda base, **o: pyfront.UncertaintyWeighting(base, 2, **o),
    "weight average": pyfront.DynamicWeightAverage,
    "feedback": lambda base, **o: pyfront.PreferenceFeedback(base, R, **o),
    "smooth": lambda base, **o: pyfront.SmoothTchebycheff(base, R, **o),
    "mirror": lambda base, **o: pyfront.MirrorTchebycheff(base, R, **o),
    "FAMO": pyfront.FAMO,
    "single loop": pyfront.SingleLoopMGDA,
    "FERERO": lambda base, **o: pyfront.FERERO(base, R, **o),
    "MGDA, every": lambda base, **o: pyfront.MGDA(base, every=3, **o),
    "EPO, every": lambda base, **o: pyfront.EPO(base, R, every=3, weight_smoothing=0.5, **o),
    "GradNorm, every": lambda base, **o: pyfront.GradNorm(base, every=3, **o),
}
ROWS = {
    "MGDA": pyfront.MGDA,
    "EPO": lambda base, **o: pyfront.EPO(base, R, **o),
    "linear, own": lambda base: pyfront.LinearScalarization(base, R, task_gradients="own"),
    "feedback, shared": lambda base: pyfront.PreferenceFeedback(base, R, task_gradients="own"),
}


class Faulty(torch.autograd.Function):
    """The identity; its gradient is multiplied by a factor that may be NaN or infinite."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factor, None

    @staticmethod
    def jvp(ctx, tangent, _):
        return tangent * ctx.factor


def losses(x, factor=1.0, of=0):
    y = [x, x]
    y[of] = Faulty.apply(x, factor)
    return [y[0].square().sum() + 0.5, (y[1] - 1).square().sum() + 0.5]


def as_losses(opt, make):
    opt.step(make())


def as_closure(opt, make):
    opt.step(make)


def in_two_phases(opt, make):
    opt.backward(make())
    opt.step()


def in_micro_batches(opt, make):
    opt.accumulate([loss / 2 for loss in make()])
    opt.step([loss / 2 for loss in make()])


def by_a_scalar(opt, make):
    opt.zero_grad()
    opt.scalarize(make()).backward()
    opt.step()


def refused(opt, x, form, factor, of):
    opt.step(losses(x))
    before, memory, report = x.detach().clone(), copy.deepcopy(opt.memory), opt.report
    state = copy.deepcopy(opt.base.state_dict())
    with pytest.raises(ValueError, match="not finite"):
        form(opt, lambda: losses(x, factor, of))
    assert torch.equal(x, before) and opt.memory == memory and opt.report is report
    assert str(opt.base.state_dict()) == str(state)
    assert x.grad is None or x.grad.isfinite().all()
    opt.zero_grad()
    form(opt, lambda: losses(x))
    assert not torch.equal(x, before) and x.isfinite().all()


@pytest.mark.parametrize("name", [*ONE_PASS, *ROWS])
def test_a_scalar_that_brings_what_is_not_finite(name):
    """The decision has been made when the loop's own backward pass shows it; no step follows."""
    x = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    opt = (ONE_PASS | ROWS)[name](torch.optim.Adam([x], lr=0.01))
    by_a_scalar(opt, lambda: losses(x))
    before, state = x.detach().clone(), str(opt.base.state_dict())
    with pytest.raises(ValueError, match="not finite"):
        by_a_scalar(opt, lambda: losses(x, float("nan")))
    assert torch.equal(x, before) and str(opt.base.state_dict()) == state
    by_a_scalar(opt, lambda: losses(x))
    assert x.isfinite().all() and not torch.equal(x, before)


@pytest.mark.parametrize("of", [0, 1])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
@pytest.mark.parametrize("form", [as_losses, as_closure, in_two_phases])
@pytest.mark.parametrize("name", ONE_PASS)
def test_one_backward_pass(name, form, factor, of):
    x = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    refused(ONE_PASS[name](torch.optim.Adam([x], lr=0.01)), x, form, factor, of)


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in ROWS for form in (as_losses, in_two_phases)]
    + [(name, in_micro_batches) for name in (*ROWS, *ONE_PASS)],
)
def test_task_gradients_and_micro_batches(name, form):
    x = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    refused((ROWS | ONE_PASS)[name](torch.optim.Adam([x], lr=0.01)), x, form, float("nan"), 1)


@pytest.mark.parametrize("name", [*ONE_PASS, "MGDA", "EPO"])
def test_under_a_scaler_the_step_is_skipped(name):
    x = torch.nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    opt = (ONE_PASS | ROWS)[name](torch.optim.SGD([x], lr=0.01))
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    for factor in (1.0, float("nan"), float("inf")):
        before, memory = x.detach().clone(), copy.deepcopy(opt.memory)
        report = opt.backward(losses(x, factor), scaler=scaler)
        scaler.step(opt)
        scaler.update()
        fine = factor == 1.0
        assert (report.status == "nonfinite") is not fine
        assert torch.equal(x, before) is not fine and (opt.memory == memory or fine)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "make",
    [
        lambda base: pyfront.MGDA(base, scale="sum"),
        lambda base: pyfront.MGDA(base, scale="sum", task_gradients="own"),
        lambda base: pyfront.GradNorm(base, scale="sum"),
        lambda base: pyfront.LinearScalarization(base, [2.0, 2.0], scale="sum"),
    ],
)
def test_a_direction_too_large_for_the_dtype_of_the_parameters(make, dtype):
    """Every gradient is finite and so is C, in float64; their sum has no number in the dtype."""
    x = torch.nn.Parameter(torch.ones(2, dtype=dtype))
    largest = torch.finfo(dtype).max
    opt = make(torch.optim.SGD([x], lr=1e-4))
    with pytest.raises(ValueError, match=r"weighted gradient is not finite in parameter 0 .*\[2\]"):
        opt.step([((x - x.detach()) * (0.75 * largest)).sum() + 1 for _ in range(2)])
    assert x.grad is None and x.tolist() == [1.0, 1.0] and opt.report is None


def test_a_sparse_gradient_is_looked_at_too():
    table = torch.nn.Embedding(5, 2, sparse=True)
    opt = pyfront.LinearScalarization(torch.optim.SparseAdam(table.parameters()), R)
    rows = Faulty.apply(table(torch.tensor([1, 3])), float("nan"))
    with pytest.raises(ValueError, match=r"parameter 0 \(shape \[5, 2\]\).*NaN or infinite"):
        opt.step([rows[0].sum(), rows[1].sum()])
    assert table.weight.grad is None and not opt.base.state


# ------------------------------------------------------------------------------- the look itself


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("level", range(3))
def test_every_bit_pattern_at_every_place(dtype, level):
    from pyfront.backend import _core

    if level >= len(_core.simd_levels()):
        pytest.skip(f"this processor has {len(_core.simd_levels())} of 3 instruction sets")

    def finite(*blocks):
        table = _core.TensorTable([blocks], torch.Tensor)
        return _core.all_finite(table, 1, level)

    info = torch.finfo(dtype)
    extremes = [info.max, info.min, info.tiny, -info.tiny, info.smallest_normal / 2, 0.0, -0.0]
    assert finite(torch.tensor(extremes * 9, dtype=dtype))
    for size in (1, 7, 31, 33, 64, 1500):
        for bad in (float("nan"), float("inf"), -float("inf")):
            for place in {0, size // 2, size - 1}:
                x = torch.full((size,), info.max, dtype=dtype)
                assert finite(x, None, x)
                x[place] = bad
                assert not finite(x) and not finite(torch.ones(3, dtype=dtype), None, x)
    assert finite(torch.ones(0, dtype=dtype)) and finite(None)


def test_nothing_overflows_in_the_look_and_threads_see_what_one_sees():
    assert all_finite([torch.full((3,), 1e300, dtype=torch.float64), None])
    big = torch.ones(3_000_000)
    assert all_finite([big, big.view(-1, 2).t()])
    big[2_345_678] = float("nan")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert not all_finite([torch.ones(5), big])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), complex(0.0, float("inf"))])
def test_layouts_that_the_core_cannot_read(bad):
    ragged = torch.ones(6, dtype=torch.float64)[::2]
    sparse = torch.eye(3).to_sparse()
    for dtype in (torch.float64, torch.complex64):
        if isinstance(bad, complex) and not dtype.is_complex:
            continue
        x = torch.ones(5, dtype=dtype)
        assert all_finite([x, ragged, None, sparse, torch.ones(0), x.conj(), torch.ones(2).half()])
        x[3] = bad
        assert not all_finite([ragged, sparse, x]) and not all_finite([x.conj()])
        assert not all_finite([x.to_sparse(), torch.ones(0)])
    ragged[1] = float("nan")
    assert not all_finite([torch.ones(2), ragged])
