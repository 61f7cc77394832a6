"""`diagnose`: from losses and parameters to a diagnosis."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from torch import Tensor

from pyfront._utils.arguments import integer, number
from pyfront.diagnosis.batches import LossBatches, loss_batches, several
from pyfront.diagnosis.diagnosis import Diagnosis
from pyfront.diagnosis.measure import measure
from pyfront.diagnosis.numbers import diagnosis_of

__all__ = ["diagnose"]

Parameters: TypeAlias = "Iterable[Tensor] | Iterable[tuple[str, Tensor]]"


def diagnose(
    losses: LossBatches, parameters: Parameters, *, batches: int = 16, overlap: float = 1.0
) -> Diagnosis:
    """Tell whether tasks conflict, and what follows for the choice of a method.

    Let g_j be the gradient of loss j over the parameters that two tasks reach. Two tasks conflict
    where the cosine of their expected gradients is below −0.05, beyond what noise explains at
    97.5% over all pairs (Student's t). The expectation comes from pairs of batches, whose noise is
    independent: E⟨g_i, g_j'⟩ = ⟨E g_i, E g_j⟩. Where noise hides it, the cosine within single
    batches is judged, which shared noise can move and other noise shrinks. Nothing is trained:
    parameters and ``.grad`` stay as they are, and graphs are kept.

    It speaks of the model as it is: before training, and again when losses have fallen. A conflict
    of gradients does not prove that fixed weights end worse, and tuned ones are what to compare
    with. In several processes it looks at this process's batches.

    Args:
        losses: of one batch, as for ``step``: m scalar tensors with a graph (None: no data for that
            task), a 1-D tensor [m], or a dict by name. Or several batches of these, drawn as in
            training: a list, of which all are taken; or a generator, or a callable that draws a
            batch and returns its losses, where the graph of one batch at a time is alive.
        parameters: ``model.parameters()`` or ``model.named_parameters()``; those without
            ``requires_grad`` are left out.
        batches: the most batches that a generator or a callable is asked for, ≥ 1. Expected
            gradients need four; noise falls with their number.
        overlap: the share of samples that the tasks have in common, in [0, 1]. 1 where all losses
            are computed on the same ones. Below 0.3 cosines are not judged.

    Returns:
        A :class:`Diagnosis`: printed, it is a table with a verdict.

    Raises:
        TypeError: losses or parameters of other types.
        ValueError: no loss, no parameter, a loss that is not finite, has no graph or reaches no
            parameter; the task is named. Sharded parameters. ``batches`` or ``overlap`` out of
            range.

    Example:
        >>> import pyfront
        >>> x = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
        >>> found = pyfront.diagnose({"a": (x[0] - x[1] + 1) ** 2, "b": (x[1] + 1) ** 2}, [x])
        >>> round(found.cosines[0, 1].item(), 3), found.outcome
        (-0.707, 'tolerable')

    Source: the bound on the overlap is that of Zhang and Cheng 2026, arXiv:2604.07848 (molecular
    data; 30 to 40%). The rules of the verdict are ours.
    """
    batches = integer("batches", batches, 1)
    overlap = number("overlap", overlap, lowest=0.0, highest=1.0)
    names, params = _named(parameters)
    if not several(losses):
        batches = 1
    return diagnosis_of(measure(loss_batches(losses, batches), params), names, overlap)


def _named(parameters: Any) -> tuple[list[str], list[Tensor]]:
    """Return names and tensors of the parameters that require a gradient."""
    if isinstance(parameters, Tensor) or not isinstance(parameters, Iterable):
        raise TypeError(f"parameters: expected an iterable, got {type(parameters).__name__}")
    found: dict[int, tuple[str, Tensor]] = {}
    for place, entry in enumerate(parameters):
        name, p = entry if isinstance(entry, tuple) and len(entry) == 2 else (str(place), entry)
        if not isinstance(p, Tensor):
            raise TypeError(f"parameters[{place}]: expected a tensor, got {type(p).__name__}")
        if hasattr(p, "to_local"):
            raise ValueError(f"parameters[{place}]: is sharded; diagnose before the model is")
        if p.requires_grad:
            found.setdefault(id(p), (str(name), p))
    if not found:
        raise ValueError("parameters: none of them requires a gradient")
    return [name for name, _ in found.values()], [p for _, p in found.values()]
