"""Which parameters of a main network are generated, where they start, and a table of them."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from pyfront._utils.torch_private import holds_compiled_code
from pyfront.hypernetwork.factored_linear import Factors, can_be_in_factors

__all__ = [
    "Start",
    "can_stay_in_factors",
    "copy_module",
    "describe",
    "generated_names",
    "is_sharded",
    "large_matrices",
    "other_names",
    "padding_rows",
    "start",
    "tensors_at",
]

LARGE = 2**18  # entries of a matrix that is worth a projection of its own

Module = TypeVar("Module", bound=nn.Module)


def copy_module(model: Module, instead: Mapping[Tensor, nn.Parameter]) -> Module:
    """Return a deep copy with other parameters ``instead`` of some, and without gradients.

    Tensors that hooks have computed are copied without graph.
    """
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    memo |= {id(old): new for old, new in instead.items()}
    copied = copy.deepcopy(model, memo)
    copied.zero_grad(set_to_none=True)
    return copied


def generated_names(model: nn.Module, patterns: str | Sequence[str] | None) -> list[str]:
    """Return one name per parameter that ``patterns`` select; None selects the trained ones.

    Raises:
        TypeError, ValueError: a pattern that matches nothing, or a parameter that cannot be
            generated; it is named.
    """
    aliases: dict[Tensor, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(parameter, []).append(name)
    if patterns is None:
        chosen = {p for p in aliases if p.requires_grad}
        if not chosen:
            raise ValueError("model: has no parameter that requires a gradient")
    else:
        chosen = set[Tensor]()
        for pattern in _as_list(patterns):
            found = {p for p, names in aliases.items() if any(_match(names, pattern))}
            if not found:
                known = ", ".join(names[0] for names in aliases.values()) or "none"
                raise ValueError(f"parameters: {pattern!r} matches no parameter; there are {known}")
            chosen |= found
        if not chosen:
            raise ValueError("parameters: expected at least one pattern")
    for p in chosen:
        _require_usable(aliases[p][0], p)
    _refuse_modules(model, chosen)
    return [names[0] for p, names in aliases.items() if p in chosen]


def _as_list(patterns: str | Sequence[str]) -> list[str]:
    if isinstance(patterns, str):
        return [patterns]
    if not isinstance(patterns, Iterable):
        raise TypeError(f"parameters: expected a pattern or a list of them, got {patterns!r}")
    several = list(patterns)
    for i, pattern in enumerate(several):
        if not isinstance(pattern, str):
            raise TypeError(f"parameters[{i}]: expected a pattern, got {pattern!r}")
    return several


def _match(names: list[str], pattern: str) -> list[bool]:
    return [fnmatchcase(name, pattern) for name in names]


def _require_usable(name: str, p: Tensor) -> None:
    if is_lazy(p):
        raise ValueError(f"{name}: is not initialised; run the model once before it is wrapped")
    if not p.is_floating_point() or p.layout is not torch.strided:
        raise TypeError(f"{name}: cannot be generated: {p.dtype}, {p.layout}")
    if p.numel() == 0:
        raise ValueError(f"{name}: has no entries; leave it out with `parameters`")
    if p.is_meta:
        raise ValueError(f"{name}: has no values, it is on the meta device")
    values = p.detach().double()
    for index in (~values.isfinite()).nonzero()[:1].tolist():
        value = values[tuple(index)].item()
        raise ValueError(f"{name}{index or ''} = {value:g}: must be finite")


def _refuse_modules(model: nn.Module, chosen: Collection[Tensor]) -> None:
    """Raise a ``TypeError`` that names the first module whose weights cannot be generated."""
    dense = {  # in one of its places, and so is the sum of its gradients
        p
        for module in model.modules()
        if not _is_sparse(module)
        for p in module.parameters(recurse=False)
    }
    for name, module in model.named_modules():
        generated = [p for p in module.parameters(recurse=False) if p in chosen]
        if not generated:
            continue
        if _is_sparse(module) and not dense.issuperset(generated):
            raise TypeError(
                f"{name or 'model'}: has sparse gradients (sparse=True), which cannot go on into a "
                "generated weight; set sparse=False, or leave it out with `parameters`"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(
                f"{name or 'model'}: is a TorchScript module, whose weights cannot be replaced; "
                "give the module it was made of, or leave it out with `parameters`"
            )


def _is_sparse(module: nn.Module) -> bool:
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.sparse


class Start(NamedTuple):
    """A generated tensor is mean + gain · scale · ẑ, with ẑ of unit variance; gain is trained."""

    mean: float
    scale: float
    gain: float


def start(values: Tensor) -> Start:
    """Return the start at which generated entries have the mean and variance of ``values``."""
    values = values.detach().double()
    count = values.numel()
    mean = values.mean().item()
    deviation = math.sqrt(values.sub(mean).square().sum().item() / max(count - 1, 1))
    if deviation <= 1e-12 * abs(mean):
        return Start(mean, 1.0, 0.0)
    if abs(mean) < 3.0 * deviation / math.sqrt(count):  # what a sample of mean 0 has
        return Start(0.0, values.square().mean().sqrt().item(), 1.0)
    return Start(mean, deviation, 1.0)


def padding_rows(model: nn.Module, names: Sequence[str]) -> dict[str, int]:
    """Return the padding row of each generated embedding, which training leaves as it is."""
    name_of = {id(model.get_parameter(name)): name for name in names}
    return {
        name_of[id(module.weight)]: module.padding_idx
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        and module.padding_idx is not None
        and id(module.weight) in name_of
    }


def other_names(model: nn.Module) -> dict[str, list[str]]:
    """Return the further names of parameters and buffers that several modules hold, by the first.

    A module with several names counts once.
    """
    names: dict[Tensor, list[str]] = {}
    for path, module in model.named_modules():
        for named in (module.named_parameters, module.named_buffers):
            for name, tensor in named(path, recurse=False, remove_duplicate=False):
                names.setdefault(tensor, []).append(name)
    return {first: others for first, *others in names.values() if others}


def large_matrices(model: nn.Module, names: Sequence[str], dtype: torch.dtype) -> list[int]:
    """Return the indices in ``names`` of large weights that one linear layer has for itself."""
    holders: dict[Tensor, int] = {}
    for module in model.modules():
        for p in module.parameters(recurse=False):
            holders[p] = holders.get(p, 0) + 1
    return [
        index
        for index, name in enumerate(names)
        if (p := model.get_parameter(name)).numel() >= LARGE
        and p.dtype is dtype
        and holders[p] == 1
        and can_be_in_factors(model, name)
    ]


def is_sharded(module: nn.Module) -> bool:
    """Return whether FSDP shards a part of ``module``."""
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return kind is not None and any(isinstance(part, kind) for part in module.modules())


def can_stay_in_factors(model: nn.Module, names: Sequence[str], like: Tensor) -> list[str]:
    """Return those of the large weights that a call need not make whole, now.

    Args:
        model: the main network; where it holds compiled code, all are made whole.
        names: the large weights.
        like: has the type and device of their factors.
    """
    if torch.compiler.is_compiling() or not names or holds_compiled_code(model):
        return []
    return [
        name
        for name in names
        if (place := attrgetter(name)(model)).dtype is like.dtype
        and place.device == like.device
        and can_be_in_factors(model, name)
    ]


def tensors_at(
    place: Tensor,
    generated: Tensor | list[Factors],
    mean: Tensor,
    gain: Tensor,
    padding: tuple[int, Tensor] | None,
    factored: bool,
) -> Sequence[Tensor | Factors]:
    """Return the tensor of each of K preferences for ``place``: mean + gain · generated.

    Args:
        place: has the shape and type that they get.
        generated: of unit variance at the start; [K, entries], or K matrices in factors.
        mean, gain: scalars.
        padding: number and entries of the row that is the same for all preferences.
        factored: leave matrices in factors.
    """
    if isinstance(generated, list):
        matrices = [f._replace(coefficients=gain * f.coefficients, mean=mean) for f in generated]
        return matrices if factored else [matrix.weight().to(place) for matrix in matrices]
    # a tensor of its own: views of all entries would share one version counter
    values = torch.addcmul(mean, generated, gain).to(place).view(-1, *place.shape)
    if padding is not None:
        row, entries = padding
        values = values.select_scatter(entries.to(values).expand(len(values), -1), 1, row)
    return [values[k] for k in range(len(values))]  # those of unbind cannot be written into


def describe(
    model: nn.Module, generated: set[str], parts: Sequence[tuple[str, nn.Parameter]]
) -> str:
    """Return a table of the parameters of a main network and of its hypernetwork, ``parts``."""
    rows = []
    for name, p in model.named_parameters():
        kind = "shared" if p.requires_grad else "frozen"
        rows.append((name, p, "generated" if name in generated else kind))
    trained = [(name, p, "φ") for name, p in parts]
    width = max(len(name) for name, _, _ in rows + trained) + 2
    total = {kind: 0 for kind in ("generated", "shared", "frozen", "φ")}
    lines = []
    for title, block in (("main network", rows), ("hypernetwork", trained)):
        lines.append(f"{title:{width}}{'shape':>20}{'entries':>12}")
        for name, p, kind in block:
            total[kind] += p.numel()
            shape = "×".join(map(str, p.shape)) or "scalar"
            lines.append(f"{name:{width}}{shape:>20}{p.numel():12,}  {kind}")
    ratio = total["φ"] / total["generated"]
    lines.append(", ".join(f"{count:,} {kind}" for kind, count in total.items()))
    return "\n".join(lines) + f"; φ / generated = {ratio:.3f}"
