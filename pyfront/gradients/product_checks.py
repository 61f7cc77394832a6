"""What makes sure that a product C v is that of the losses, and the errors that say it is not.

Free, at every call: a loss without any derivative along d is named, and vᵀ C v must be ‖d‖². They
see a task whose derivative is hidden altogether, and a hidden part that is large in the sum. For
a part of one task of many, one more backward pass, at the first call and where the graph holds an
operator that no call before has held: :class:`Verified`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pyfront._utils.arguments import FloatArray
from pyfront._utils.torch_private import COMPILED_NODE, CONVERSION_NODE
from pyfront._utils.weakly import Weakly
from pyfront.backend.graph import graph_nodes, reaches
from pyfront.backend.sparse import inner
from pyfront.backend.task_gradients import Row, as_real
from pyfront.gradients.engine import Engine, NoParameterError, explained, weighted_gradient
from pyfront.gradients.grad_engine import GradEngine
from pyfront.gradients.losses import widened
from pyfront.gradients.product_errors import hidden
from pyfront.gradients.replay import Replay

__all__ = [
    "Verified",
    "check_columns",
    "check_hidden",
    "check_mixture",
    "check_norm",
    "check_precision",
    "check_still",
]

SHARE = 1e-3  # of the products: 1e4 times their rounding in float32
ROUNDING = 1e-4  # of ‖g‖ ‖d‖, where a product is small because the two are nearly orthogonal


class Verified:
    """What earlier calls have verified of the same losses: the kinds of operators in their graph.

    The names of the graph's nodes tell when it may hold a new operator, for a microsecond a node.
    """

    def __init__(self) -> None:
        self.tasks = 0
        self.params = Weakly()
        self.kinds: frozenset[str] = frozenset()
        self.flat = False  # a loss has no derivative to see, and rightly so: look every time
        self.differentiates = False  # the closure, see Replay

    def due(self, losses: Sequence[Tensor], params: Sequence[Tensor]) -> bool:
        """Whether a product of these losses is to be verified by a backward pass."""
        kinds = _kinds(losses)
        if COMPILED_NODE in kinds:  # its buffers serve a single pass
            return False
        return self.flat or not (self._same(losses, params) and kinds <= self.kinds)

    def note(self, losses: Sequence[Tensor], params: Sequence[Tensor], flat: bool) -> None:
        """Remember that a product of these losses has passed."""
        before = self.kinds if self._same(losses, params) else frozenset[str]()
        self.kinds = _kinds(losses) | before
        self.tasks, self.params, self.flat = len(losses), Weakly(params), flat

    def _same(self, losses: Sequence[Tensor], params: Sequence[Tensor]) -> bool:
        return len(losses) == self.tasks and self.params.are(params)


def _kinds(losses: Sequence[Tensor]) -> frozenset[str]:
    return frozenset(node.name() for node in graph_nodes(losses))


# ------------------------------------------------------------------------------- comparing numbers


def check_norm(
    products: str,
    values: FloatArray,
    direction: Row,
    weights: FloatArray,
    errors: FloatArray | float = 0.0,
) -> None:
    """Raise where vᵀ C v and ‖d‖² differ by more than the way's error and `errors` of C v."""
    squared = _length(direction) ** 2
    steepest = float(np.abs(values).max())  # ≤ ‖g_j‖ ‖d‖ for some task
    cancelled = squared < 1e-4 * steepest  # rounding of d alone could fail the test
    share = 0.5 if products == "difference" else 0.05  # up to 0.2 seen on residual networks
    allowed = share * squared + float((np.abs(weights) * errors).sum())
    found = float(weights @ values)
    if cancelled or not abs(found - squared) > allowed:
        return
    if products == "difference":
        raise ValueError(
            f"closure: along d = Jᵀ v the losses that it returns rise by vᵀ J d = {found:g}, and "
            f"by their gradients it is ‖d‖² = {squared:g}; it must compute them from the "
            "parameters, and not in half precision"
        )
    raise hidden(products, "a part of its derivative is")


def check_mixture(
    products: str,
    values: FloatArray,
    along: Row,
    losses: Sequence[Tensor],
    params: Sequence[Tensor],
    engine: Engine,
    retain_graph: bool,
) -> None:
    """Raise where sᵀ (J d) is not (Jᵀ s)ᵀ d, at weights s of which no two tasks can cancel.

    One backward pass for all tasks; it frees the graph unless that is to be kept.
    """
    s = _mixture(len(losses))
    row = _weighted(losses, s, params, engine, retain_graph)
    found, expected = float(s @ values), _inner(row, along)
    allowed = SHARE * float(np.linalg.norm(s * values)) + ROUNDING * _length(row) * _length(along)
    allowed *= _coarseness(losses, params)
    if abs(found - expected) > allowed:  # not so where something is not finite
        raise hidden(products, "a part of its derivative is")


def check_columns(
    what: str,
    found: FloatArray,
    diagonal: FloatArray,
    losses: Sequence[Tensor],
    params: Sequence[Tensor],
) -> None:
    """Raise where columns J g_j are not those of a Gramian with this diagonal.

    Row i of them is ĝ_i · g_j, where ĝ_i is what the way sees of g_i: where a part is hidden, it is
    not ‖g_i‖² at j = i, or not the same for i and j.

    Args:
        what: what errors call the way.
        found: the columns, [m, m].
        diagonal: ‖g_j‖², [m].
        losses: m scalar tensors.
        params: T parameters.
    """
    expected = found.T.copy()
    np.fill_diagonal(expected, diagonal)
    sizes = np.sqrt(diagonal)
    wrong = np.abs(found - expected) > SHARE * _coarseness(losses, params) * np.outer(sizes, sizes)
    if not wrong.any():  # not so where something is not finite
        return
    own = np.flatnonzero(np.diagonal(wrong))
    i, j = (own[0], own[0]) if own.size else np.argwhere(wrong)[0]
    tasks = f"losses[{i}]" if i == j else f"losses[{i}] or losses[{j}]"
    raise hidden(what, f"a part of the derivative of {tasks} is")


def _coarseness(losses: Sequence[Tensor], params: Sequence[Tensor]) -> float:
    """Return how much more rounding than in float32 is expected."""
    narrow = any(t.dtype.itemsize < 4 for t in (*losses, *params))
    if narrow or CONVERSION_NODE in _kinds(losses):  # autocast copies into half precision
        return 100.0
    return 10.0 if any(p.is_cuda for p in params) else 1.0  # perhaps TF32


def check_hidden(
    tasks: Sequence[int], losses: Sequence[Tensor], params: Sequence[Tensor], compute: bool
) -> bool:
    """Raise where one of these tasks, which the record does not hold, has a gradient.

    Args:
        tasks: their places in the losses.
        losses: m scalar tensors.
        params: T tensors.
        compute: the graph is still there, and a gradient that is zero shows that all is well.

    Returns:
        Whether any of them reaches a parameter.
    """
    reaching = [task for task in tasks if reaches(losses[task], params)]
    for task in reaching:
        if (
            not compute
            or _length(_weighted([losses[task]], np.ones(1), params, GradEngine(), True)) > 0.0
        ):
            raise hidden("double_backward", f"the derivative of losses[{task}] is")
    return bool(reaching)


def check_still(
    products: str,
    tasks: Sequence[int],
    replay: Replay,
    params: Sequence[Tensor],
    along: Row,
    errors: FloatArray,
    engine: Engine,
) -> None:
    """Raise where one of these tasks, whose loss did not move along d, has a gradient along d.

    The losses are computed once more, with a graph of their own: one backward pass for all tasks.
    """
    with torch.enable_grad():
        losses = replay.again()

    def moves(tasks: list[int]) -> bool:
        return _moves([losses[j] for j in tasks], params, along, errors[tasks], engine)

    if not moves(list(tasks)):
        return
    task = next((task for task in tasks if moves([task])), tasks[0])
    if products == "forward":
        raise hidden(products, f"the derivative of losses[{task}] is")
    raise ValueError(
        f"closure: along d = Jᵀ v losses[{task}] does not change at all, and by its gradient it "
        "does; the closure must compute it from the parameters at every call, and not in half "
        "precision"
    )


def _moves(
    losses: Sequence[Tensor],
    params: Sequence[Tensor],
    along: Row,
    errors: FloatArray,
    engine: Engine,
) -> bool:
    """Whether a mixture of the losses has a slope along d, or one was not computed anew."""
    if not all(loss.requires_grad for loss in losses):
        return True
    s = _mixture(len(losses))
    try:
        row = _weighted(losses, s, params, engine, retain_graph=True)
    except NoParameterError:
        return False
    except ValueError:  # of a graph that an earlier pass has freed
        return True
    allowed = float(s @ errors) + 10.0 * ROUNDING * _length(row) * _length(along)
    return abs(_inner(row, along)) > allowed


def _mixture(count: int) -> FloatArray:
    """Return weights in [1, 2) without simple ratios: fractional parts of multiples of √5 / 2."""
    weights: FloatArray = 1.0 + np.arange(1, count + 1) * (0.5 * 5.0**0.5) % 1.0
    return weights


def _weighted(
    losses: Sequence[Tensor],
    weights: FloatArray,
    params: Sequence[Tensor],
    engine: Engine,
    retain_graph: bool,
) -> Row:
    """Return Σ_j w_j g_j, without the hooks of a ``.grad`` where the engine allows that."""
    if not engine.stops_inside:
        return weighted_gradient(losses, weights.tolist(), params, engine, retain_graph)
    wide = widened(losses)
    roots = [torch.full_like(loss, w) for loss, w in zip(wide, weights, strict=True)]
    with explained("losses"):
        return torch.autograd.grad(
            wide, params, roots, retain_graph=retain_graph, allow_unused=True
        )


def _inner(a: Row, b: Row) -> float:
    both = zip(as_real(a), as_real(b), strict=True)
    pairs = [(x, y) for x, y in both if x is not None and y is not None]
    return sum(inner(x, y) for x, y in pairs)


def _length(row: Row) -> float:
    """Return ‖·‖ of the tensors together."""
    blocks = [t.coalesce().values() if t.is_sparse else t for t in as_real(row) if t is not None]
    norms = [torch.linalg.vector_norm(t, dtype=torch.float64).item() for t in blocks]
    return float(np.linalg.norm(norms))


def check_precision(losses: Sequence[Tensor], params: Sequence[Tensor]) -> None:
    """Raise a ``TypeError`` where a difference would have no digits."""
    for name, tensors in (("losses", losses), ("params", params)):
        for index, tensor in enumerate(tensors):
            if tensor.dtype.itemsize < 4:
                raise TypeError(
                    f"products='difference': {name}[{index}] is {tensor.dtype}, and a difference "
                    "in half precision has no digits; keep losses and parameters in float32, or "
                    "set products='double_backward' or 'forward'"
                )
