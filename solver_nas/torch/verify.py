"""Whether a changed module computes what was promised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from solver_nas.errors import VerificationError
from solver_nas.torch.flatten import no_autocast
from solver_nas.torch.nodes import own_frame, tensor_of
from solver_nas.torch.numbers import common
from solver_nas.torch.running import DRAWN, Mask, Removal, drawn, run, together_axes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch.fx import Graph as FxGraph

    from solver_nas.graph import Graph
    from solver_nas.labels import Labels, Tensor
    from solver_nas.plan import Blueprint

TOLERANCE = 1e-4  # relative to the largest number of an output: single precision, added up in another order
_SHAKE = 1e-6  # relative: several times the rounding of single precision
_MOST = 0.05  # relative: more cannot be rounding that a model is any good with
_NOISE = 10.0  # times what the original differs from itself when its inputs are rounded otherwise
_SEED = 0


class Comparison(NamedTuple):
    """How two computations compare.

    Args:
        difference: the largest difference between outputs, relative to the largest number of that output.
        allowed: how large it may be.
    """

    difference: float
    allowed: float = TOLERANCE

    @property
    def equal(self) -> bool:
        """Whether they differ by rounding at most."""
        return self.difference <= self.allowed


class Settled(TorchFunctionMode):
    """Dropout does nothing, batch normalisation uses its statistics, also in training mode, and nothing is random."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Carry a call out, or what it is in evaluation mode."""
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name.removesuffix("_") in _DROPS:
            return args[0] if args else given["input"]
        if name == "batch_norm" and "training" in given and _has_statistics(args, given):
            given["training"] = False
        result = func(*args, **given)
        return drawn(result, in_place=name.endswith("_")) if name.removesuffix("_") in DRAWN else result


_DROPS = frozenset({"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"})


def _has_statistics(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    return (args[1] if len(args) > 1 else kwargs.get("running_mean")) is not None


def called(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a module returns; its inputs, the caller's random numbers and switched on types are left alone."""
    copies = pytree.tree_map(_copied, (tuple(args), dict(kwargs)))
    with no_autocast(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return module(*copies[0], **copies[1])


def answered(module: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """What a module returns, as a flat list.

    Raises:
        VerificationError: it cannot be run.
    """
    try:
        with Settled():
            found = called(module, args, kwargs)
    except Exception as error:
        told = str(error).strip().splitlines()
        raise VerificationError(
            f"the changed module cannot be run{_place(error)}: {type(error).__name__}: {told[0] if told else ''}; "
            f"nothing was changed; limits like minimum(...) or fixed(...) keep sizes that this code needs"
        ) from error
    leaves: list[Any] = pytree.tree_leaves(found)
    return leaves


def _place(error: BaseException) -> str:
    """The line of the user's code that failed."""
    frame = own_frame(error)
    return "" if frame is None else f" ({Path(frame.filename).name}:{frame.lineno}, {frame.line})"


def _copied(value: Any) -> Any:
    """Code may write into what it is given."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def computed(
    nodes: FxGraph, given: Mapping[str, Any], returned: Sequence[int], removal: Removal | None = None
) -> list[Any]:
    """What a captured module returns.

    Args:
        nodes: its operations.
        given: what they start from, by placeholder.
        returned: which of their results are the module's.
        removal: what is left out.
    """
    with no_autocast(), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        try:
            found = run(nodes, {name: _copied(value) for name, value in given.items()}, removal)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            told = str(error).strip().splitlines()
            raise VerificationError(
                f"the captured operations cannot be run with the new sizes: {told[0] if told else error!r}; nothing "
                f"was changed"
            ) from error
    return [found[place] for place in returned]


def shaken(given: Mapping[str, Any], inputs: Sequence[str], by: float) -> dict[str, Any]:
    """The same numbers but for rounding: other inputs, or, where these are no fractions, other parameters.

    Args:
        given: what a computation starts from.
        inputs: which of it are inputs.
        by: how much larger or smaller numbers become, relative to themselves.
    """
    fractions = [name for name, value in given.items() if _is_fraction(value)]
    chosen = [name for name in fractions if name in inputs] or fractions
    source = torch.Generator().manual_seed(_SEED)
    found = dict(given)
    for name in chosen:
        up = torch.randint(2, given[name].shape, generator=source).to(given[name].device)
        found[name] = given[name] * (1 - by + 2 * by * up).to(given[name].dtype)
    return found


def _is_fraction(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def rounding(nodes: FxGraph) -> float:
    """How much a number may change, relative to itself, by the coarsest type that operations compute with."""
    types = {found.dtype for found in map(tensor_of, nodes.nodes) if found is not None}
    return max([_SHAKE, *(torch.finfo(one).eps for one in types if one.is_floating_point)])


def compared(expected: Sequence[Any], found: Sequence[Any], noise: Callable[[], Sequence[Any]]) -> Comparison:
    """How outputs compare.

    Args:
        expected: what should come out.
        found: what does.
        noise: computes what should come out once more, rounded otherwise; only asked where they differ.

    Raises:
        VerificationError: there are no numbers to compare.
    """
    if not any(isinstance(one, torch.Tensor) and one.numel() and one.isfinite().any() for one in expected):
        raise VerificationError(
            "the module returns no finite numbers for the example inputs, so that nothing can be compared; nothing was "
            "changed"
        )
    difference = distance(expected, found)
    if difference <= TOLERANCE:
        return Comparison(difference)
    return Comparison(difference, min(max(TOLERANCE, _NOISE * distance(expected, noise())), _MOST))


def distance(expected: Sequence[Any], found: Sequence[Any]) -> float:
    """The largest difference, relative to the largest number of each output; infinity for other shapes.

    Where all outputs are whole numbers, the largest share of these that differ.
    """
    if len(expected) != len(found):
        return float("inf")
    whole = not any(_inexact(one) for one in expected)
    largest = 0.0
    for one, other in zip(expected, found, strict=True):
        if not isinstance(one, torch.Tensor) or not (whole or _inexact(one)):
            continue
        if not isinstance(other, torch.Tensor) or one.shape != other.shape:
            return float("inf")
        if one.numel():
            largest = max(largest, _different(one, other) if whole else _apart(_wide(one), _wide(other)))
    return largest


def _inexact(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and (value.dtype.is_floating_point or value.is_complex())


def _different(one: torch.Tensor, other: torch.Tensor) -> float:
    """The share of entries that differ."""
    return float((one.detach().cpu() != other.detach().cpu()).double().mean())


def _apart(left: torch.Tensor, right: torch.Tensor) -> float:
    """The largest difference, relative to the largest number.

    What masks are filled with is no measure for the rest: numbers that are a thousand times larger than it are
    compared among themselves.
    """
    if not bool((left.isfinite() == right.isfinite()).all()):
        return float("inf")
    left, right = left.nan_to_num(0, 0, 0), right.nan_to_num(0, 0, 0)
    sizes, difference = left.abs(), (left - right).abs()
    top = float(sizes.max())
    filled = sizes > top * _FILLED if top >= _HUGE else torch.ones_like(sizes, dtype=torch.bool)
    rest = ~filled
    found = float(difference[filled].max()) / (top or 1.0)
    if bool(rest.any()):
        found = max(found, float(difference[rest].max()) / (float(sizes[rest].max()) or top))
    return found


_HUGE = 1e4  # what masks are filled with is this or more
_FILLED = 1e-3


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().to(torch.complex128 if tensor.is_complex() else torch.float64)


def removal(graph: Graph, labels: Labels, blueprint: Blueprint, made: Mapping[str, str]) -> Removal:
    """What a change of sizes takes away from the model before it."""
    stays: dict[str, list[Mask]] = {}
    for port, tensor in labels.tensors.items():
        masks = []
        for block in tensor.blocks:
            kept = np.zeros(block.neurons.size, bool)
            index = blueprint.moves.flat(block.neurons)[1]
            kept[index[index >= 0]] = True
            masks.append(kept.reshape(block.neurons.shape))
        stays[port.vertex] = masks
    return Removal(graph, labels, stays, common(labels, blueprint.moves), _by_node(made))


def addition(labels: Labels, blueprint: Blueprint, after: Labels, made: Mapping[str, str]) -> Removal:
    """What a change of sizes has added to the model behind it."""
    stays: dict[str, list[Mask]] = {}
    for port, tensor in after.tensors.items():
        masks: list[NDArray[np.bool_]] = [np.ones(block.neurons.shape, bool) for block in tensor.blocks]
        for place, block in enumerate(labels.tensors[port].blocks):
            index = blueprint.moves.flat(block.neurons)[1]
            if place < len(masks) and len(index) == masks[place].size:
                masks[place] = (index >= 0).reshape(masks[place].shape)
        stays[port.vertex] = masks
    return Removal(blueprint.after, after, stays, common(labels, blueprint.moves), _by_node(made))


def _by_node(made: Mapping[str, str]) -> dict[str, str]:
    return {node: vertex for vertex, node in made.items()}


#: The axes of an output that change, and which old position each place has; -1 for a new one.
Moved = tuple[tuple[int, "NDArray[np.intp]"], ...]


def moved(tensor: Tensor, blueprint: Blueprint) -> Moved:
    """The axes of an output that change their neurons."""
    found = []
    for block in tensor.blocks:
        index = blueprint.moves.flat(block.neurons)[1]
        if not np.array_equal(index, np.arange(block.neurons.size)):
            found.append((block.axes[-1], index))
    return tuple(found)


def grows_together(labels: Labels, blueprint: Blueprint) -> bool:
    """Whether new neurons stand among others on which they have an effect: a mean, a normalisation."""
    for vertex in blueprint.before.vertices:
        axes = together_axes(vertex, labels)
        if axes:
            for block in labels.tensors[vertex.inputs[0]].blocks:
                if set(block.axes) & set(axes) and (blueprint.moves.flat(block.neurons)[1] < 0).any():
                    return True
    return False
