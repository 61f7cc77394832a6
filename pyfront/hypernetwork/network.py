"""One network for every trade-off: parameters of any module, generated from a preference."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pyfront._utils.arguments import VectorLike, VectorsLike, choice, integer
from pyfront._utils.loss_space import as_directions
from pyfront._utils.torch_private import copy_all, without_subclass_functions
from pyfront.hypernetwork.factored_linear import Factors
from pyfront.hypernetwork.generators import generator_for
from pyfront.hypernetwork.parameters import (
    can_stay_in_factors,
    copy_module,
    describe,
    generated_names,
    is_sharded,
    large_matrices,
    padding_rows,
    start,
    tensors_at,
)
from pyfront.hypernetwork.places import (
    call_switched,
    call_with,
    drop_places,
    keep_places,
    place_for,
)

__all__ = ["HyperNetwork"]


class HyperNetwork(nn.Module):
    r"""Generates parameters of a main network from a preference: θ_p = g(p | φ).

    ``net(x, preference=p)`` is the main network with parameters for p; only φ, and what is shared,
    is trained, with the ordinary loop. Of p only the direction counts, p / ‖p‖₂, so [0.7, 0.3] and
    [7, 3] are one preference; zero entries, the ends of the front, are legal.

    A generated tensor is μ + g s ẑ, where ẑ has unit variance for every preference, and μ and s are
    mean and standard deviation of the tensor in the ``model`` that was given: a hypernetwork starts
    at the scale of the module's own initialisation. Constant tensors (weights of norm layers, zero
    biases) start at their constant for every preference, with the trained factor g = 0 where
    others have 1.

    The model is copied, without the gradients it holds. Its buffers stay its own: running
    statistics of batch norm are updated by calls in training mode and so mix the preferences that
    were drawn.
    ``torch.optim.swa_utils.update_bn(loader, net.generate(p))`` computes those of one preference.

    In :attr:`model`, the copy, generated parameters are NaN until :meth:`switch`: a call has its
    own in their places, in their own precision under autocast too. Calls change the copy while they
    last: only one thread may call a network at a time; give others a model of :meth:`generate`.

    An :class:`torch.nn.Linear` whose weight has 2¹⁸ entries or more multiplies by factors of it
    where that is cheaper, and gives what the weight gives within rounding. The weight is made when
    it is read; a gradient with respect to it, inside the model's forward, is of what follows that.

    Args:
        model: the main network, any module. Tied parameters stay tied, and one that any of its
            names matches is generated once. A ``forward`` that replaces a generated parameter or
            writes into it is refused when it does so, since nothing would remain of it; what it
            writes through ``.data`` lasts for that call. A checkpoint of activations inside it that
            reads a generated parameter is refused in the backward pass; one around the call of this
            network is not.
        num_tasks: m ≥ 2, the length of a preference.
        parameters: a shell pattern, or several, of names of parameters; ``"*"`` is any string. The
            parameters that match and are floating-point are generated, the others are shared by all
            preferences. None generates all that require a gradient.
        shared: ``"trained"`` leaves shared parameters as they are in the model; ``"frozen"`` clears
            their ``requires_grad``, for a pretrained trunk.
        size: of the chunked hypernetwork: its parameters over the number of entries that it
            generates; 1.0 makes it as large as what it replaces.
        plain: a fully connected network from p to all entries in place of embeddings and chunks,
            for small models; its size is that of its layers.
        embedding: size of the task and chunk embeddings; chosen from ``size`` where None.
        hidden: widths of the hypernetwork's layers; (50, 50) for ``plain``, chosen from ``size``
            otherwise.

    Raises:
        TypeError: not a module, a parameter that matches and has no real floating-point values, or
            an argument of another type.
        ValueError: a pattern that matches no parameter, a parameter that is not initialised (lazy)
            or not finite, or a size that is too small.

    Example:
        >>> net = HyperNetwork(torch.nn.Linear(20, 10), num_tasks=2, size=2.0)
        >>> net(torch.zeros(5, 20), preference=[0.7, 0.3]).shape
        torch.Size([5, 10])
        >>> model = net.generate([0.7, 0.3])  # a plain Linear
        >>> sorted(name for name, _ in model.named_parameters())
        ['bias', 'weight']

    Source: Lin et al., Controllable Pareto Multi-Task Learning, 2020, section 5.1; the scale of the
    start after Chang et al., Principled Weight Initialization for Hypernetworks, 2020, but taken
    from the module's values and kept by normalised features, so that it holds for any module.
    """

    means: Tensor
    scales: Tensor
    padding: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        num_tasks: int,
        *,
        parameters: str | Sequence[str] | None = None,
        shared: Literal["trained", "frozen"] = "trained",
        size: float = 1.0,
        plain: bool = False,
        embedding: int | None = None,
        hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
        choice("shared", shared, ("trained", "frozen"))
        self.num_tasks = integer("num_tasks", num_tasks, 2)
        self._names = generated_names(model, parameters)
        given = {name: model.get_parameter(name) for name in self._names}
        self._trainable = [p.requires_grad for p in given.values()]
        self.model = copy_module(model, {p: place_for(name, p) for name, p in given.items()})
        if shared == "frozen":
            self.model.requires_grad_(False)
        self._tied = any(
            len(list(named(remove_duplicate=False))) > len(list(named()))
            for named in (model.named_parameters, model.named_buffers)
        )
        dtypes = [p.dtype for p in given.values()]
        kind: dict[str, Any] = {
            "dtype": torch.float64 if torch.float64 in dtypes else torch.float32,
            "device": next(iter(given.values())).device,
        }
        means, scales, gains = zip(*map(start, given.values()), strict=True)
        self.register_buffer("means", torch.tensor(means, **kind))
        self.register_buffer("scales", torch.tensor(scales, **kind))
        self.gains = nn.Parameter(torch.tensor(gains, **kind))
        self._padding = padding_rows(self.model, self._names)
        rows = [given[name].detach()[row] for name, row in self._padding.items()]
        self.register_buffer("padding", torch.cat(rows).to(**kind) if rows else None)
        large = large_matrices(self.model, self._names, kind["dtype"])
        shapes = [p.shape for p in given.values()]
        self.generator = generator_for(
            self.num_tasks, shapes, large, size, plain, embedding, hidden
        ).to(**kind)
        self._large = [self._names[index] for index in self.generator.matrices]
        self._switched = False
        self.register_state_dict_post_hook(drop_places)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(keep_places)  # type: ignore[no-untyped-call]

    # ---------------------------------------------------------------------------------- the network

    def forward(self, *args: Any, preference: VectorsLike | None = None, **kwargs: Any) -> Any:
        """Return the output of the main network with parameters for ``preference``.

        Args:
            *args: of the main network.
            preference: p, [m] ≥ 0 and not all 0; or several, [K, m], whose parameters are
                generated in one pass; None is the preference of the last :meth:`switch`.
            **kwargs: of the main network.

        Returns:
            What the main network returns; for [K, m] a list of K of it. Each of the K networks then
            works on its own copy of the buffers: batch statistics are kept apart, and the running
            ones stay as they were.

        Raises:
            ValueError: a preference of another length, with entries that are negative or not
                finite, or all zero; no preference and no switch before; a ``forward`` that changes
                a generated parameter or replaces a module that holds one.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> net(torch.zeros(5, 3), preference=[0.7, 0.3]).shape
            torch.Size([5, 2])
            >>> len(net(torch.zeros(5, 3), preference=[[0.7, 0.3], [0.1, 0.9]]))
            2
        """
        if preference is None:
            if not self._switched:
                raise ValueError("preference: give one, or call switch(preference) before")
            return call_switched(self.model, self.replaced(), args, kwargs)
        directions = as_directions(preference, self.num_tasks)
        one = directions.dim() == 1
        factored = can_stay_in_factors(self.model, self._large, self.means)
        networks = self._networks(directions[None] if one else directions, factored)
        if one:
            return self._call(networks[0], {}, args, kwargs)
        buffers = dict(self.model.named_buffers())
        return [
            self._call(network, {name: b.clone() for name, b in buffers.items()}, args, kwargs)
            for network in networks
        ]

    def parameters_at(self, preference: VectorLike) -> dict[str, Tensor]:
        """Return the generated parameters for one preference by name, with a graph to φ.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> {name: tuple(p.shape) for name, p in net.parameters_at([0.7, 0.3]).items()}
            {'weight': (2, 3), 'bias': (2,)}
        """
        directions = as_directions(preference, self.num_tasks)
        if directions.dim() != 1:
            raise ValueError(f"preference: expected one, got {len(directions)}")
        return cast(dict[str, Tensor], self._networks(directions[None])[0])

    def generate(self, preference: VectorLike) -> nn.Module:
        """Return a plain copy of the main network with its parameters fixed for ``preference``.

        It holds no hypernetwork and shares no memory with this one: it can be saved, compiled,
        exported and trained on as the model itself. It is in the mode, training or evaluation, that
        this network is in; parameters require a gradient where those of the model did.

        Args:
            preference: p, [m] ≥ 0 and not all 0.

        Raises:
            ValueError: as for :meth:`forward`.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> model = net.generate([0.7, 0.3])
            >>> x = torch.randn(5, 3)
            >>> type(model).__name__, torch.equal(model(x), net(x, preference=[0.7, 0.3]))
            ('Linear', True)
        """
        with torch.no_grad():
            values = self.parameters_at(preference).values()
            places = self._places().values()
            copies = [torch.empty_like(p).copy_(v) for p, v in zip(places, values, strict=True)]
        fixed = map(nn.Parameter, copies, self._trainable)
        return copy_module(self.model, dict(zip(places, fixed, strict=True)))

    @torch.no_grad()
    def switch(self, preference: VectorLike) -> None:
        """Write the parameters for ``preference`` into :attr:`model`, in place.

        ``net(x)`` and ``net.model(x)`` are then the main network for it, without a pass through the
        hypernetwork, until the next switch. A later training step or ``load_state_dict`` does not
        change them: switch again. ``net(x)`` refuses a ``forward`` that writes into them once it
        has, and what it writes through ``.data`` remains: switch again there too.

        Args:
            preference: p, [m] ≥ 0 and not all 0.

        Raises:
            ValueError: as for :meth:`forward`.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> x = torch.randn(5, 3)
            >>> net.switch([0.7, 0.3])
            >>> torch.equal(net(x), net(x, preference=[0.7, 0.3]))
            True
        """
        values = self.parameters_at(preference)
        copy_all(list(self._places().values()), list(values.values()))
        self._switched = True

    def summary(self) -> str:
        """Return a table of where the main network's parameters come from, and the parts of φ.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> net.summary().splitlines()[-1].split(",")[0]
            '8 generated'
        """
        parts = [(n, p) for n, p in self.named_parameters() if not n.startswith("model.")]
        return describe(self.model, set(self._names), parts)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
        """Return the trained parameters: φ, and the shared ones of the main network.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> any(name.startswith("model.") for name, _ in net.named_parameters())
            False
        """
        places = set(map(id, self._places().values()))
        pairs = super().named_parameters(*args, **kwargs)
        return ((name, p) for name, p in pairs if id(p) not in places)

    # ------------------------------------------------------------------------------------ the parts

    def _places(self) -> dict[str, nn.Parameter]:
        """Return the places of the main network that generated tensors take, one name each."""
        return {name: attrgetter(name)(self.model) for name in self._names}

    def replaced(self) -> dict[str, nn.Parameter]:
        """Return the places that generated tensors take, by every name they have.

        Example:
            >>> net = HyperNetwork(torch.nn.Linear(3, 2), num_tasks=2, plain=True)
            >>> list(net.replaced())
            ['weight', 'bias']
        """
        if not self._tied:
            return self._places()
        places = set(map(id, self._places().values()))
        pairs = self.model.named_parameters(remove_duplicate=False)
        return {name: p for name, p in pairs if id(p) in places}

    def _networks(
        self, directions: Tensor, factored: Collection[str] = ()
    ) -> list[dict[str, Tensor | Factors]]:
        """Return the parameters by name for each of K directions, those ``factored`` in factors.

        In their own precision under autocast too, where the main network casts them as it needs.
        """
        device = self.means.device.type
        with torch.autocast(device, enabled=False), without_subclass_functions():
            gains = self.gains * self.scales
            generated = self.generator(directions.to(gains), whole=is_sharded(self.generator))
            table = zip(self._places().items(), generated, self.means, gains, strict=True)
            padding = self._padding_entries()
            values = {
                name: tensors_at(place, part, mean, gain, padding.get(name), name in factored)
                for (name, place), part, mean, gain in table
            }
        return [{name: v[k] for name, v in values.items()} for k in range(len(directions))]

    def _padding_entries(self) -> dict[str, tuple[int, Tensor]]:
        """Return number and entries of the padding rows of embeddings, by the names of these."""
        if self.padding is None:
            return {}
        widths = [self.model.get_parameter(name).shape[1] for name in self._padding]
        rows = zip(self._padding.values(), torch.split(self.padding, widths), strict=True)
        return dict(zip(self._padding, rows, strict=True))

    def _call(
        self,
        network: dict[str, Tensor | Factors],
        buffers: dict[str, Tensor],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        state = {**buffers, **network}
        return call_with(self.model, state, self.replaced(), args, kwargs, tied=self._tied)
