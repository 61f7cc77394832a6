"""Checkpoints of several optimizers in the form of one: groups in order, parameters numbered on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["joined", "parted"]

Saved = dict[Any, Any]

MORE = "bases"  # what an optimizer saves besides groups and state, by its place
PLAIN: Saved = {"grouped": True, "entries": {}}  # nothing besides


def joined(parts: Sequence[Saved]) -> Saved:
    """Return the checkpoints of several optimizers as one.

    Parameters are numbered from 0 over all groups, as one optimizer over these groups would number
    them. Further entries of a checkpoint, or all of one without groups, are kept by its place.

    Example:
        >>> part = {"state": {0: {"step": 1}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
        >>> joined([part, part])["param_groups"]
        [{'lr': 0.1, 'params': [0]}, {'lr': 0.1, 'params': [1]}]
    """
    state: Saved = {}
    groups: list[Saved] = []
    more: dict[str, Saved] = {}
    first = 0
    for place, part in enumerate(parts):
        rest = dict(part)
        if "param_groups" in part:
            own, entries = rest.pop("param_groups"), rest.pop("state", {})
            state.update({k + first: v for k, v in entries.items() if isinstance(k, int)})
            if odd := {k: v for k, v in entries.items() if not isinstance(k, int)}:
                rest["state"] = odd  # of no parameter
            groups += [{**g, "params": [first + number for number in g["params"]]} for g in own]
            first += len({number for group in own for number in group["params"]})
        if rest:
            more[str(place)] = {"grouped": "param_groups" in part, "entries": rest}
    saved = {"state": state, "param_groups": groups}
    return {**saved, MORE: more} if more else saved


def parted(saved: Saved, bases: Sequence[torch.optim.Optimizer]) -> list[Saved]:
    """Undo :func:`joined` for these optimizers.

    Raises:
        ValueError: another number of groups, or a group of another number of parameters.
    """
    groups: list[Saved] = list(saved["param_groups"])
    more = [saved.get(MORE, {}).get(str(k), PLAIN) for k in range(len(bases))]
    grouped = [found["grouped"] for found in more]
    counts = [len(base.param_groups) * int(own) for base, own in zip(bases, grouped, strict=True)]
    if sum(counts) != len(groups):
        names = ", ".join(
            f"{count} of base[{k}] ({type(base).__name__})"
            for k, (base, count) in enumerate(zip(bases, counts, strict=True))
        )
        raise ValueError(f"state_dict: expected {sum(counts)} groups, {names}; got {len(groups)}")
    parts: list[Saved] = []
    for place, (base, count) in enumerate(zip(bases, counts, strict=True)):
        own, groups = groups[:count], groups[count:]
        _check_sizes(own, base, place)
        part: Saved = dict(more[place]["entries"])
        if grouped[place]:  # distributed checkpoints have names in place of numbers
            keys = dict.fromkeys(key for group in own for key in group["params"])
            number = {key: k for k, key in enumerate(keys)}
            known = {k: saved["state"][key] for key, k in number.items() if key in saved["state"]}
            part["state"] = {**known, **part.get("state", {})}
            part["param_groups"] = [{**g, "params": [number[k] for k in g["params"]]} for g in own]
        parts.append(part)
    return parts


def _check_sizes(groups: Sequence[Saved], base: torch.optim.Optimizer, place: int) -> None:
    for number, (found, own) in enumerate(zip(groups, base.param_groups, strict=False)):
        expected, got = len(own["params"]), len(found["params"])
        if expected != got:
            raise ValueError(
                f"state_dict: expected {expected} parameters in group {number} of base[{place}] "
                f"({type(base).__name__}), got {got}"
            )
