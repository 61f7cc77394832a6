"""Controllers that decide on plain numbers: losses, rewards, metrics of any origin."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from pyfront._utils.arguments import BoolArray, FloatArray, number, require
from pyfront.control.constraint import Settings, constraint_rule
from pyfront.control.preference import PreferenceRule
from pyfront.control.run import Decision
from pyfront.control.suggestion import Suggestion, suggestion
from pyfront.control.values import Key, PerValue, Tasks, Values, as_target

__all__ = ["ConstraintController", "Controller", "PreferenceController"]


class Controller(ABC):
    """Turn measured values into weights, one decision per call.

    The same values give the same weights: nothing is drawn at random and nothing depends on the
    process, so that ranks which pass equal values (an average over all of them) get equal weights.

    Args:
        tasks: how many values there are, and their names.
        maximize: the values that are to rise.
        averaging: β in [0, 1): how much of the running average is kept.

    Attributes:
        decision: the last :class:`~pyfront.control.Decision`, or None.

    Example:
        >>> [kind.__name__ for kind in Controller.__subclasses__()]
        ['PreferenceController', 'ConstraintController']
        >>> controller = PreferenceController([1.0, 1.0])
        >>> controller.weights([0.5, 0.5]).tolist(), controller.decision.status
        ([0.5, 0.5], 'ok')
    """

    def __init__(self, tasks: Tasks, maximize: bool | Collection[Key], averaging: float) -> None:
        self.tasks = tasks
        self.signs = tasks.signs(maximize)
        self.averaging = number("averaging", averaging, lowest=0.0, below=1.0)
        self.decision: Decision | None = None
        self._state: dict[str, Any] = {}

    @abstractmethod
    def _decide(
        self, falling: FloatArray, present: BoolArray, rate: float
    ) -> tuple[Decision, dict[str, Any]]:
        """Return the decision on values that are all to fall, and what changes in the state."""

    @abstractmethod
    def _compared(self, falling: FloatArray) -> FloatArray:
        """Return the values as the rule sees them."""

    def weights(self, values: Values, *, rate: float = 0.0) -> FloatArray | dict[str, float]:
        """Decide on the weights for the next step.

        Args:
            values: one per task, in order, or by name where the tasks have names; None for a task
                that was not measured now: its state is kept and its weight is 0.
            rate: the learning rate, with which the gains grow as it falls; 0 where there is none.

        Returns:
            The weights, ≥ 0, [m] float64, or by name. What they multiply is to be minimised for
            values that are to fall, and maximised for those in ``maximize``.

        Raises:
            ValueError: values that are not finite, or on which the rule is not defined; the value
                is named and the state has not changed.

        Example:
            >>> controller = PreferenceController([1.0, 1.0])
            >>> first, second = controller.weights([0.8, 0.2])  # the first lags behind
            >>> bool(first > second)
            True
        """
        array, present = self.tasks.values(values)
        rate = number("rate", rate, lowest=0.0)
        compared = self._compared(self.signs * array)
        decision, changed = self._decide(compared, present, rate)
        self._state.update(changed)
        self.decision = decision
        return self.tasks.named(decision.weights)

    def suggest_weights(self) -> Suggestion:
        """Return constant weights that end where this run is.

        Raises:
            ValueError: before the first decision.

        Example:
            >>> controller = PreferenceController([1.0, 1.0])
            >>> for _ in range(100):
            ...     weights = controller.weights([0.5, 0.5])
            >>> controller.suggest_weights().weights.round(6).tolist()
            [0.5, 0.5]
        """
        return suggestion(self._state, self.averaging, geometric=False)

    def state_dict(self) -> dict[str, Any]:
        """Return what has been learnt, as plain numbers and lists that JSON holds exactly.

        Example:
            >>> controller = PreferenceController([1.0, 1.0])
            >>> weights = controller.weights([0.8, 0.2])
            >>> controller.state_dict()["decisions"]
            1
        """
        state: dict[str, Any] = json.loads(json.dumps(self._state))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            ValueError: a state of another number of tasks; nothing has been loaded.

        Example:
            >>> controller = PreferenceController([1.0, 1.0])
            >>> weights = controller.weights([0.8, 0.2])
            >>> other = PreferenceController([1.0, 1.0])
            >>> other.load_state_dict(controller.state_dict())
            >>> other.weights([0.6, 0.4]).tolist() == controller.weights([0.6, 0.4]).tolist()
            True
        """
        saved = len(state.get("mean_losses", [0.0] * self.tasks.size))
        if saved != self.tasks.size:
            raise ValueError(f"state: it has {saved} tasks, expected {self.tasks.size}")
        self._state = json.loads(json.dumps(dict(state)))


class PreferenceController(Controller):
    """Hold values at l ∝ 1/r: :class:`~pyfront.PreferenceFeedback` on plain numbers.

    Args:
        preference: r, entries > 0, one per task, by position or by name; bigger means that this
            value must end nearer to its ideal.
        maximize: the values that are to rise, by position or name; True for all. They need an
            ``offset``.
        offset: o, the ideal of each value, in its own unit: l = (value − o) / u, or (o − value) / u
            for one that is to rise, must be ≥ 0. Zeros by default.
        unit: u > 0, the units in which values are compared. Ones by default.
        proportional: k ≥ 0.
        integral: i ≥ 0.
        averaging: β in [0, 1).
        floor: ρ in [0, 1), the least share of r in the weights.
        scheduled: whether the gains grow while the ``rate`` falls.

    Raises:
        ValueError, TypeError: an argument out of its range; it is named.

    Example:
        >>> controller = PreferenceController({"quality": 2.0, "brevity": 1.0}, maximize=True,
        ...                                   offset={"quality": 1.0, "brevity": 1.0})
        >>> weights = controller.weights({"quality": 0.5, "brevity": 0.5})
        >>> weights["quality"] > 2 * weights["brevity"]  # 1 − 0.5 is twice what r asks for
        True
    """

    def __init__(
        self,
        preference: PerValue,
        *,
        maximize: bool | Collection[Key] = (),
        offset: PerValue | None = None,
        unit: PerValue | None = None,
        proportional: float = 3.0,
        integral: float = 0.005,
        averaging: float = 0.9,
        floor: float = 0.05,
        scheduled: bool = True,
    ) -> None:
        super().__init__(Tasks.of("preference", preference), maximize, averaging)
        r = self.tasks.vector("preference", preference)
        require("preference", r, above=0.0)
        if offset is None and (self.signs < 0.0).any():
            raise ValueError("offset: a value that is to rise needs one, the best that it can be")
        ones = np.ones(self.tasks.size)
        self.preference = r / r.sum()
        self.offset = 0.0 * ones if offset is None else self.tasks.vector("offset", offset)
        self.unit = ones if unit is None else self.tasks.vector("unit", unit)
        require("offset", self.offset)
        require("unit", self.unit, above=0.0)
        self.rule = PreferenceRule(proportional, integral, averaging, floor, scheduled)

    def _compared(self, falling: FloatArray) -> FloatArray:
        return (falling - self.signs * self.offset) / self.unit

    def _decide(
        self, falling: FloatArray, present: BoolArray, rate: float
    ) -> tuple[Decision, dict[str, Any]]:
        hint = "; beyond its offset, the best that it can be"
        require("values", np.where(present, falling, 0.0), lowest=0.0, hint=hint)
        decision, changed = self.rule.decide(
            falling, self.preference, self._state, rate=rate, present=present
        )
        return decision._replace(weights=decision.weights / self.unit), changed

    def suggest_weights(self) -> Suggestion:
        """Return constant weights that end where this run is, of values in their own units."""
        found = suggestion(self._state, self.averaging, geometric=True)
        return found._replace(weights=found.weights / self.unit)


class ConstraintController(Controller):
    """Improve one value, or a weighted sum, while others stay within bounds, on plain numbers.

    :class:`~pyfront.ConstraintFeedback` has the mathematics.

    Args:
        tasks: names of the values, or how many there are.
        objective: the value to improve, or a weight > 0 for each of several.
        bounds: the target of each bounded value: a number, ``"<=200"``, or ``">=0.95"`` for one
            that is to rise.
        maximize: the values that are to rise, by position or name; True for all.
        unit: u > 0 for each bounded value, in which violations count; |b| by default.
        proportional: k ≥ 0.
        integral: i ≥ 0.
        averaging: β in [0, 1).

    Raises:
        ValueError, TypeError: an argument out of its range; it is named.

    Example:
        >>> controller = ConstraintController(["error", "accuracy", "latency"], objective="error",
        ...     bounds={"accuracy": ">=0.95", "latency": "<=200"}, maximize=["accuracy"])
        >>> weights = controller.weights({"error": 0.3, "accuracy": 0.97, "latency": 240.0})
        >>> weights["accuracy"], weights["latency"] > 0.0
        (0.0, True)
    """

    def __init__(
        self,
        tasks: int | Collection[str],
        *,
        objective: Key | Mapping[Key, float],
        bounds: Mapping[Key, float | str],
        maximize: bool | Collection[Key] = (),
        unit: Mapping[Key, float] | None = None,
        proportional: float = 0.3,
        integral: float = 0.003,
        averaging: float = 0.9,
    ) -> None:
        known = Tasks(tasks, None) if isinstance(tasks, int) else Tasks(len(tasks), tuple(tasks))
        super().__init__(known, maximize, averaging)
        goals = objective if isinstance(objective, Mapping) else {objective: 1.0}
        self.rule = constraint_rule(
            known.size,
            known.placed("objective", goals),
            {
                place: self.signs[place] * as_target(f"bounds[{place}]", target, self.signs[place])
                for place, target in known.placed("bounds", bounds).items()
            },
            known.placed("unit", unit or {}),
            Settings(proportional, integral, averaging),
        )

    def _compared(self, falling: FloatArray) -> FloatArray:
        return falling

    def _decide(
        self, falling: FloatArray, present: BoolArray, rate: float
    ) -> tuple[Decision, dict[str, Any]]:
        return self.rule.decide(falling, self._state, rate=rate, present=present)
