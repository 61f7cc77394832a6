"""The one backward() and step() that every method shares."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from pyfront import gradients as grad
from pyfront._arguments import FloatArray, VectorLike, choice, integer, require
from pyfront.delegation import DelegatingOptimizer
from pyfront.gradients import Engine, TaskGradients
from pyfront.preferences import as_preference
from pyfront.report import Report
from pyfront.roles import task_specific

__all__ = ["MultiTaskOptimizer"]

Losses: TypeAlias = "Sequence[Tensor] | Tensor"


class Batch(NamedTuple):
    """What one call of backward() works on."""

    losses: list[Tensor]  # m losses to trade off, then the fixed one if there is one
    values: FloatArray  # [m], unscaled
    preference: FloatArray | None  # [m]
    unit: float  # the gradient scaler's factor on `losses`, 1 without one
    sound: bool  # every value is finite


class MultiTaskOptimizer(DelegatingOptimizer):
    """Wraps a base optimizer and gives it the direction that a method decides on.

    ``backward(losses)`` fills ``.grad`` with d = Σ_j w_j g_j and updates nothing; ``step(losses)``
    does that and then calls the base optimizer's step. Learning-rate schedulers, gradient scalers
    and checkpoints work on this object as on the base.

    Args:
        base: any optimizer but LBFGS; its parameters are the ones that count.
        preference: r, [m], or None for methods without one.
        engine: ``"grad"`` (one ``torch.autograd.grad`` per loss), ``"steal"`` (one ``backward`` per
            loss, for reentrant checkpoints; leaves outside the optimizer then collect ``.grad``
            too) or ``"auto"``, which looks at the graph of the first step.
        gramian_over: ``"all"`` parameters, or the ``"shared"`` ones that two losses reach.
        task_gradients: what a parameter that one loss alone reaches gets: ``"weighted"``, w_j g_j,
            or its ``"own"`` gradient g_j.
        scale: ``"mean"`` leaves w as the method gives it (it sums to 1 for most); ``"sum"``
            multiplies w by m, the step of ``sum(losses).backward()``.
        weight_smoothing: s in [0, 1): the applied weights are the running average
            w̄ ← s w̄ + (1 − s) w. 0 is the papers' own; 0.9 is recommended for mini-batches. The
            guarantees of single steps hold for 0 alone.
        every: decide on new weights every so many steps and keep them between, where a step costs
            one backward pass.

    Raises:
        TypeError, ValueError: an argument out of its range; it is named.

    Shared and task-specific parameters are told apart by the group key ``role="task"`` where any
    group has a role, else by the losses of the first step, until :meth:`detect_roles`.
    """

    needs: ClassVar[Literal["losses", "gramian"]] = "gramian"
    preference_domain: ClassVar[Literal["none", "nonnegative", "positive"]] = "none"

    def __init__(
        self,
        base: torch.optim.Optimizer,
        preference: VectorLike | None = None,
        *,
        engine: Engine = "auto",
        gramian_over: Literal["all", "shared"] = "all",
        task_gradients: Literal["weighted", "own"] = "weighted",
        scale: Literal["mean", "sum"] = "mean",
        weight_smoothing: float = 0.0,
        every: int = 1,
    ) -> None:
        super().__init__(base)
        choice("engine", engine, ("auto", "grad", "steal"))
        choice("gramian_over", gramian_over, ("all", "shared"))
        choice("task_gradients", task_gradients, ("weighted", "own"))
        choice("scale", scale, ("mean", "sum"))
        if not 0.0 <= weight_smoothing < 1.0:
            raise ValueError(f"weight_smoothing = {weight_smoothing!r}: must be in [0, 1)")
        self.engine: Engine = engine
        self.gramian_over = gramian_over
        self.task_gradients = task_gradients
        self.scale = scale
        self.weight_smoothing = float(weight_smoothing)
        self.every = integer("every", every, 1)
        self.report: Report | None = None
        self._accumulated: tuple[list[grad.Row], FloatArray] | None = None
        if self.preference_domain != "none" or preference is not None:
            r = self._checked_preference(preference)  # type: ignore[arg-type]
            self.memory["preference"] = torch.from_numpy(r)

    # --------------------------------------------------------------------- what a method has to say

    @abstractmethod
    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """The method: from losses [m], Gramian [m, m] and preference [m] to weights [m]."""

    def check_losses(self, losses: FloatArray) -> None:
        """Raises a ``ValueError`` that names the first loss on which the method is not defined."""
        require("losses", losses)

    # ------------------------------------------------------------------------------- the two phases

    @_disable_dynamo  # imports dynamo when it is called, torch._dynamo.disable when we are
    def backward(
        self,
        losses: Losses,
        *,
        preference: VectorLike | None = None,
        scaler: torch.amp.GradScaler | None = None,
        fixed: Tensor | None = None,
        retain_graph: bool = False,
    ) -> Report:
        """Fills ``.grad`` with the direction Σ_j w_j g_j and updates nothing.

        ``.grad`` is overwritten, not added to; a parameter that no loss reaches gets None. Tensor
        hooks run; post-accumulate hooks and module full-backward hooks run where a step costs one
        backward pass, and under ``engine="steal"``.

        Args:
            losses: m scalar tensors, or a 1-D tensor [m], with a graph.
            preference: r for this call; the optimizer's own where None.
            scaler: a gradient scaler: the losses are scaled by it, the method decides on unscaled
                numbers, and ``.grad`` is left scaled for ``scaler.unscale_`` and ``scaler.step``.
                Losses or gradients that are not finite then do not raise: ``.grad`` is made NaN, so
                that the scaler skips the step, and the status is ``"nonfinite"``.
            fixed: a further scalar loss that is added with weight 1 and not traded off.
            retain_graph: keep the graph of the losses.

        Returns:
            The :class:`Report` of what was decided; it is also ``self.report``.

        Raises:
            ValueError, TypeError: losses, preference or gradients that cannot be used; the task and
                the value are named, and parameters, ``.grad`` and state are as they were.
        """
        batch = self._batch(losses, preference, scaler, fixed)
        params = self._params()
        one_backward = self._accumulated is None and self.task_gradients == "weighted"
        if one_backward and batch.sound and not (self.needs == "gramian" and self._due()):
            report, kept = self._weigh(batch, None)
            weights = self._with_fixed(report.weights, batch)
            direction = grad.weighted_gradient(
                batch.losses, weights.tolist(), params, self._engine_for(batch.losses), retain_graph
            )
        else:
            gradients = TaskGradients(self._rows(batch.losses, params, retain_graph))
            roles = self._task_specific(gradients.rows[: batch.values.size], params)
            report, kept = self._weigh(batch, self._gramian(gradients, roles, batch, scaler))
            weights = self._with_fixed(report.weights, batch)
            direction = self._direction(gradients, weights, params, roles)
            if roles is not None:
                self.memory["task_specific"] = torch.tensor(roles)
        grad.assign(params, direction)
        if kept is not None:
            self.memory.update(weights=kept, age=self.memory.get("age", 0) + 1)
        self._accumulated = None
        self.report = report
        return report

    @_disable_dynamo  # imports dynamo when it is called, torch._dynamo.disable when we are
    def accumulate(self, losses: Losses, *, scaler: torch.amp.GradScaler | None = None) -> None:
        """Adds the task gradients of a micro-batch to those of the next :meth:`backward`.

        The m gradients are summed and the decision is made on the sum, as if the micro-batches had
        been one batch: scale each micro-batch's losses by its share of it.

        Args:
            losses: m scalar tensors, or a 1-D tensor [m], with a graph; it is freed.
            scaler: as for :meth:`backward`.

        Raises:
            ValueError, TypeError: as for :meth:`backward`.
        """
        batch = self._batch(losses, None, scaler, None)
        self._accumulated = (self._rows(batch.losses, self._params(), False), batch.values)

    def step(  # type: ignore[override]
        self,
        closure: Losses | Callable[[], Losses] | None = None,
        **options: Any,
    ) -> Report | None:
        """One step of the base optimizer, after :meth:`backward` if there are losses.

        Args:
            closure: the losses; a callable that returns them, called once with gradients enabled;
                or None, which steps on the ``.grad`` that is there.
            **options: keywords of :meth:`backward`, such as ``preference`` and ``fixed``.

        Returns:
            The :class:`Report`, or None where no losses were given.
        """
        report = None
        if closure is not None:
            losses = closure
            if callable(losses) and not isinstance(losses, Tensor):
                with torch.enable_grad():
                    losses = losses()
            report = self.backward(losses, **options)
        self.base.step()
        return report

    step.hooked = True  # type: ignore[attr-defined]  # the base's step runs the hooks, once

    # ------------------------------------------------------------------------------------ the parts

    def _batch(
        self,
        losses: Losses,
        preference: VectorLike | None,
        scaler: torch.amp.GradScaler | None,
        fixed: Tensor | None,
    ) -> Batch:
        roots = grad.as_losses(losses)
        values = grad.loss_values(roots)
        if self._accumulated is not None:
            before = self._accumulated[1]
            if before.size != values.size:
                raise ValueError(
                    f"losses: expected {before.size} as in accumulate(), got {len(roots)}"
                )
            values = values + before
        r = self._preference_for(preference, values.size)
        sound = bool(np.isfinite(values).all())
        if sound or scaler is None:
            self.check_losses(values)
        if fixed is not None:
            extra = grad.as_losses([fixed], name="fixed")
            if scaler is None:
                require("fixed", grad.loss_values(extra))
            roots += extra
        if scaler is not None:
            roots = [scaler.scale(loss) for loss in roots]
        unit = 1.0 if scaler is None else float(scaler.get_scale())
        return Batch(roots, values, r, unit, sound)

    def _rows(
        self, losses: list[Tensor], params: list[Tensor], retain_graph: bool
    ) -> list[grad.Row]:
        engine = self._engine_for(losses)
        rows = grad.task_rows(losses, params, engine, retain_graph)
        if self._accumulated is not None:
            before = self._accumulated[0]
            rows[: len(before)] = [
                grad.add_rows(a, b) for a, b in zip(before, rows[: len(before)], strict=True)
            ]
        return rows

    def _gramian(
        self,
        gradients: TaskGradients,
        roles: list[bool] | None,
        batch: Batch,
        scaler: object,
    ) -> FloatArray:
        """C of the m losses in their own unit; all of it NaN if anything is not finite."""
        if self.gramian_over == "shared" and roles is not None:
            shared = [block for block, own in enumerate(roles) if not own]
            if not shared:
                raise ValueError("gramian_over='shared': no parameter is reached by two losses")
            gradients = gradients.select(shared)
        m = batch.values.size
        c = gradients.gramian()[:m, :m] / batch.unit**2
        diagonal = np.diagonal(c)
        if batch.sound and np.isfinite(diagonal).all():
            return c
        if scaler is None:
            task = int(np.flatnonzero(~np.isfinite(diagonal))[0])
            raise ValueError(
                f"losses[{task}] = {batch.values[task]:g}: its gradient is not finite "
                f"(squared norm {diagonal[task]:g})"
            )
        return np.full_like(c, np.nan)

    def _weigh(self, batch: Batch, c: FloatArray | None) -> tuple[Report, Tensor | None]:
        """The report with the weights to apply, and the weights to keep for later steps."""
        losses = torch.from_numpy(batch.values)
        gramian = None if c is None else torch.from_numpy(c)
        if c is not None and np.isnan(c[0, 0]):
            nan = torch.full_like(losses, torch.nan)
            return Report(weights=nan, losses=losses, gramian=gramian, status="nonfinite"), None
        previous: Tensor | None = self.memory.get("weights")
        s = self.weight_smoothing
        if self._due():
            report = self.decide(batch.values, c, batch.preference)
            kept = report.weights
            if s > 0.0 and previous is not None and previous.shape == kept.shape:
                kept = s * previous + (1.0 - s) * kept
        else:
            kept = previous if previous is not None else losses
            report = Report(weights=kept)
        applied = kept * kept.numel() if self.scale == "sum" else kept
        report = replace(report, weights=applied, losses=losses, gramian=gramian)
        return report, kept if s > 0.0 or self.every > 1 else None

    def _direction(
        self,
        gradients: TaskGradients,
        weights: FloatArray,
        params: list[Tensor],
        roles: list[bool] | None,
    ) -> list[Tensor | None]:
        out = grad.direction_buffers(gradients, params)
        if self.task_gradients == "weighted" or roles is None:
            gradients.combine(weights, out)
            return out
        plain = np.where(np.isnan(weights), np.nan, 1.0)
        for own, w in ((False, weights), (True, plain)):
            blocks = [block for block, flag in enumerate(roles) if flag == own]
            gradients.select(blocks).combine(w, [out[block] for block in blocks])
        return out

    # -------------------------------------------------------------------------------------- lookups

    def _due(self) -> bool:
        return "weights" not in self.memory or self.memory["age"] % self.every == 0

    def _with_fixed(self, weights: Tensor, batch: Batch) -> FloatArray:
        return np.append(weights.numpy(), [1.0] * (len(batch.losses) - batch.values.size))

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _engine_for(self, losses: list[Tensor]) -> Engine:
        self.engine = grad.choose_engine(self.engine, losses)
        return self.engine

    def _checked_preference(self, value: VectorLike, length: int | None = None) -> FloatArray:
        if self.preference_domain == "none":
            raise TypeError(f"preference: {type(self).__name__} takes none")
        return as_preference(
            value, positive=self.preference_domain == "positive", length=length
        ).copy()

    def _preference_for(self, preference: VectorLike | None, tasks: int) -> FloatArray | None:
        if preference is not None:
            r = self._checked_preference(preference)
        elif self.preference is not None:
            r = self.preference.numpy()
        else:
            return None
        if r.size != tasks:
            raise ValueError(f"losses: expected {r.size}, one per entry of preference, got {tasks}")
        return r

    def _task_specific(self, rows: Sequence[grad.Row], params: list[Tensor]) -> list[bool] | None:
        """For each parameter whether one loss alone reaches it; None if no option asks for it."""
        if self.gramian_over == "all" and self.task_gradients == "weighted":
            return None
        known: Tensor | None = self.memory.get("task_specific")
        if known is not None and known.numel() == len(params):
            return [bool(flag) for flag in known.tolist()]
        return task_specific(self.param_groups, rows)

    def detect_roles(self) -> None:
        """Forgets which parameters are task-specific; the next :meth:`backward` looks again."""
        self.memory.pop("task_specific", None)

    @property
    def preference(self) -> Tensor | None:
        """r, [m] float64 as it was given, or None. Settable between steps."""
        return self.memory.get("preference")

    @preference.setter
    def preference(self, value: VectorLike) -> None:
        current = self.preference
        r = self._checked_preference(value, None if current is None else current.numel())
        self.memory["preference"] = torch.from_numpy(r)

    def metrics(self) -> dict[str, float]:
        """The numbers of the last report as a flat dict for any logger; empty before the first."""
        return {} if self.report is None else self.report.metrics()

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_accumulated": None}

    def __repr__(self) -> str:
        preference = "" if self.preference is None else f", preference={self.preference.tolist()}"
        return f"{type(self).__name__}({type(self.base).__name__}{preference})"
