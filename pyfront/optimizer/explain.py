"""What an optimizer knows of itself, in words: engine, roles, and the cost of the next step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

from pyfront._utils.tables import bytes_in_words, printable
from pyfront.gradients.engines import ENGINES, keeps_rows
from pyfront.optimizer.graph_passes import takes_one_pass
from pyfront.optimizer.product_pass import LearnsFromProducts
from pyfront.optimizer.roles import SHARED, ParameterValues, task_specific

if TYPE_CHECKING:
    from pyfront.optimizer.method import Method

__all__ = ["explanation"]

NOT_STATE = ("method", "preference", "tasks", "learned", "rises")  # entries of the memory


def explanation(method: Method) -> str:
    """Return one line per subject; a subject of which nothing is known yet says so."""
    params = [p for group in method.param_groups for p in group["params"]]
    trained = [p for p in params if p.requires_grad]
    subjects = {
        "tasks": _tasks(method),
        "parameters": _parameters(params, trained),
        "roles": _roles(method, params),
        "engine": _engine(method),
        "Gramian": _gramian(method),
        "next step": _next_step(method),
        "memory": _memory(method, params),
        "kept between steps": ", ".join(_state(method)) or "nothing",
    }
    return "\n".join([repr(method), *(f"  {name}: {text}" for name, text in subjects.items())])


def _tasks(method: Method) -> str:
    m = method.num_tasks
    if m is None:
        return "not known before the first step"
    names = "" if method.tasks is None else f" ({', '.join(map(printable, method.tasks))})"
    return f"{m}{names}"


def _parameters(params: list[Tensor], trained: list[Tensor]) -> str:
    frozen = len(params) - len(trained)
    size = bytes_in_words(sum(map(_bytes, trained)))
    more = f"; {frozen} frozen" if frozen else ""
    numbers = sum(p.numel() for p in trained)
    return f"{_count(numbers, 'number')} in {_count(len(trained), 'tensor')}, {size}{more}"


def _count(number: int, what: str, many: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else many}"


def _bytes(p: Tensor) -> int:
    return p.numel() * p.element_size()


def _roles(method: Method, params: list[Tensor]) -> str:
    if any("role" in group for group in method.param_groups):
        own = len(task_specific([None] * len(params), method.param_groups))
        return f"by the groups' role: {_count(own, 'tensor')} of one task"
    owners = _owners(method, params)
    if owners is not None:
        shared, unknown = owners.count(SHARED), owners.count(None)
        more = f", {unknown} that no loss has shown" if unknown else ""
        return (
            f"{_count(shared, 'tensor')} shared, {len(owners) - shared - unknown} of one task{more}"
        )
    if method.gramian_over == "shared" or method.task_gradients == "own":
        return "detected at the first step"
    return "not looked at, no option asks for them; pyfront.diagnose shows them"


def _owners(method: Method, params: list[Tensor]) -> list[int | None] | None:
    known: ParameterValues[int] | None = method._shared.values.get("owners")
    return None if known is None else known.of(params)


def _engine(method: Method) -> str:
    chosen, last = method.engine, method._shared.engine
    if last is None:
        names = " or ".join(name for name in ENGINES if keeps_rows(name))
        unknown = f"{names}, as the graph of the first step asks"
        return unknown if chosen == "auto" else chosen
    return f"{last}, chosen from the graph of the last step" if chosen == "auto" else last


def _gramian(method: Method) -> str:
    if method.upper_bound:
        return "at the features that each step is given, which bounds that at the parameters"
    if method.needs == "losses":
        return f"not needed: {type(method).__name__} decides on the losses"
    over = method.gramian_over
    named = over if isinstance(over, str) else f"{sum(map(bool, over.values))} named"
    return f"over {named} parameters"


# ------------------------------------------------------------------------------------ the next step


def _next_step(method: Method) -> str:
    m, due = method.num_tasks, _due(method)
    every = ""
    if method.every > 1:
        left = method.every - method.memory.get("age", 0) % method.every
        every = f"; every={method.every}: " + (
            "it decides anew" if due else f"the next decision is in {_count(left, 'step')}"
        )
    return _passes(method, m, due) + every


def _due(method: Method) -> bool:
    kept, m = method.memory.get("weights", []), method.num_tasks
    known = len(kept) == m and not any(w is None or math.isnan(w) for w in kept)
    return not known or method.memory.get("age", 0) % method.every == 0


def _one_pass(method: Method) -> bool:
    collected = method._shared.collected is not None
    sharded = method.processes().sharded
    return takes_one_pass(method, collected=collected, due=_due(method), sharded=sharded)


def _passes(method: Method, m: int | None, due: bool) -> str:
    if _one_pass(method):
        if not due:
            return "1 backward pass, with the weights of an earlier step"
        if isinstance(method, LearnsFromProducts):
            return f"1 backward pass and one product C w (products={method.products!r})"
        return "1 backward pass, of the weighted sum of the losses"
    passes = "one backward pass per loss"
    if m is not None:
        passes = _count(m, "backward pass", "es")
    if method.upper_bound:
        return f"{passes} back to the features, and 1 from there through the trunk"
    if not keeps_rows(method.engine):
        return f"{passes}, a product J g_j after each, and 1 more backward pass for the direction"
    return f"{passes}, {_why_rows(method)}"


def _why_rows(method: Method) -> str:
    name = type(method).__name__
    if method.needs == "gramian" and _due(method):
        return f"for the Gramian that {name} decides on"
    if method._shared.collected is not None:
        return "as micro-batches are accumulated"
    if method.track_rises:
        return "as track_rises needs the task gradients"
    if method.task_gradients == "own":
        return "as task_gradients='own' needs them"
    return f"as {name} takes C w from the Gramian here"


def _memory(method: Method, params: list[Tensor]) -> str:
    if _one_pass(method):
        return "no task gradients beside .grad"
    if not keeps_rows(method.engine):
        size = sum(_bytes(p) for p in params if p.requires_grad)
        return f"2 gradients at a time, {bytes_in_words(2 * size)}, while the step is decided"
    m = method.num_tasks
    if m is None:
        return "one gradient per task"
    owners = _owners(method, params)
    pairs = zip(params, [SHARED] * len(params) if owners is None else owners, strict=True)
    size = sum(
        _bytes(p) * (m if owner == SHARED else owner is not None)
        for p, owner in pairs
        if p.requires_grad
    )
    held = f"{m} task gradients, {'at most ' if owners is None else ''}{bytes_in_words(size)}"
    if not method.track_rises:
        return f"{held}, while the step is decided"
    return f"{held}, and a copy of the parameters until the base has made its step (track_rises)"


def _state(method: Method) -> Iterator[str]:
    yield from (name for name in method.memory if name not in NOT_STATE)
    if (collected := method._shared.collected) is not None:
        yield f"{_count(len(collected.rows), 'task gradient')} of micro-batches"
    if waiting := method._shared.scalars.waiting:
        yield f"{_count(waiting, 'scalar')} without its backward pass"
