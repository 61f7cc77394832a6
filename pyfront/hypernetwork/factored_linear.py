"""The weight of a large linear layer in factors, whose product with a batch needs no weight.

Rows o = r K + k of the weight are W_o = μ + Σ_j a_kj M_rj for r < R and k < K, with a projection M
of R × d × I entries and coefficients a of K × d. A batch of B inputs x ∈ R^I then costs
B R d (I + K) multiplications, as Σ_j (M_rj · x) a_kj, in place of R K d I to make W and B I O.

For the length of a call the layer has another forward, which multiplies in factors, and another
table of parameters: who reads the weight in it gets an ordinary tensor, made then, which is the
weight for the rest of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from pyfront._utils.torch_private import (
    functions_are_changed,
    hold_parameters,
    parameters_held_by,
    version_of,
)

__all__ = ["Factors", "can_be_in_factors", "in_factors"]

_LINEAR, _FORWARD = F.linear, nn.Linear.forward  # what the product stands for, unless replaced


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
        projected = x.reshape(-1, inputs) @ self.projection.flatten(0, 1).T  # [B, R d]
        rows = projected.view(-1, width) @ self.coefficients.T  # [B R, K]
        product = rows.view(*x.shape[:-1], blocks * len(self.coefficients))[..., : self.outputs]
        shift = self.mean * x.sum(-1, keepdim=True)
        return product + torch.where(self.mean == 0.0, 0.0, shift)  # 0 where the sum overflows

    def is_cheaper_for(self, rows: int) -> bool:
        """Return whether a product with ``rows`` inputs takes fewer multiplications than with W."""
        (blocks, width, inputs), count = self.projection.shape, len(self.coefficients)
        with_weight = blocks * count * width * inputs + rows * inputs * self.outputs
        return rows * blocks * width * (inputs + count) < with_weight

    def fits(self, x: Tensor, bias: Tensor | None) -> bool:
        """Return whether the product in factors is what F.linear gives, and cheaper."""
        operands = [x] if bias is None else [x, bias]
        inputs = self.projection.shape[-1]
        return (
            F.linear is _LINEAR
            and all(type(operand) in (Tensor, nn.Parameter) for operand in operands)
            and not functions_are_changed()
            and all(operand.dtype is self.projection.dtype for operand in operands)
            and (bias is None or bias.shape == (self.outputs,))
            and x.layout is torch.strided
            and not x.is_nested
            and x.shape[-1:] == (inputs,)
            and not torch.is_autocast_enabled(x.device.type)
            and self.is_cheaper_for(x.numel() // inputs)
        )


def _layer_of(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def can_be_in_factors(model: nn.Module, name: str) -> bool:
    """Return whether the parameter ``name`` is the weight of a linear layer as torch has it."""
    layer = _layer_of(model, name)
    place: Tensor = attrgetter(name)(model)
    held = parameters_held_by(layer)
    return (
        held is not None
        and held.get("weight") is place
        and type(layer) is nn.Linear
        and nn.Linear.forward is _FORWARD
        and "forward" not in vars(layer)
        and place.dtype in (torch.float32, torch.float64)  # in others the product is less exact
    )


class _Weight:
    """The weight of one layer in a call: in factors until it is read, whole from then on."""

    def __init__(self, layer: Any, factors: Factors) -> None:
        table = parameters_held_by(layer)
        assert table is not None  # or it could not be in factors
        self.layer, self.factors, self.table = layer, factors, table
        self.place = self.table["weight"]
        self.modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        self.whole: Tensor | None = None
        self.version = 0  # of the whole weight when it was made
        self.over = False  # the call is, and the layer again what it was

    def make_whole(self) -> dict[str, Any]:
        """Return the table of the layer, with the whole weight, which has its graph."""
        if self.whole is None and not self.over:
            recorded, inference = self.modes
            with (
                torch.autocast(self.place.device.type, enabled=False),
                torch.inference_mode(inference),
                torch.set_grad_enabled(recorded),
                _unnoticed_by_checkpoints(),
            ):
                self.whole = self.factors.weight()
            self.version = version_of(self.whole)
            self.table["weight"] = self.whole
            hold_parameters(self.layer, self.table)
        return self.table

    def multiply(self, x: Tensor) -> Tensor:
        """Return the layer's output for ``x``."""
        kind = type(self.layer)
        bias = self.layer.bias if kind is nn.Linear else None
        if (
            self.whole is None
            and not self.over
            and kind.forward is _FORWARD
            and "weight" not in vars(self.layer)
            and not torch.compiler.is_compiling()
            and self.factors.fits(x, bias)
        ):
            product = self.factors.product(x)
            return product if bias is None else product + bias
        output: Tensor = kind.forward(self.layer, x)
        return output

    @contextmanager
    def kept_in_layer(self, changed: list[str], name: str) -> Iterator[None]:
        """Keep the weight here for a time; put ``name`` into ``changed`` if it was written to."""
        forward, table = _Forward(self), _Table(self)
        try:
            hold_parameters(self.layer, table)
            vars(self.layer)["forward"] = forward
            yield
        finally:
            self.over = True
            if vars(self.layer).get("forward") is forward:
                del vars(self.layer)["forward"]
            if parameters_held_by(self.layer) is table:
                hold_parameters(self.layer, self.table)
            held = parameters_held_by(self.layer)  # the forward may have put another one there
            assert held is not None
            if self.whole is not None:
                same = held.get("weight") is self.whole
                if not same or version_of(self.whole) != self.version:
                    changed.append(name)
                    vars(self.layer).pop("weight", None)
            self.table["weight"] = held["weight"] = self.place


@contextmanager
def _unnoticed_by_checkpoints() -> Iterator[None]:
    """Save tensors past the hooks of a checkpoint, which counts those of its own part."""
    with ExitStack() as stack:
        with suppress(RuntimeError):  # transforms of functions allow no hooks, and have none
            stack.enter_context(saved_tensors_hooks(_as_it_is, _as_it_is))
        yield


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _forward_of_its_class(layer: nn.Module, x: Tensor) -> Any:
    return type(layer).forward(layer, x)


class _Forward:
    """The forward of a layer whose weight is in factors; a copy of the layer has torch's own."""

    def __init__(self, weight: _Weight) -> None:
        self.weight = weight

    def __call__(self, input: Tensor) -> Tensor:
        return self.weight.multiply(input)

    def __reduce__(self) -> Any:
        return partial, (_forward_of_its_class, self.weight.layer)


class _Table(dict[str, Any]):
    """The parameters of a layer, whose weight is made whole when it is looked at.

    The dict itself is empty: code that goes past these methods finds no parameter.
    """

    def __init__(self, weight: _Weight) -> None:
        super().__init__()
        self.weight = weight

    def __contains__(self, name: object) -> bool:
        return name in self.weight.table

    def __iter__(self) -> Iterator[str]:
        return iter(self.weight.table)

    def __len__(self) -> int:
        return len(self.weight.table)

    def keys(self) -> Any:
        return self.weight.table.keys()

    def __getitem__(self, name: str) -> Any:
        return self._with(name)[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._with(name).get(name, default)

    def __setitem__(self, name: str, value: Any) -> None:
        self._with(name)[name] = value

    def __delitem__(self, name: str) -> None:
        del self._with(name)[name]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (self.weight.make_whole(),)

    def _with(self, name: str) -> dict[str, Any]:
        return self.weight.make_whole() if name == "weight" else self.weight.table


def _of_whole_table(method: str) -> Any:
    def call(table: _Table, *args: Any, **kwargs: Any) -> Any:
        return getattr(table.weight.make_whole(), method)(*args, **kwargs)

    return call


for _method in (
    "__reversed__", "__eq__", "__ne__", "__or__", "__ror__", "__ior__", "__repr__", "values",
    "items", "copy", "pop", "popitem", "setdefault", "update", "clear",
):  # fmt: skip
    setattr(_Table, _method, _of_whole_table(_method))
del _method


@contextmanager
def in_factors(model: nn.Module, factors: Mapping[str, Factors]) -> Iterator[list[str]]:
    """Keep weights of linear layers in factors, as a context.

    Args:
        model: has the layers, which can be in factors.
        factors: by the names of their weights.

    Yields:
        A list that has, when the context ends, the names of the weights that were made whole and
        then written into or replaced.
    """
    changed: list[str] = []
    with ExitStack() as stack:
        for name, value in factors.items():
            weight = _Weight(_layer_of(model, name), value)
            stack.enter_context(weight.kept_in_layer(changed, name))
        yield changed
