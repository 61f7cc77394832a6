"""Where the direction is written: into ``.grad`` where it fits, never into what is shared."""

import torch

from pyfront.backend.task_gradients import TaskGradients
from pyfront.optimizer.direction import direction_buffers


def test_a_gradient_that_fits_is_kept_and_another_is_not():
    params = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
    gradients = TaskGradients([[torch.ones(3), torch.ones(3), None]])
    params[0].grad = torch.zeros(3)
    params[1].grad = torch.zeros(3)
    kept, destination = direction_buffers(gradients, params)
    assert destination is not None
    assert kept[0] is params[0].grad and kept[1] is params[1].grad and kept[2] is None
    params[1].grad = params[0].grad
    buffers, destination = direction_buffers(gradients, params)
    assert destination is None
    assert buffers[0] is params[0].grad and buffers[1] is not params[0].grad
    params[2].grad = torch.zeros(3)
    assert direction_buffers(gradients, params)[0][2] is None


class Refusing(torch.Tensor):
    """A subclass on which every function raises but a look at its attributes."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.is_neg:
            raise RuntimeError("not for this class")
        return super().__torch_function__(function, types, args, kwargs or {})


def test_the_grad_of_a_subclass_is_replaced_unread():
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.zeros(3).as_subclass(Refusing)
    gradients = TaskGradients([[torch.ones(3)]])
    (buffer,), destination = direction_buffers(gradients, [p])
    assert destination is None and buffer is not p.grad and type(buffer) is torch.Tensor
