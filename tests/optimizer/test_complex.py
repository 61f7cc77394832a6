"""Complex parameters are pairs of real ones: every step is that of the pairs, bit for bit."""

import pytest
import torch

import pyfront

X = torch.linspace(-1, 1, 128).reshape(8, 16).sin()
TARGETS = [X.cos(), X.flip(0) ** 2]


class Spectral(torch.nn.Module):
    """Weights on the lowest frequencies, complex or as pairs, beside a real layer."""

    def __init__(self, as_pairs):
        super().__init__()
        torch.manual_seed(0)
        pairs = torch.randn(4, 2)
        self.as_pairs = as_pairs
        self.w = torch.nn.Parameter(pairs if as_pairs else torch.view_as_complex(pairs))
        self.real = torch.nn.Linear(16, 16)

    def features(self):
        w = torch.view_as_complex(self.w) if self.as_pairs else self.w
        return torch.fft.rfft(X)[:, :4] * w

    def losses(self, z=None):
        z = self.features() if z is None else z
        out = torch.fft.irfft(torch.nn.functional.pad(z, (0, 5)), n=16) + self.real(X)
        return [((out - y) ** 2).mean() for y in TARGETS]


METHODS = {
    "MGDA": pyfront.MGDA,
    "EPO": lambda base, **o: pyfront.EPO(base, [0.7, 0.3], **o),
    "PCGrad": pyfront.PCGrad,
    "linear": lambda base, **o: pyfront.LinearScalarization(base, [0.7, 0.3], **o),
    "double backward": pyfront.SingleLoopMGDA,
    "forward": lambda base, **o: pyfront.SingleLoopMGDA(base, products="forward", **o),
    "difference": lambda base, **o: pyfront.SingleLoopMGDA(base, products="difference", **o),
    "FERERO": lambda base, **o: pyfront.FERERO(base, [0.7, 0.3], **o),
}


def plain(opt, net):
    return opt.step(net.losses)


def split(opt, net):
    z = net.features()
    return opt.step(net.losses(z), features=z)


def micro(opt, net):
    opt.accumulate([loss / 2 for loss in net.losses()])
    return opt.step([loss / 2 for loss in net.losses()])


def scalar(opt, net):
    opt.zero_grad()
    opt.scalarize(net.losses()).backward()
    opt.step()
    return opt.report


def trained(as_pairs, make, form, **options):
    net = Spectral(as_pairs)
    opt = make(torch.optim.Adam(net.parameters(), lr=0.01), **options)
    weights = [form(opt, net).weights.tolist() for _ in range(3)]
    assert net.w.grad.dtype is net.w.dtype and net.w.grad.shape == net.w.shape
    return weights, torch.view_as_real(net.w) if net.w.is_complex() else net.w, net.real.weight


def same(make, form, **options):
    found, expected = (trained(pairs, make, form, **options) for pairs in (False, True))
    assert found[0] == expected[0]
    assert torch.equal(found[1], expected[1]) and torch.equal(found[2], expected[2])


@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    same(METHODS[name], plain)


@pytest.mark.parametrize("form", [split, micro, scalar])
@pytest.mark.parametrize("name", ["MGDA", "EPO", "linear"])
def test_forms_of_a_step(name, form):
    same(METHODS[name], form)


def test_options():
    same(METHODS["MGDA"], split, upper_bound=True)
    same(METHODS["MGDA"], plain, engine="steal")
    same(METHODS["MGDA"], plain, task_gradients="own", every=2)


def test_the_gramian_is_the_real_part_of_the_inner_products():
    z = torch.nn.Parameter(torch.tensor([1 + 2j, -1j]))
    opt = pyfront.MGDA(torch.optim.SGD([z], lr=0.1))
    report = opt.backward([z.abs().square().sum(), (z.conj() * (2 - 1j)).sum().imag])
    # as pairs (a, b): 2(a, b) and the gradient (−1, −2) of Im((a − ib)(2 − i)) = −a − 2b
    g = torch.tensor([[2.0, 4.0, 0.0, -2.0], [-1.0, -2.0, -1.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(report.gramian, g @ g.T)


def test_a_lazily_conjugated_gradient_is_read_as_its_values():
    z = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))
    z.register_hook(lambda gradient: gradient.conj())
    report = pyfront.MGDA(torch.optim.SGD([z], lr=0.1)).backward(
        [z.abs().square().sum(), z.real.sum()]
    )
    assert report.gramian[0].tolist() == [60.0, 8.0]
