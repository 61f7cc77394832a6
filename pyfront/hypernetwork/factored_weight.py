"""The weight of a large linear layer in factors, whose product with a batch needs no weight.

Rows o = r K + k of the weight are W_o = μ + Σ_j a_kj M_rj for r < R and k < K, with a projection M
of R × d × I entries and coefficients a of K × d. A batch of B inputs x ∈ R^I then costs
B R d (I + K) multiplications, as Σ_j (M_rj · x) a_kj, in place of R K d I to make W and B I O.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyfront._utils.torch_private import without_subclass_functions

__all__ = ["FactoredWeight", "Factors", "written"]


class Factors(NamedTuple):
    """W_{r K + k} = mean + Σ_j coefficients_kj projection_rj, for the first ``outputs`` rows."""

    projection: Tensor  # M, [R, d, I]
    coefficients: Tensor  # a, [K, d]
    mean: Tensor  # μ, []
    outputs: int  # O ≤ R K

    def weight(self) -> Tensor:
        """Return W, [O, I], as a tensor of its own."""
        coefficients = self.coefficients.expand(len(self.projection), -1, -1)
        rows = torch.bmm(coefficients, self.projection).flatten(0, 1)
        return rows[: self.outputs] + self.mean

    def product(self, x: Tensor) -> Tensor:
        """Return x Wᵀ, [..., O], for ``x``, [..., I], without W."""
        blocks, width, inputs = self.projection.shape
        batch = x.reshape(-1, inputs)
        projected = batch @ self.projection.flatten(0, 1).T  # [B, R d]
        rows = projected.view(-1, width) @ self.coefficients.T  # [B R, K]
        product = rows.view(len(batch), blocks * len(self.coefficients))[:, : self.outputs]
        return (product + self.mean * batch.sum(1, keepdim=True)).view(*x.shape[:-1], self.outputs)

    def is_cheaper_for(self, rows: int) -> bool:
        """Whether a product with ``rows`` inputs takes fewer multiplications than with W."""
        (blocks, width, inputs), count = self.projection.shape, len(self.coefficients)
        with_weight = blocks * count * width * inputs + rows * inputs * self.outputs
        return rows * blocks * width * (inputs + count) < with_weight


# What does not depend on values, and the same for the place as for the weight.
_DESCRIPTIONS = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.stride, Tensor.element_size,
    Tensor.is_floating_point, Tensor.is_complex, Tensor.is_contiguous,
    *(getattr(Tensor, name).__get__
      for name in ("shape", "dtype", "device", "ndim", "layout", "is_cuda", "is_cpu", "is_sparse")),
}  # fmt: skip


class FactoredWeight(Tensor):
    """A weight that a linear layer multiplies in factors, made whole where anything else reads it.

    It is a view of the place that it stands in, whose shape, type and device it has; nothing reads
    that memory. Once it was made whole, all readers get that one tensor, so that what is written
    into it is there for the rest of the call.

    Example:
        >>> factors = Factors(torch.ones(1, 2, 3), torch.ones(4, 2), torch.zeros(()), outputs=4)
        >>> weight = FactoredWeight.at(torch.empty(4, 3), factors)
        >>> torch.nn.functional.linear(torch.ones(3), weight)
        tensor([6., 6., 6., 6.])
        >>> weight.sum()
        tensor(24.)
    """

    factors: Factors
    modes: tuple[bool, bool]  # gradients are recorded, inference mode, where it was made
    whole: Tensor | None

    @classmethod
    def at(cls, place: Tensor, factors: Factors) -> FactoredWeight:
        """Return the weight of ``factors`` for a ``place`` of its shape, type and device."""
        with without_subclass_functions():
            weight = place.detach().as_subclass(cls)
        weight.factors, weight.whole = factors, None
        weight.modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        return weight

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DESCRIPTIONS:
            with without_subclass_functions():
                return func(*args, **kwargs)
        if func is F.linear and (product := _product(*args, **kwargs)) is not None:
            return product
        return func(*_whole(args), **_whole(kwargs))


def _product(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """Return F.linear of these in factors, None where the whole weight serves better."""
    if not isinstance(weight, FactoredWeight) or weight.whole is not None:
        return None
    factors = weight.factors
    *_, inputs = factors.projection.shape
    operands = [input] if bias is None else [input, bias]
    plain = all(type(operand) in (Tensor, nn.Parameter) for operand in operands)
    if (
        not plain
        or input.dtype is not factors.projection.dtype
        or input.shape[-1:] != (inputs,)
        or torch.is_autocast_enabled(input.device.type)
        or not factors.is_cheaper_for(input.numel() // inputs)
    ):
        return None
    product = factors.product(input)
    return product if bias is None else product + bias


def _whole(value: Any) -> Any:
    """Return ``value`` with whole weights in place of those in factors, in any nesting of it."""
    if isinstance(value, FactoredWeight):
        return _made_whole(value)
    if isinstance(value, dict):
        return {key: _whole(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        entries = [_whole(entry) for entry in value]
        return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    return value


def _made_whole(weight: FactoredWeight) -> Tensor:
    if weight.whole is not None:
        return weight.whole
    recorded, inference = weight.modes
    if torch.compiler.is_compiling():
        return weight.factors.weight()
    with (
        torch.autocast(weight.device.type, enabled=False),
        torch.inference_mode(inference),
        torch.set_grad_enabled(recorded),
    ):
        weight.whole = weight.factors.weight()
    return weight.whole


def written(weight: Tensor) -> Tensor | None:
    """Return the tensor that a write into ``weight`` goes to; None for factors not made whole."""
    return weight.whole if isinstance(weight, FactoredWeight) else weight
