"""Running a captured graph, with some neurons left out although they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from solver_nas.errors import VerificationError
from solver_nas.graph import Port
from solver_nas.torch.flatten import setting
from solver_nas.torch.nodes import mutates, operator_of, shares, written
from solver_nas.torch.operator import PREFIX, operators

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Graph as FxGraph
    from torch.fx import Node

    from solver_nas.graph import Graph, Vertex
    from solver_nas.labels import Block, Labels
    from solver_nas.torch.op import Slot

Mask = NDArray[np.bool_]


class Removal(NamedTuple):
    """Which neurons are to be left out.

    Args:
        graph: of the model.
        labels: of that graph.
        stays: vertex name -> for every block of its tensor, which neurons stay, in the shape of the block.
        numbers: vertex -> numbers among its arguments that it has without them.
        made: node name -> vertex.
    """

    graph: Graph
    labels: Labels
    stays: Mapping[str, Sequence[Mask]]
    numbers: Mapping[str, Mapping[tuple[str, int], int]]
    made: Mapping[str, str]


def run(
    nodes: FxGraph,
    given: Mapping[str, Any],
    removal: Removal | None = None,
) -> list[Any]:
    """What a graph returns.

    Dropout does nothing, and normalisations use the statistics that they have.

    Args:
        nodes: the operations.
        given: placeholder -> value.
        removal: what is left out.
    """
    return Walk(nodes, removal).run(given)


_IDLE = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", "native_dropout"})
#: What is drawn at random depends on the sizes; all of it is one number instead.
DRAWN = frozenset(
    {
        "rand",
        "randn",
        "rand_like",
        "randn_like",
        "normal",
        "uniform",
        "bernoulli",
        "exponential",
        "log_normal",
        "cauchy",
    }
)
_NUMBER = 0.5  # in the middle of the unit interval, and no special point of a logarithm
_NO_RESULT = frozenset({"_assert_tensor_metadata", "sym_constrain_range_for_size", "_assert_scalar", "_assert_async"})


def drawn(result: Any, *, in_place: bool) -> Any:
    """The same number everywhere, in the place of what was drawn."""
    if not isinstance(result, torch.Tensor) or not result.dtype.is_floating_point:
        return result
    return result.fill_(_NUMBER) if in_place else torch.full_like(result, _NUMBER)


def _call(node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    result = cast("Any", node.target)(*args, **kwargs)
    return drawn(result, in_place=mutates(node)) if operator_of(node) in DRAWN else result


class Walk:
    """The way through a graph, node by node.

    Args:
        nodes: the operations.
        removal: what is left out.
    """

    def __init__(self, nodes: FxGraph, removal: Removal | None = None) -> None:
        """Find out when what is let go."""
        self._removal = removal
        self.nodes = tuple(nodes.nodes)
        self._operations: dict[str, str] = {}
        for vertex in () if removal is None else removal.graph.vertices:
            if "node" in vertex.attributes:
                self._operations.setdefault(str(vertex.attributes["node"]), vertex.name)
        last: dict[Node, Node] = {}
        for node in self.nodes:
            for one in node.all_input_nodes:
                last[one] = node
        self._done: dict[Node, list[Node]] = {}
        for one, node in last.items():
            self._done.setdefault(node, []).append(one)

    def run(self, given: Mapping[str, Any]) -> list[Any]:
        """All of it; what the graph returns."""
        known: dict[Node, Any] = {}
        for place in range(len(self.nodes)):
            found = self.step(place, known, given)
            if found is not None:
                return found
        return []

    def step(self, place: int, known: dict[Node, Any], given: Mapping[str, Any]) -> list[Any] | None:
        """One node; what the graph returns, if it is the last one.

        Args:
            place: of the node.
            known: results that are still to be read, by node.
            given: placeholder -> value.
        """
        node, found = self.nodes[place], None
        if node.op == "placeholder":
            known[node] = given.get(node.name)
        elif node.op == "output":
            found = _flat(torch.fx.node.map_arg(node.args[0], known.__getitem__))
        elif operator_of(node) not in _NO_RESULT:
            with setting(node):
                known[node] = self._step(node, known)
        for one in self._done.get(node, ()):
            known.pop(one, None)
        return found

    def _step(self, node: Node, known: dict[Node, Any]) -> Any:
        if node.op != "call_function":
            raise VerificationError(f"the captured module has a node {node.name!r} that cannot be run")
        args = list(torch.fx.node.map_arg(node.args, known.__getitem__))
        kwargs = dict(torch.fx.node.map_arg(node.kwargs, known.__getitem__))
        name = operator_of(node)
        if name in _IDLE:
            return (args[0], None) if name == "native_dropout" else args[0]
        _settle(name, node, args, kwargs)
        if name == "view":
            # What is masked may lie in another order in memory.
            return self._done_with(node, torch.reshape(cast("Any", args[0]), cast("Any", args[1])))
        if self._removal is None:
            return _call(node, args, kwargs)
        operation, vertex = self._operations.get(node.name), self._removal.made.get(node.name)
        together = None if operation is None else self._together(operation, node, args, kwargs)
        result = _call(node, args, kwargs) if together is None else together
        # A part into which something is written has to remain one; what it is a part of is masked already.
        return result if vertex is None or (shares(node) and written(node)) else self._masked(vertex, result)

    def _done_with(self, node: Node, result: torch.Tensor) -> Any:
        vertex = None if self._removal is None else self._removal.made.get(node.name)
        return result if vertex is None else self._masked(vertex, result)

    def _masked(self, vertex: str, result: Any) -> Any:
        assert self._removal is not None, "only asked for where something is left out"
        stays = self._removal.stays.get(vertex)
        if stays is None or not isinstance(result, torch.Tensor) or all(mask.all() for mask in stays):
            return result
        tensor = self._removal.labels.tensors[Port(vertex)]
        for block, kept in zip(tensor.blocks, stays, strict=True):
            mask = torch.from_numpy(_over(kept, block.axes, result.dim())).to(result.device)
            result = torch.where(mask, result, torch.zeros((), dtype=result.dtype, device=result.device))
        return result

    def _together(self, vertex: str, node: Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """What an operation that takes neurons together makes of those that stay; `None` for other operations."""
        assert self._removal is not None, "only asked for where something is left out"
        known = operators().get(operator_of(node))
        found = self._removal.graph.vertex(vertex)
        axes = together_axes(found, self._removal.labels)
        if known is None or not axes:
            return None
        source = found.inputs[0]
        stays = self._removal.stays.get(source.vertex, ())
        if all(kept.all() for kept in stays):
            return None
        cuts = [
            cut
            for block, kept in zip(self._removal.labels.tensors[source].blocks, stays, strict=True)
            if not kept.all()
            for cut in _cuts(block, kept, axes)
        ]
        if not cuts:
            return None
        x = args[0]
        names = [argument.name for argument in cast("Any", node.target)._schema.arguments]  # noqa: SLF001 - its schema
        for cut in cuts:
            args[0] = cut.picked(args[0])
            for place, name in enumerate(names):
                if name in ("weight", "bias", "running_mean", "running_var"):
                    _select(args if place < len(args) else kwargs, place if place < len(args) else name, cut, x, names)
        for (name, place), number in self._removal.numbers.get(vertex, {}).items():
            _number(args, kwargs, names, name, place, number)
        result = cast("Any", node.target)(*args, **kwargs)
        if not isinstance(result, torch.Tensor) or result.dim() != x.dim() or result.shape != args[0].shape:
            return result
        for cut in reversed(cuts):
            result = cut.returned(result)
        return result


def _settle(name: str, node: Node, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Normalisations use what they have learned; nothing is written into it."""
    if name in ("batch_norm", "instance_norm"):
        names = [argument.name for argument in cast("Any", node.target)._schema.arguments]  # noqa: SLF001 - its schema
        flag = "training" if name == "batch_norm" else "use_input_stats"
        place = names.index(flag)
        mean = names.index("running_mean")
        if len(args) > mean and args[mean] is not None:
            if place < len(args):
                args[place] = False
            else:
                kwargs[flag] = False


def _number(args: list[Any], kwargs: dict[str, Any], names: Sequence[str], name: str, place: int, number: int) -> None:
    """Replace a number among arguments."""
    where: Any = names.index(name)
    holder: Any = args
    if where >= len(args):
        where, holder = name, kwargs
    if where not in range(len(args)) and where not in kwargs:
        return
    before = holder[where]
    if isinstance(before, tuple | list):
        items = list(before)
        items[place] = number
        holder[where] = items
    else:
        holder[where] = number


class _Cut(NamedTuple):
    """Which positions of an axis are seen.

    Args:
        axis: which axis.
        outer: axes on which it depends which ones; none if they are the same everywhere.
        there: positions that are seen, for every position of the outer axes.
        size: how many positions there are.
    """

    axis: int
    outer: tuple[int, ...]
    there: NDArray[np.intp]
    size: int

    def picked(self, x: torch.Tensor) -> torch.Tensor:
        """Only what is seen."""
        if not self.outer:
            return x.index_select(self.axis, torch.from_numpy(self.there).to(x.device))
        return torch.take_along_dim(x, self._index(x, self.there.shape[-1]), self.axis)

    def returned(self, y: torch.Tensor) -> torch.Tensor:
        """What was made of it, back where it was, among zeros."""
        shape = (*y.shape[: self.axis], self.size, *y.shape[self.axis + 1 :])
        made = torch.zeros(shape, dtype=y.dtype, device=y.device)
        if not self.outer:
            return made.index_copy(self.axis, torch.from_numpy(self.there).to(y.device), y)
        return made.scatter(self.axis, self._index(y, self.there.shape[-1]), y)

    def _index(self, x: torch.Tensor, count: int) -> torch.Tensor:
        spread = _over(self.there, (*self.outer, self.axis), x.dim())
        shape = (*x.shape[: self.axis], count, *x.shape[self.axis + 1 :])
        return torch.from_numpy(np.ascontiguousarray(spread)).to(x.device).expand(shape)


def _select(holder: Any, where: Any, cut: _Cut, x: torch.Tensor, names: Sequence[str]) -> None:
    """A scale or a bias of what is seen."""
    weight = holder[where] if not isinstance(holder, dict) else holder.get(where)
    if weight is None:
        return
    along = cut.axis - (x.dim() - weight.dim()) if "normalized_shape" in names else cut.axis - 1
    if cut.outer:
        raise VerificationError("what goes from a rectangle is scaled position by position; this cannot be tried out")
    if 0 <= along < weight.dim() and weight.shape[along] == cut.size:
        holder[where] = weight.index_select(along, torch.from_numpy(cut.there).to(weight.device))


def _cuts(block: Block, kept: Mask, axes: Sequence[int]) -> list[_Cut]:
    """How axes of a block are cut so that only neurons that stay are seen, outermost first."""
    found = []
    for depth, axis in enumerate(block.axes):
        if axis not in axes:
            continue
        lives = kept.any(axis=tuple(range(depth + 1, kept.ndim)))
        rows = lives.reshape(-1, lives.shape[-1])
        # Rows that go as a whole are masked: what is seen of them does not matter.
        first = rows[rows.any(axis=1)][0]
        rows = np.where(rows.any(axis=1, keepdims=True), rows, first)
        alike = bool((rows == first).all())
        size = rows.shape[-1]
        if alike:
            found.append(_Cut(axis, (), np.flatnonzero(first), size))
            kept = kept.compress(first, axis=depth)
        else:
            there = np.stack([np.flatnonzero(row) for row in rows]).reshape(*lives.shape[:-1], -1)
            found.append(_Cut(axis, block.axes[:depth], there, size))
    return found


def together_axes(vertex: Vertex, labels: Labels) -> tuple[int, ...]:
    """The axes of its first tensor along which a vertex takes neurons together."""
    known = operators().get(vertex.kind.removeprefix(PREFIX))
    if known is None or known.together is None or not vertex.inputs:
        return ()
    first = next(iter(cast("Mapping[str, object]", vertex.attributes["arguments"]).values()))
    if cast("Slot", first).edge != 0:
        return ()
    rank = len(labels.tensors[vertex.inputs[0]].shape)
    return tuple(axis % rank for axis in known.together(vertex, rank)) if rank else ()


def _over(array: NDArray[Any], axes: Sequence[int], rank: int) -> NDArray[Any]:
    """An array over some axes of a tensor, with the rank of the tensor."""
    shape = [1] * rank
    for axis, size in zip(axes, array.shape, strict=True):
        shape[axis] = size
    return array.transpose(np.argsort(axes)).reshape(shape)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [leaf for one in value for leaf in _flat(one)]
    return [value]
