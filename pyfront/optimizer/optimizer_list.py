"""Several optimizers that make the step of one model together, as one optimizer."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

from pyfront.optimizer.list_checkpoints import joined, parted

__all__ = ["HOOKS", "OptimizerList"]

# Of torch's optimizers: what registers a hook.
HOOKS = (
    "register_step_pre_hook",
    "register_step_post_hook",
    "register_state_dict_pre_hook",
    "register_state_dict_post_hook",
    "register_load_state_dict_pre_hook",
    "register_load_state_dict_post_hook",
)

Group = dict[str, Any]


def clear_gradients(base: torch.optim.Optimizer, set_to_none: bool) -> None:
    """Clear every ``.grad`` by the optimizer's own ``zero_grad``, which once took no argument."""
    parameters: Mapping[str, inspect.Parameter]
    try:
        parameters = inspect.signature(base.zero_grad, follow_wrapped=False).parameters
    except ValueError:  # of a function in C
        parameters = {}
    if not parameters:
        base.zero_grad()
    elif "set_to_none" in parameters or _takes_any_name(parameters):
        base.zero_grad(set_to_none=set_to_none)
    else:
        base.zero_grad(set_to_none)


def _takes_any_name(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


class OptimizerList(torch.optim.Optimizer):
    """Several optimizers as one: their groups in their order, their steps one after the other.

    It owns nothing but hooks: groups, state and options are those of its optimizers, whose own
    schedulers, hooks and :meth:`add_param_group` work on. Checkpoints have the form of one
    optimizer over all groups. Methods that only the optimizers have, such as ``train()``, are
    called on each that has them.

    Args:
        bases: the optimizers, in the order of their steps; no parameter is in two of them.

    Raises:
        ValueError: no optimizer, or a parameter in two of them; both are named.

    Example:
        >>> x, y = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
        >>> both = OptimizerList([torch.optim.SGD([x], lr=0.1), torch.optim.AdamW([y], lr=0.01)])
        >>> [group["lr"] for group in both.param_groups]
        [0.1, 0.01]
    """

    def __init__(self, bases: Sequence[torch.optim.Optimizer]) -> None:
        # torch's own __init__ is not called: it would make a second set of groups and state
        if not bases:
            raise ValueError("base: expected at least one optimizer, got an empty list")
        self._set(list(bases))
        _ = self.param_groups  # which looks for parameters in two of them

    def _set(self, bases: list[torch.optim.Optimizer]) -> None:
        self.bases = bases
        self._hooks: dict[str, OrderedDict[int, Callable[..., Any]]] = {}
        self._known = 0  # the number of groups that have been looked at

    def __getattr__(self, name: str) -> Any:
        """Return a function that calls a public method of every optimizer that has it."""
        bases = () if name.startswith("_") else self.__dict__.get("bases", ())
        methods = [found for base in bases if callable(found := getattr(base, name, None))]
        if not methods:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def each(*args: Any, **options: Any) -> list[Any]:
            return [method(*args, **options) for method in methods]

        return each

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(type(base).__name__ for base in self.bases)})"

    # ----------------------------------------------------------------------------- groups and state

    @property
    def param_groups(self) -> list[Group]:
        """The groups of all optimizers, in their order; assign a list to change which there are.

        Raises:
            ValueError: a parameter in two optimizers, which a new group may have brought.
        """
        groups = [group for base in self.bases for group in base.param_groups]
        if len(groups) != self._known:
            _refuse_repeated(self.bases)
            self._known = len(groups)
        return _Groups(groups)

    @param_groups.setter
    def param_groups(self, value: Sequence[Group]) -> None:
        """Give each group to the optimizer that has it, or its parameters."""
        parts: list[list[Group]] = [[] for _ in self.bases]
        for number, group in enumerate(value):
            parts[self._place_of(number, group)].append(group)
        for base, part in zip(self.bases, parts, strict=True):
            base.param_groups = part
        self._known = 0

    def _place_of(self, number: int, group: Group) -> int:
        for place, base in enumerate(self.bases):
            if any(group is own for own in base.param_groups):
                return place
        for place, base in enumerate(self.bases):
            own_ids = {id(p) for own in base.param_groups for p in own["params"]}
            if any(id(p) in own_ids for p in group["params"]):
                return place
        raise ValueError(
            f"param_groups[{number}]: none of its parameters belongs to one of {self!r}, so that "
            "nothing says which is to train them"
        )

    def add_param_group(self, param_group: Group) -> None:
        """Refuse: nothing says which optimizer is to train the group.

        Raises:
            ValueError: always; it says what to call.
        """
        raise ValueError(
            f"add_param_group: nothing says which of {self!r} is to train the group; call "
            "add_param_group() of that one, and it is seen here"
        )

    @property
    def state(self) -> Any:
        """The states of all parameters; what is set is set in the parameter's own optimizer."""
        return _State(self.bases)

    @state.setter
    def state(self, value: MutableMapping[Any, Any]) -> None:
        for base in self.bases:
            base.state.clear()
        for key, entry in value.items():
            _State(self.bases)[key] = entry

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The default options that all optimizers have, as the first one has them.

        A scheduler that asks for ``momentum`` or ``betas`` finds what it can set in every group.
        """
        first, *others = (base.defaults for base in self.bases)
        return {key: value for key, value in first.items() if all(key in own for own in others)}

    # ------------------------------------------------------------------------------------- the step

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make the step of each optimizer, in their order.

        Raises:
            TypeError: a closure, or a hook that wants to change the arguments of the step.
        """
        if closure is not None:
            raise TypeError(f"step: {self!r} takes no closure")
        for hook in self._registered("register_step_pre_hook"):
            if hook(self, (), {}) is not None:
                raise TypeError("step: a hook cannot change the arguments of several steps")
        for base in self.bases:
            base.step()
        for hook in self._registered("register_step_post_hook"):
            hook(self, (), {})

    step.hooked = True  # type: ignore[attr-defined]  # hooks of all optimizers run in each base

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear ``.grad`` of every parameter."""
        for base in self.bases:
            clear_gradients(base, set_to_none)

    def _registered(self, name: str) -> list[Callable[..., Any]]:
        return list(self._hooks.get(name, {}).values())

    # --------------------------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return one state dict in torch's form, with parameters numbered over all groups."""
        for hook in self._registered("register_state_dict_pre_hook"):
            hook(self)
        state = joined([base.state_dict() for base in self.bases])
        for hook in self._registered("register_state_dict_post_hook"):
            state = hook(self, state) or state
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore every optimizer.

        Raises:
            ValueError: groups that do not fit; nothing has been loaded.
        """
        for hook in self._registered("register_load_state_dict_pre_hook"):
            state_dict = hook(self, state_dict) or state_dict
        for base, part in zip(self.bases, parted(state_dict, self.bases), strict=True):
            base.load_state_dict(part)
        for hook in self._registered("register_load_state_dict_post_hook"):
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"bases": self.bases}  # as in torch, hooks belong to this object alone

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(state["bases"])


class _Groups(list[Group]):
    """Groups in the order of their optimizers; the list itself cannot be changed in place."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "param_groups: of several optimizers, the list cannot be changed in place; assign "
            "opt.param_groups = [...], or change that of one of them"
        )

    append = extend = insert = pop = remove = clear = reverse = sort = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __reduce__(self) -> Any:
        return list, (list(self),)  # a copy is a plain list


class _State(MutableMapping[Any, Any]):
    """The states of several optimizers as one mapping."""

    def __init__(self, bases: Sequence[torch.optim.Optimizer]) -> None:
        self._bases = bases

    def _of(self, key: Any) -> Any:
        for base in self._bases:
            if key in base.state:
                return base.state
        for base in self._bases:
            if any(key is p for group in base.param_groups for p in group["params"]):
                return base.state
        raise KeyError(key)

    def __getitem__(self, key: Any) -> Any:
        return self._of(key)[key]

    def __contains__(self, key: Any) -> bool:
        return any(key in base.state for base in self._bases)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the state under ``key``; that of a parameter without one is not created."""
        return self[key] if key in self else default  # noqa: SIM401

    def __setitem__(self, key: Any, value: Any) -> None:
        self._of(key)[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._of(key)[key]

    def __iter__(self) -> Iterator[Any]:
        return (key for base in self._bases for key in base.state)

    def __len__(self) -> int:
        return sum(len(base.state) for base in self._bases)


def _refuse_repeated(bases: Sequence[torch.optim.Optimizer]) -> None:
    """Raise a ``ValueError`` that names a parameter in two optimizers."""
    owners: dict[int, int] = {}
    for place, base in enumerate(bases):
        for number, group in enumerate(base.param_groups):
            names = group.get("param_names")
            for index, p in enumerate(group["params"]):
                owner = owners.setdefault(id(p), place)
                if owner != place:
                    name = f"{names[index]!r}" if names else f"parameter {index} of group {number}"
                    raise ValueError(
                        f"base[{place}] ({type(base).__name__}): its {name} (shape "
                        f"{list(p.shape)}) is a parameter of base[{owner}] "
                        f"({type(bases[owner]).__name__}) too; each can have one optimizer"
                    )


def _registering(name: str) -> Callable[..., RemovableHandle]:
    def register(
        self: OptimizerList, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        hooks = self._hooks.setdefault(name, OrderedDict())
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    register.__name__ = name
    register.__doc__ = f"``{name}`` as torch has it; the hook runs once for all optimizers."
    return register


for _hook in HOOKS:
    setattr(OptimizerList, _hook, _registering(_hook))
