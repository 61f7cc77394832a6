"""From preferences to the entries of a main network: the trained part of a hypernetwork."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from pyfront._utils.arguments import boolean, integer, number

__all__ = ["ChunkedGenerator", "PlainGenerator", "generator_for"]


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
        entries: how many numbers it generates.
        hidden: widths of the hidden layers.

    Example:
        >>> PlainGenerator(2, 10, (50, 50))(torch.eye(2)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_tasks: int, entries: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.features = _features(num_tasks, hidden)
        self.projection = nn.Linear(hidden[-1], entries)
        nn.init.normal_(self.projection.weight, std=1.0 / math.sqrt(hidden[-1]))
        nn.init.zeros_(self.projection.bias)

    def forward(self, directions: Tensor) -> Tensor:
        """Return entries of unit variance at the start, [K, entries], for ``directions`` [K, m]."""
        entries: Tensor = self.projection(self.features(directions))
        return entries


class ChunkedGenerator(nn.Module):
    """All chunks of the entries in one batched pass, through one shared projection tensor.

    The embedding e = Σ p_i e_i / ‖p‖₂ of the preference is joined to the embedding c_k of the
    chunk, layers turn both into a ∈ R^d, and the chunk is W a. The e_i start orthogonal and equally
    long, which makes e as long for every preference.

    Args:
        num_tasks: m.
        entries: how many numbers it generates.
        chunk: entries in a chunk; the last chunk may be cut.
        embedding: q, the size of an embedding.
        hidden: widths of the layers; the last is d.

    Example:
        >>> ChunkedGenerator(2, 100, 30, 8, (16, 16))(torch.eye(2)).shape
        torch.Size([2, 100])

    Source: Lin et al., Controllable Pareto Multi-Task Learning, 2020, section 5.1 and figure 5,
    with the division by ‖p‖₂, without which the variance differs by a factor m over the simplex.
    """

    def __init__(
        self, num_tasks: int, entries: int, chunk: int, embedding: int, hidden: Sequence[int]
    ) -> None:
        super().__init__()
        self.entries = entries
        self.task_embeddings = nn.Parameter(torch.empty(num_tasks, embedding))
        self.chunk_embeddings = nn.Parameter(torch.randn(math.ceil(entries / chunk), embedding))
        self.features = _features(2 * embedding, hidden)
        self.projection = nn.Parameter(torch.randn(chunk, hidden[-1]) / math.sqrt(hidden[-1]))
        if num_tasks <= embedding:
            nn.init.orthogonal_(self.task_embeddings, gain=math.sqrt(embedding))
        else:
            nn.init.normal_(self.task_embeddings)

    def forward(self, directions: Tensor) -> Tensor:
        """Return entries of unit variance at the start, [K, entries], for ``directions`` [K, m]."""
        preferences, chunks = directions @ self.task_embeddings, self.chunk_embeddings
        pairs = (len(preferences), len(chunks), -1)
        both = [preferences[:, None].expand(*pairs), chunks[None].expand(*pairs)]
        entries: Tensor = self.features(torch.cat(both, dim=-1)) @ self.projection.T
        return entries.flatten(1)[:, : self.entries]

    @classmethod
    def of_size(
        cls,
        num_tasks: int,
        entries: int,
        parameters: int,
        embedding: int | None = None,
        hidden: Sequence[int] | None = None,
    ) -> ChunkedGenerator:
        """Return the generator with the largest chunks that has at most ``parameters`` parameters.

        Args:
            num_tasks: m.
            entries: how many numbers it generates.
            parameters: the target.
            embedding: q; half the first width where None.
            hidden: widths; two layers that take an eighth of the target where None, at most 128.

        Raises:
            ValueError: the target is too small for the embeddings and the layers.
        """
        if hidden is None:
            hidden = 2 * (min(max(math.isqrt(parameters // 16), 8), 128),)
        q = max(hidden[0] // 2, 2) if embedding is None else embedding
        widths = (2 * q, *hidden)
        layers = sum((a + 1) * b for a, b in itertools.pairwise(widths))
        budget = parameters - layers - num_tasks * q
        # chunk · d + (entries / chunk) q = budget: the larger root
        rest = budget**2 - 4 * hidden[-1] * entries * q
        if budget <= 0 or rest < 0:
            raise ValueError(
                f"size: {parameters} parameters are too few for a chunked hypernetwork with "
                f"embedding = {q} and hidden = {tuple(hidden)} that generates {entries}; choose a "
                "larger size, smaller layers, or plain=True"
            )
        chunk = min(int((budget + math.sqrt(rest)) / (2 * hidden[-1])), entries)
        while chunk > 1 and chunk * hidden[-1] + math.ceil(entries / chunk) * q > budget:
            chunk -= 1  # what rounding the number of chunks up costs
        return cls(num_tasks, entries, max(chunk, 1), q, hidden)


def generator_for(
    num_tasks: int,
    entries: int,
    tensors: int,
    size: float,
    plain: bool,
    embedding: int | None,
    hidden: Sequence[int] | None,
) -> nn.Module:
    """Return the generator that the options of :class:`~pyfront.HyperNetwork` ask for.

    ``size`` counts the one factor a tensor that is trained beside the generator.
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
        return PlainGenerator(num_tasks, entries, hidden or (50, 50))
    if embedding is not None:
        integer("embedding", embedding, 1)
    target = round(size * entries) - tensors
    return ChunkedGenerator.of_size(num_tasks, entries, target, embedding, hidden)
