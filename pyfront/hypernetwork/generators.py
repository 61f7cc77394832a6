"""From preferences to the entries of a main network: the trained part of a hypernetwork."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from pyfront._utils.arguments import boolean, integer, number
from pyfront.hypernetwork.factored_linear import Factors

__all__ = ["ChunkedGenerator", "PlainGenerator", "generator_for"]

# What K preferences give for each tensor, of unit variance at the start: [K, entries] or K weights.
Generated: TypeAlias = "Sequence[Tensor | list[Factors]]"


def _features(inputs: int, hidden: Sequence[int]) -> nn.Sequential:
    """Build linear, ReLU and normalisation for each width; outputs have mean square 1.

    The normalisation makes the variance of what a random projection makes of the features the same
    for every input, and its centring keeps different chunks from starting as near copies.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        linear = nn.Linear(inputs, width)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.ReLU(), nn.LayerNorm(width, elementwise_affine=False)]
        inputs = width
    return nn.Sequential(*layers)


class PlainGenerator(nn.Module):
    """A fully connected network from p / ‖p‖₂ to all entries, for small main networks.

    Args:
        num_tasks: m.
        shapes: of the tensors that it generates.
        hidden: widths of the hidden layers.

    Example:
        >>> PlainGenerator(2, [(2, 3), (4,)], (50, 50))(torch.eye(2))[1].shape
        torch.Size([2, 4])
    """

    def __init__(
        self, num_tasks: int, shapes: Sequence[Sequence[int]], hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.matrices: list[int] = []  # it has no factors
        self.sizes = [math.prod(shape) for shape in shapes]
        self.features = _features(num_tasks, hidden)
        self.projection = nn.Linear(hidden[-1], sum(self.sizes))
        nn.init.normal_(self.projection.weight, std=1.0 / math.sqrt(hidden[-1]))
        nn.init.zeros_(self.projection.bias)

    def forward(self, directions: Tensor, *, whole: bool = False) -> Generated:
        """Return the entries of each tensor for ``directions`` [K, m]."""
        entries = torch.split(self.projection(self.features(directions)), self.sizes, dim=1)
        return list(entries)


class RowBlocks(nn.Module):
    """The projection and the chunk embeddings of one large matrix: its chunks are blocks of rows.

    Args:
        shape: O and I, of the matrix.
        rows: R, of a chunk; chunk k has the rows r ⌈O / R⌉ + k.
        embedding: q.
        width: d.
    """

    def __init__(self, shape: Sequence[int], rows: int, embedding: int, width: int) -> None:
        super().__init__()
        outputs, inputs = shape
        self.outputs = outputs
        self.embeddings = nn.Parameter(torch.randn(math.ceil(outputs / rows), embedding))
        self.projection = nn.Parameter(torch.randn(rows, width, inputs) / math.sqrt(width))

    def factors(self, coefficients: Tensor) -> list[Factors]:
        """Return the matrix of each of K preferences from ``coefficients``, [K, ⌈O / R⌉, d]."""
        mean = coefficients.new_zeros(())
        recorded = torch.is_grad_enabled()  # now, and not when the forward uses them
        projection = self.projection if recorded else self.projection.detach()
        return [Factors(projection, a, mean, self.outputs) for a in coefficients]


class ChunkedGenerator(nn.Module):
    """All chunks of the tensors in one batched pass.

    The embedding e = Σ p_i e_i / ‖p‖₂ of the preference is joined to the embedding c_k of the
    chunk, layers turn both into a ∈ R^d, and the chunk is W a. The e_i start orthogonal and equally
    long, which makes e as long for every preference. Each of ``matrices`` has a projection W of its
    own and chunks of whole rows; all other entries, one after another, share one.

    Args:
        num_tasks: m.
        shapes: of the tensors that it generates.
        chunk: entries in a chunk of the other tensors; their last chunk may be cut.
        embedding: q, the size of an embedding.
        hidden: widths of the layers; the last is d.
        matrices: the rows of a chunk, for the indices of the matrices with their own projection.

    Example:
        >>> tensors = ChunkedGenerator(2, [(10, 9), (10,)], 30, 8, (16, 16))(torch.eye(2))
        >>> [entries.shape for entries in tensors]
        [torch.Size([2, 90]), torch.Size([2, 10])]

    Source: Lin et al., Controllable Pareto Multi-Task Learning, 2020, section 5.1 and figure 5,
    with the division by ‖p‖₂, without which the variance differs by a factor m over the simplex.
    """

    def __init__(
        self,
        num_tasks: int,
        shapes: Sequence[Sequence[int]],
        chunk: int,
        embedding: int,
        hidden: Sequence[int],
        matrices: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        self.matrices = list(matrices)
        sizes = (math.prod(shape) for shape in shapes)
        self.sizes = [0 if i in matrices else size for i, size in enumerate(sizes)]
        width, chunks = hidden[-1], math.ceil(sum(self.sizes) / max(chunk, 1))
        self.task_embeddings = nn.Parameter(torch.empty(num_tasks, embedding))
        self.chunk_embeddings = nn.Parameter(torch.randn(chunks, embedding))
        self.features = _features(2 * embedding, hidden)
        self.projection = nn.Parameter(torch.randn(chunk, width) / math.sqrt(width))
        if num_tasks <= embedding:
            nn.init.orthogonal_(self.task_embeddings, gain=math.sqrt(embedding))
        else:
            nn.init.normal_(self.task_embeddings)
        self.blocks = nn.ModuleList(
            RowBlocks(shapes[i], rows, embedding, width) for i, rows in matrices.items()
        )

    def forward(self, directions: Tensor, *, whole: bool = False) -> Generated:
        """Return the entries of each tensor, or its factors, for ``directions`` [K, m].

        ``whole`` asks for entries alone: the parameters of a sharded module are there in its
        forward, and not for who has their factors.
        """
        blocks = [cast(RowBlocks, module) for module in self.blocks]
        embeddings: list[Tensor] = [self.chunk_embeddings, *(b.embeddings for b in blocks)]
        preferences, chunks = directions @ self.task_embeddings, torch.cat(embeddings)
        pairs = (len(preferences), len(chunks), -1)
        both = [preferences[:, None].expand(*pairs), chunks[None].expand(*pairs)]
        features = self.features(torch.cat(both, dim=-1))
        first, *others = features.split([len(e) for e in embeddings], dim=1)
        entries = (first @ self.projection.T).flatten(1)[:, : sum(self.sizes)]
        tensors: list[Tensor | list[Factors]] = list(entries.split(self.sizes, dim=1))
        for index, block, coefficients in zip(self.matrices, blocks, others, strict=True):
            matrices = block.factors(coefficients)
            tensors[index] = (
                torch.stack([matrix.weight().flatten() for matrix in matrices])
                if whole
                else matrices
            )
        return tensors

    @classmethod
    def of_size(
        cls,
        num_tasks: int,
        shapes: Sequence[Sequence[int]],
        parameters: int,
        embedding: int | None = None,
        hidden: Sequence[int] | None = None,
        matrices: Collection[int] = (),
    ) -> ChunkedGenerator:
        """Return the generator with the largest chunks that has at most ``parameters`` parameters.

        Args:
            num_tasks: m.
            shapes: of the tensors that it generates.
            parameters: the target.
            embedding: q; half the first width where None.
            hidden: widths; two layers that take an eighth of the target where None, at most 128.
            matrices: indices of those that may have a projection of their own. One whose share of
                the target, by its entries, is too small for a row goes without.

        Raises:
            ValueError: the target is too small for the embeddings and the layers.
        """
        if hidden is None:
            hidden = 2 * (min(max(math.isqrt(parameters // 16), 8), 128),)
        d, q = hidden[-1], max(hidden[0] // 2, 2) if embedding is None else embedding
        layers = sum((a + 1) * b for a, b in itertools.pairwise((2 * q, *hidden)))
        budget = parameters - layers - num_tasks * q
        entries = sum(map(math.prod, shapes))
        rows = _rows_of_chunks(shapes, matrices, budget, q, d)
        for i, count in rows.items():
            entries -= math.prod(shapes[i])
            budget -= _parameters_of(shapes[i], count, q, d)
        chunk = _largest_chunk(entries, budget, q, d)
        if chunk is None and rows:  # for the others nothing sufficient is left
            return cls.of_size(num_tasks, shapes, parameters, embedding, hidden)
        if chunk is None:
            raise ValueError(
                f"size: {parameters} parameters are too few for a chunked hypernetwork with "
                f"embedding = {q} and hidden = {tuple(hidden)} that generates {entries}; choose a "
                "larger size, smaller layers, or plain=True"
            )
        return cls(num_tasks, shapes, chunk, q, hidden, rows)


def _rows_of_chunks(
    shapes: Sequence[Sequence[int]],
    matrices: Collection[int],
    budget: int,
    embedding: int,
    width: int,
) -> dict[int, int]:
    """Return the largest R of each of ``matrices`` within its share of ``budget`` parameters.

    What the other tensors need at least is kept for them: their chunks of c entries cost at most
    (c + 1) d + (rest / c + 1) q, which is least at c² = rest q / d. A matrix whose share is less
    than a row is left out.
    """
    sizes = [math.prod(shape) for shape in shapes]
    large = sum(sizes[i] for i in matrices)
    least = 2.0 * math.sqrt(width * embedding * (sum(sizes) - large)) + width + embedding
    for_matrices = min(budget * large / sum(sizes), budget - least)
    found = {}
    for i in matrices:
        outputs, inputs = shapes[i]
        share = for_matrices * sizes[i] / large
        rows = min(int(share / (inputs * width)), outputs)
        while rows > 0 and _parameters_of(shapes[i], rows, embedding, width) > share:
            rows -= 1
        if rows > 0:
            found[i] = rows
    return found


def _parameters_of(shape: Sequence[int], rows: int, embedding: int, width: int) -> int:
    """Return how many parameters the blocks of ``rows`` rows of a matrix take."""
    outputs, inputs = shape
    return rows * inputs * width + math.ceil(outputs / rows) * embedding


def _largest_chunk(entries: int, budget: int, embedding: int, width: int) -> int | None:
    """Return the largest c with c d + ⌈entries / c⌉ q ≤ budget, None where there is none."""
    rest = budget**2 - 4 * width * entries * embedding
    if budget <= 0 or rest < 0:
        return None
    chunk = min(int((budget + math.sqrt(rest)) / (2 * width)), entries)
    while chunk > 1 and chunk * width + math.ceil(entries / chunk) * embedding > budget:
        chunk -= 1  # what rounding the number of chunks up costs
    return max(chunk, min(entries, 1))


def generator_for(
    num_tasks: int,
    shapes: Sequence[Sequence[int]],
    matrices: Collection[int],
    size: float,
    plain: bool,
    embedding: int | None,
    hidden: Sequence[int] | None,
) -> PlainGenerator | ChunkedGenerator:
    """Return the generator that the options of :class:`~pyfront.HyperNetwork` ask for.

    ``size`` counts the one factor a tensor that is trained beside the generator; ``matrices`` are
    the indices of those that may have a projection of their own.
    """
    size = number("size", size, above=0.0)
    if hidden is not None:
        if not isinstance(hidden, Iterable):
            raise TypeError(f"hidden: expected a list of widths, got {hidden!r}")
        hidden = [integer(f"hidden[{i}]", width, 1) for i, width in enumerate(hidden)]
        if not hidden:
            raise ValueError("hidden: expected at least one width")
    if boolean("plain", plain):
        if embedding is not None:
            raise ValueError("embedding: a plain hypernetwork has none")
        return PlainGenerator(num_tasks, shapes, hidden or (50, 50))
    if embedding is not None:
        integer("embedding", embedding, 1)
    target = round(size * sum(map(math.prod, shapes))) - len(shapes)
    return ChunkedGenerator.of_size(num_tasks, shapes, target, embedding, hidden, matrices)
