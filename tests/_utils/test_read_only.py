"""A tensor that shows what is kept elsewhere refuses writes and is a tensor otherwise."""

import copy
import io
import pickle

import numpy as np
import pytest
import torch

from pyfront._utils.read_only import read_only


def shown():
    return read_only(torch.tensor([0.75, 0.25], dtype=torch.float64), "r: assign it")


def set_entry(t):
    t[0] = 0.9


def set_data(t):
    t.data = torch.ones(2)


WRITES = [
    set_entry,
    set_data,
    lambda t: t.mul_(2),
    lambda t: t.copy_(torch.ones(2)),
    lambda t: t[:1].fill_(1.0),
    lambda t: t[0].zero_(),
    lambda t: set_entry(t.view(2, 1)),
    lambda t: t.detach().zero_(),
    lambda t: t.data.zero_(),
    lambda t: torch.add(t, 1, out=t),
    lambda t: torch.nn.init.zeros_(t),
]


@pytest.mark.parametrize("write", WRITES)
def test_writes_are_refused_with_the_advice(write):
    t = shown()
    with pytest.raises(TypeError, match="r: assign it"):
        write(t)
    assert t.tolist() == [0.75, 0.25]


def test_arrays_of_it_are_read_only():
    t = shown()
    for array in (t.numpy(), np.asarray(t), t.numpy(force=True)):
        assert not array.flags.writeable and array.tolist() == [0.75, 0.25]


def test_whatever_is_computed_from_it_is_plain():
    t = shown()
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (x * t).sum().backward()
    assert x.grad.tolist() == [0.75, 0.25] and type(x.grad) is torch.Tensor
    for made in (t + 1, t.clone(), t.float(), t / t.sum(), torch.stack([t, t])):
        assert type(made) is torch.Tensor
        made.zero_()
    assert torch.equal(t, torch.tensor([0.75, 0.25], dtype=torch.float64))
    assert repr(t) == "tensor([0.7500, 0.2500], dtype=torch.float64)" and f"{t[0]:.1f}" == "0.8"
    assert [entry.item() for entry in t] == [0.75, 0.25] and len(t) == 2 and t.max() == 0.75


def test_copies_and_files_are_plain():
    t = shown()
    file = io.BytesIO()
    torch.save({"r": t}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)["r"]
    for made in (copy.deepcopy(t), pickle.loads(pickle.dumps(t)), loaded):
        assert type(made) is torch.Tensor and made.tolist() == [0.75, 0.25]
        made[0] = 1.0
    assert t.tolist() == [0.75, 0.25]


def test_an_augmented_assignment_ends_in_an_assignment():
    class Holder:
        kept = shown()

    Holder.kept = Holder.kept * 2
    assert Holder.kept.tolist() == [1.5, 0.5]
