"""A judge of costs that reads no formulas: it runs the network and counts what happens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solver_nas.nn.forward import evaluate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solver_nas.frontend import Array
    from solver_nas.nn.network import Network


@dataclass(frozen=True, slots=True)
class Costs:
    """What a network costs.

    Args:
        params: entries of all arrays that are learned.
        buffers: entries of the others: running statistics.
        macs: multiplications with an addition behind them, in all matrix products of one sample.
        weight_bytes: of all arrays.
        activation_bytes: the most that inputs and outputs of vertices need at once.
    """

    params: int
    buffers: int
    macs: int
    weight_bytes: int
    activation_bytes: int


def count(net: Network, inputs: Mapping[str, Array] | None = None) -> Costs:
    """Run a network on one sample and count.

    Products are those that are really executed: a convolution multiplies its padding, attention that is causal what
    it masks, a layer of the user's whatever its function does.

    Args:
        net: the network; not touched.
        inputs: input name -> array with a batch of one; made up where the network knows all sizes.

    Raises:
        ValueError: the sizes of an input are not known.
    """
    tally: list[int] = []
    arrays = {key: _watched(array, tally) for key, array in net.arrays.items()}
    sample = {name: _watched(np.asarray(x), tally) for name, x in (inputs or _made_up(net)).items()}
    with np.errstate(all="ignore"):
        values = evaluate(net.graph, arrays, sample, np.random.default_rng(0))
    statistics = {
        vertex.parameters[role].key
        for vertex in net.graph.vertices
        for role in ("mean", "var")
        if vertex.kind == "batch_norm" and role in vertex.parameters
    }
    return Costs(
        sum(array.size for key, array in net.arrays.items() if key not in statistics),
        sum(array.size for key, array in net.arrays.items() if key in statistics),
        sum(tally),
        sum(array.nbytes for array in net.arrays.values()),
        _peak(net, {name: np.asarray(value).nbytes for name, value in values.items()}),
    )


def _made_up(net: Network) -> dict[str, Array]:
    """Zeros: numbers for any layer, and token numbers for any table."""
    found = {}
    for vertex in net.inputs:
        sizes = [size for size in vertex.shape[1:] if size is not None]
        if len(sizes) < len(vertex.shape) - 1:
            raise ValueError(f"input {vertex.name!r} has the shape {vertex.shape}: give an array for it")
        found[vertex.name] = np.zeros((1, *sizes), net.dtype)
    return found


def _peak(net: Network, sizes: Mapping[str, int]) -> int:
    """Compute vertex by vertex; drop what nobody is going to read, but for inputs and what is returned."""
    order = [vertex.name for vertex in net.graph.vertices]
    waiting = dict.fromkeys(order, 0)
    for vertex in net.graph.vertices:
        for source in {port.vertex for port in vertex.inputs}:
            waiting[source] += 1
    held = {vertex.name for vertex in net.graph.vertices if vertex.kind == "input"}
    forever = held | {port.vertex for port in net.graph.returned}
    most = 0
    for name in order:
        held.add(name)
        most = max(most, sum(sizes[one] for one in held))
        for source in {port.vertex for port in net.graph.vertex(name).inputs}:
            waiting[source] -= 1
        held = {one for one in held if waiting[one] or one in forever}
    return most


# -- arrays that count -----------------------------------------------------------------------


class _Watched(np.ndarray[Any, Any]):
    """An array that notes every matrix product that it takes part in, as do all arrays made from it."""

    tally: list[int] | None

    def __array_finalize__(self, obj: object) -> None:
        self.tally = getattr(obj, "tally", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: Any, *inputs: Any, **options: Any) -> Any:
        given = options.get("out")
        if given is not None:
            options["out"] = tuple(_plain(one) for one in given)
        plain = [_plain(one) for one in inputs]
        result = getattr(ufunc, method)(*plain, **options)
        tally = _tally(inputs)
        if ufunc.__name__ in _UFUNCS and tally is not None:
            tally.append(_last_axis(plain, result))
        if given is not None:
            return given[0] if len(given) == 1 else given
        return tuple(_watched(one, tally) for one in result) if isinstance(result, tuple) else _watched(result, tally)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        measure = _PRODUCTS.get(func)
        if measure is None:
            return super().__array_function__(func, types, args, kwargs)
        plain = [_plain(one) for one in args]
        result = func(*plain, **kwargs)
        tally = _tally(args)
        assert tally is not None
        tally.append(measure(plain, result))
        return _watched(result, tally)


def _watched(array: Any, tally: list[int] | None) -> Any:
    if not isinstance(array, np.ndarray):
        return array
    made = array.view(_Watched)
    made.tally = tally
    return made


def _plain(array: Any) -> Any:
    return array.view(np.ndarray) if isinstance(array, _Watched) else array


def _tally(operands: Sequence[Any]) -> list[int] | None:
    return next((one.tally for one in operands if isinstance(one, _Watched) and one.tally is not None), None)


def _last_axis(operands: Sequence[Any], result: Any) -> int:
    first, second = (np.asarray(one) for one in operands[:2])
    # With a plain number it is a scaling.
    return int(np.size(result) * first.shape[-1]) if first.ndim and second.ndim else 0


def _any_axes(operands: Sequence[Any], result: Any) -> int:
    first, second = (np.size(one) for one in operands[:2])
    # Outer axes stand in one operand and the result, summed ones in both operands.
    return math.isqrt(first * second * int(np.size(result)))


def _named_axes(operands: Sequence[Any], _: Any) -> int:
    terms = operands[0].split("->")[0].replace(" ", "").split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands[1:], strict=True):
        head, _, tail = term.partition("...")
        free = range(np.ndim(operand) - len(head) - len(tail))
        letters = [*head, *(f"...{place - len(free)}" for place in free), *tail] if "..." in term else [*term]
        for letter, size in zip(letters, np.shape(operand), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return (len(terms) - 1) * int(np.prod(list(sizes.values())))


#: All of them sum over the last axis of their first operand.
_UFUNCS = {"matmul", "vecdot", "matvec", "vecmat"}
_PRODUCTS: Mapping[Any, Callable[[Sequence[Any], Any], int]] = {
    np.dot: _last_axis,
    np.inner: _last_axis,
    np.tensordot: _any_axes,
    np.einsum: _named_axes,
}
