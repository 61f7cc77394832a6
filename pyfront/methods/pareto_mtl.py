"""Pareto multi-task learning: one solution in each region of loss space."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack, get_args

import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray, MatrixLike, boolean, choice
from pyfront._utils.loss_space import as_reference_vectors, check_index
from pyfront.backend import cuda as devices
from pyfront.backend.cuda import Decision
from pyfront.backend.solvers import ParetoMtlPhase, pareto_mtl
from pyfront.methods._feasibility import AVERAGE, advance, as_numbers, from_numbers
from pyfront.methods._regions import alternating, least, rows_of, vectors_among, with_first
from pyfront.optimizer.arithmetic import DecidesOnDevice
from pyfront.optimizer.bases import Base
from pyfront.optimizer.delegating import Memory
from pyfront.optimizer.multi_task import MultiTaskOptimizer
from pyfront.optimizer.options import CommonOptions, Option, at_least, integer_from, one_of
from pyfront.optimizer.presence import Presence
from pyfront.report import Report

__all__ = ["ParetoMTL"]


class ParetoMTL(MultiTaskOptimizer, DecidesOnDevice):
    """Descends to the front inside the region of loss space around one of K reference vectors.

    Losses l̃ = l / ‖l‖₂ are in region k where (u_j − u_k)ᵀ l̃ ≤ 0 for all j ≠ k. Phase
    ``"feasibility"`` moves into the region, until no constraint is active on a running average of
    the losses, the active ones pull against each other, or after ``warmup_steps``. Phase
    ``"descent"`` lowers all losses and keeps the active constraints, to first order along d (not
    along the update that a base such as Adam makes of it). Phase ``"convergence"``, which is
    entered by setting :attr:`phase`, drops the constraints.

    The weights α_i = λ_i + Σ_j β_j (u_ji − u_ki) are in the :class:`~pyfront.Report`; they may be
    negative in the feasibility phase, and do not sum to 1. K vectors make K independent runs.

    For a :class:`~pyfront.HyperNetwork`, whose subproblem changes at every step, give
    ``schedule="alternating"`` and the vectors of each step to :meth:`step`; see
    :func:`pyfront.preferences.decompose`.

    Args:
        base: the optimizer that makes the step, or a list of them.
        reference_vectors: directions in *loss space*, [K, m], entries ≥ 0, no duplicates; they are
            normalised. :func:`pyfront.preferences.circle`, ``das_dennis`` and
            ``to_reference_vectors`` make them.
        index: k, 0 ≤ k < K. None, with ``schedule="alternating"``: all K subproblems at once, each
            with its own m losses (of its own preference) and the other vectors as references; the
            losses are K m, those of subproblem 0 first.
        schedule: ``"sequential"`` runs the phases one after the other. ``"alternating"`` starts
            anew at every step: ``"feasibility"`` while a constraint is active, else
            ``"convergence"``, in one min-norm problem over the active constraints of the
            subproblems that are outside their region and the losses of those that are inside.
        warmup_steps: the most steps that the feasibility phase takes, ≥ 0.
        epsilon: ε ≥ 0: in the descent phase a constraint is active from (u_j − u_k)ᵀ l̃ ≥ −ε.
        rescale: multiply the weights of the descent phase by m / Σ|w|, as the authors' code does
            and the paper does not.
        **common: keywords of :class:`~pyfront.optimizer.MultiTaskOptimizer`.

    Raises:
        ValueError: vectors that are negative, not finite, zero, duplicate or not [K, m].
        IndexError: ``index`` out of range.

    Example:
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 0.5]))
        >>> vectors = [[0.0, 1.0], [0.7, 0.7], [1.0, 0.0]]
        >>> opt = ParetoMTL(torch.optim.SGD([x], lr=0.1), vectors, 1)
        >>> opt.step([x[0] ** 2, x[1] ** 2]).phase
        'feasibility'

    On a CUDA device the phase is kept there; to read :attr:`phase` or :attr:`feasible`, or to save
    the state, waits for it.

    Source: Lin et al., Pareto Multi-Task Learning, 2019, eq. (8) to (18), for any m. Constraints
    act on l / ‖l‖₂ where the paper has l: their sign is the same, and ε is free of the scale.
    Alternating: Lin et al., Controllable Pareto Multi-Task Learning, 2020, eq. (8) to (12), (20).
    Where that paper puts constraints and losses into one problem, which is ``"descent"`` here, the
    first Pareto critical point that a generator reaches holds every preference; so the two are
    separated.
    """

    counts_one_off_calls: ClassVar[bool] = True
    per_task: ClassVar[dict[str, float]] = {"mean_losses": 0.0, "seen": 0.0}

    schedule = Option[Literal["sequential", "alternating"]](one_of("sequential", "alternating"))
    warmup_steps = Option[int](integer_from(0))
    epsilon = Option[float](at_least(0.0))
    rescale = Option[bool](boolean)

    def __init__(
        self,
        base: Base,
        reference_vectors: MatrixLike,
        index: int | None,
        *,
        schedule: Literal["sequential", "alternating"] = "sequential",
        warmup_steps: int = 100,
        epsilon: float = 0.0,
        rescale: bool = False,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(base, **common)
        self._vectors = as_reference_vectors(reference_vectors)
        self.schedule = schedule
        if index is not None:
            check_index(index, len(self._vectors))
            self._vectors = with_first(self._vectors, index)
        elif schedule != "alternating":
            raise ValueError('index = None: needs schedule="alternating"')
        self.index = None if index is None else int(index)
        self.warmup_steps = warmup_steps
        self.epsilon = epsilon
        self.rescale = rescale
        self._device_vectors: Tensor | None = None  # of the last decision on a device
        self._device_state: Tensor | None = None  # what devices.pareto_mtl keeps
        self._on_host = False  # the memory is newer

    def backward(
        self,
        losses: Any,
        *,
        reference_vectors: MatrixLike | None = None,
        preference: Any = None,
        **options: Any,
    ) -> Report:
        """Fill ``.grad`` as the base class does, with reference vectors for this call alone.

        Args:
            losses: m scalar tensors, a 1-D tensor [m], or a callable that returns them.
            reference_vectors: [K, m] for this call; the optimizer's own where None. Phases are
                counted over all calls.
            preference: must be None: the reference vectors say what is wanted.
            **options: as for the other methods.
        """
        if preference is not None:
            self.checked_preference(preference)  # which this method refuses
        return self._run(losses, preference=reference_vectors, **options)

    def scalarize(
        self,
        losses: Any,
        *,
        reference_vectors: MatrixLike | None = None,
        preference: Any = None,
        **options: Any,
    ) -> Tensor:
        """:meth:`MultiTaskOptimizer.scalarize`; further arguments as for :meth:`backward`."""
        if preference is not None:
            self.checked_preference(preference)  # which this method refuses
        return self._scalarized(losses, preference=reference_vectors, **options)

    def goal(self, given: Any, tasks: int) -> FloatArray | None:
        """Return the reference vectors, of this call or our own, for so many losses.

        That of the subproblem comes first; where there are K subproblems, all in their order.
        """
        vectors = self._vectors
        if given is not None:
            vectors = as_reference_vectors(given)
            if self.index is not None:
                check_index(self.index, len(vectors))
                vectors = with_first(vectors, self.index)
        count, expected = vectors.shape
        per = "a reference vector"
        if self.index is None:
            expected, per = count * expected, "all reference vectors"
        if tasks != expected:
            raise ValueError(f"losses: expected {expected}, one per entry of {per}, got {tasks}")
        return vectors

    def goal_among(self, goal: FloatArray, presence: Presence) -> FloatArray:
        """Return the vectors for the tasks present: none where the subproblem's own is zero there.

        Where there are K subproblems they stay as they are: each has tasks of its own.
        """
        self._read_state()
        self._on_host = True
        return goal if self.index is None else vectors_among(goal, presence.places)

    def check_memory(self, memory: Memory) -> None:
        """Require one running average of a loss per task."""
        super().check_memory(memory)
        mean, tasks = memory.get("mean_losses"), self._vectors.shape[1]
        if mean is not None and len(mean) != tasks:
            raise ValueError(f"state_dict: it holds {len(mean)} mean losses, expected {tasks}")

    def decide(
        self, losses: FloatArray, gramian: FloatArray | None, preference: FloatArray | None
    ) -> Report:
        """Return the min-norm weights of M C Mᵀ, carried back to the losses: w = Mᵀ (λ, β)."""
        assert gramian is not None and preference is not None
        vectors = preference
        if self.index is None:
            places = None if self.present is None else self.present.places
            return alternating(losses, gramian, vectors, None, places)
        if self.schedule == "alternating":
            return least(gramian, [rows_of(losses, vectors)])
        phase = self.phase
        if self.memory.get("decided_in", phase) != phase:
            self.memory.pop("weights", None)  # an average over phases would mean nothing
        self.memory["decided_in"] = phase
        if len(vectors):
            report = pareto_mtl(losses, gramian, vectors, 0, phase, self.epsilon)
        else:
            report = least(gramian, [rows_of(losses, vectors)])
        if phase == "feasibility":
            advance(self, losses, vectors, report.status)
        elif phase == "descent" and self.rescale and report.weights.any():
            report.weights.mul_(losses.size / report.weights.abs().sum())
        return report

    @property
    def decides_on_device(self) -> bool:
        """Whether there is one subproblem whose phases follow each other.

        A device counts steps, and not those of each task: where they differ it is the host's.
        """
        seen = self.memory.get("seen", [])
        counts_differ = any(count != self.memory.get("warmup") for count in seen)
        waiting = self.memory.get("phase", "feasibility") == "feasibility"
        sequential = self.index is not None and self.schedule != "alternating"
        return sequential and not (waiting and counts_differ)

    def weights_solved_for(self, tasks: int, goal: FloatArray | None) -> int:
        """Return one per task, and one per constraint."""
        return tasks + (0 if goal is None else len(goal)) - 1

    def decide_on_device(
        self, losses: Tensor, gramian: Tensor | None, preference: FloatArray | None
    ) -> Decision:
        """Decide on the device, where the phase is kept too."""
        assert gramian is not None and preference is not None and self.index is not None
        state = self._state_on(losses)
        self._on_host = False
        on_device = self._device_vectors if preference is self._vectors else None
        if on_device is None or on_device.device != losses.device:
            on_device = devices.to_device(preference, losses.device)
            if preference is self._vectors:
                self._device_vectors = on_device
        return devices.pareto_mtl(
            losses,
            gramian,
            on_device,
            state,
            index=0,
            epsilon=self.epsilon,
            warmup_steps=self.warmup_steps,
            average=AVERAGE,
            rescale=self.rescale,
        )

    def _state_on(self, losses: Tensor) -> Tensor:
        """Return the state on the device of the losses, from memory where it has not been there."""
        state = self._device_state
        if state is None or state.device != losses.device:
            self._read_state()
            state = devices.to_device(
                as_numbers(self.memory, losses.numel(), self._first_phase), losses.device
            )
            self._device_state = state
        return state

    def _read_state(self) -> None:
        """Take into memory what a device has decided since."""
        if self._device_state is not None and not self._on_host:
            self.memory.update(from_numbers(self._device_state.tolist(), self.memory))

    def memory_to_save(self) -> Memory:
        """Return the memory with the phase that a device keeps."""
        self._read_state()
        return super().memory_to_save()

    def memory_loaded(self, memory: Memory) -> None:
        """Take over the memory of a checkpoint, on a device too."""
        super().memory_loaded(memory)
        self.publish()

    def __getstate__(self) -> dict[str, object]:
        self._read_state()
        return {**super().__getstate__(), "_device_state": None, "_device_vectors": None}

    def publish(self) -> None:
        """Tell the device what the memory holds; in place, where a CUDA graph may read it."""
        if self._device_state is not None:
            tasks = self._device_state.numel() - 3
            values = as_numbers(self.memory, tasks, self._first_phase)
            self._device_state.copy_(torch.from_numpy(values))
        self._on_host = False

    @property
    def phase(self) -> ParetoMtlPhase:
        """The phase of the next step; settable, for example to ``"convergence"``.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 0.5]))
            >>> opt = ParetoMTL(torch.optim.SGD([x], lr=0.1), [[0.0, 1.0], [1.0, 0.0]], 1)
            >>> opt.phase
            'feasibility'
            >>> opt.phase = "convergence"
        """
        self._read_state()
        phase: ParetoMtlPhase = self.memory.get("phase", self._first_phase)
        return phase

    @phase.setter
    def phase(self, value: ParetoMtlPhase) -> None:
        choice("phase", value, get_args(ParetoMtlPhase))
        self._read_state()
        self.memory["phase"] = value
        self.memory.pop("weights", None)  # decide anew at the next step
        self.publish()

    @property
    def _first_phase(self) -> ParetoMtlPhase:
        return "feasibility" if self.warmup_steps > 0 else "descent"

    @property
    def feasible(self) -> bool | None:
        """Whether the feasibility phase ended in the region; None before it has ended.

        Example:
            >>> x = torch.nn.Parameter(torch.tensor([1.0, 0.5]))
            >>> opt = ParetoMTL(torch.optim.SGD([x], lr=0.1), [[0.0, 1.0], [1.0, 0.0]], 1)
            >>> report = opt.step([x[0] ** 2, x[1] ** 2])
            >>> opt.feasible  # (1, 0.25) is nearer to (1, 0) than to (0, 1)
            True
        """
        self._read_state()
        found: bool | None = self.memory.get("feasible")
        return found
