"""How neurons pass through PyTorch operations that arrange elements anew: reshapes, transposes, repetition."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

import numpy as np

from solver_nas.labels import Extent, Measure, Origin, Tensor
from solver_nas.rules.guarding import UnsupportedError
from solver_nas.rules.pairing import paired
from solver_nas.rules.primitives import take, transpose, whole
from solver_nas.rules.rearranging import rearranged
from solver_nas.rules.reshape import merge_axes, split_axis
from solver_nas.rules.stretching import even, expanded, placed, squeezed, tiled
from solver_nas.torch.op import Op
from solver_nas.torch.operator import operator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from solver_nas.graph import Vertex
    from solver_nas.rules import Resized
    from solver_nas.rules.pairing import Pairs
    from solver_nas.torch.operator import Reading

# -- reshapes -------------------------------------------------------------------------------------


def _pairs(reading: Reading) -> Mapping[str, object]:
    """Which axes hold the same elements before and after."""
    found = paired(next(iter(reading.shapes.values()))[0], reading.shape)
    if found is None:
        raise UnsupportedError(f"{reading.operator}: there are no elements")
    return {"pairs": found}


def _rearranged(op: Op) -> Tensor:
    return rearranged(op.scope, op.x, op.shape, cast("Pairs", op.extra("pairs")))


@operator(
    "view",
    "reshape",
    "_unsafe_view",
    "_reshape_alias",
    note="axes merge and split; a split axis becomes a rectangle; sizes follow where they are computed",
    prepare=_pairs,
)
def _reshape(op: Op) -> Tensor:
    y = _rearranged(op)
    name = "shape" if op.argument("shape") is not None else "size"
    for axis in range(len(op.shape)):
        y = op.sized(name, axis, y, axis)
    return y


@operator("flatten", note="axes merge; the copies of a neuron go together", prepare=_pairs)
def _flatten(op: Op) -> Tensor:
    return _rearranged(op)


@operator("unflatten", note="an axis becomes a rectangle; sizes follow where they are computed", prepare=_pairs)
def _unflatten(op: Op) -> Tensor:
    y = _rearranged(op)
    sizes = op.integers("sizes") or ()
    first = op.integer("dim") % (len(op.shape) - len(sizes) + 1)
    for place in range(len(sizes)):
        y = op.sized("sizes", place, y, first + place)
    return y


@operator("reshape_as", "view_as", note="as a reshape to the other tensor's shape", prepare=_pairs)
def _reshaped_as(op: Op) -> Tensor:
    return _as_large(op, _rearranged(op))


def _as_large(op: Op, y: Tensor) -> Tensor:
    """Sizes that are those of another tensor, which is read for nothing else."""
    slot = op.slot("other")
    like = op.tensor("other")
    op.scope.speak(like)
    for axis in range(len(y.shape)):
        mine, theirs = y.block_of(axis), like.block_of(axis)
        if mine is None and theirs is None:
            continue
        if slot is None or slot.edge is None:
            y = whole(op.scope, y, [axis], "its size is that of a parameter")
            continue
        depth = 0 if mine is None else mine.axes.index(axis)
        origin = Origin(_ONE, (Extent(op.scope.vertex.inputs[slot.edge], axis),), ())
        op.scope.tape.measure(
            Measure(
                op.scope.reason("as large as another tensor"),
                None,
                (y.shape[axis] or 1) if mine is None else 1,
                () if mine is None else (mine.levels[depth],),
                () if mine is None or not depth else (mine.levels[depth - 1],),
                origin,
            )
        )
    return y


_ONE = Fraction(1)

# -- axes -------------------------------------------------------------------------------------------


@operator("permute", note="axes change places")
def _permute(op: Op) -> Tensor:
    rank = len(op.shape)
    return transpose(op.scope, op.x, [axis % rank for axis in op.integers("dims") or ()])


@operator("transpose", "swapaxes", "swapdims", "t", "numpy_T", "adjoint", "mT", note="axes change places")
def _transpose(op: Op) -> Tensor:
    order = list(range(len(op.shape)))
    if op.operator in ("t", "numpy_T"):
        return transpose(op.scope, op.x, order[::-1])
    names = [name for name in ("dim0", "dim1", "axis0", "axis1") if op.argument(name) is not None]
    one, other = (op.integer(name) for name in names) if names else (-1, -2)
    order[one], order[other] = order[other], order[one]
    return transpose(op.scope, op.x, order)


@operator("movedim", "moveaxis", note="axes change places")
def _moved(op: Op) -> Tensor:
    rank = len(op.shape)
    sources, targets = op.integers("source") or (), op.integers("destination") or ()
    rest = iter(axis for axis in range(rank) if axis not in {one % rank for one in sources})
    place = {target % rank: source % rank for source, target in zip(sources, targets, strict=True)}
    return transpose(op.scope, op.x, [place[axis] if axis in place else next(rest) for axis in range(rank)])


def _gone(reading: Reading) -> Mapping[str, object]:
    """Which axes go: those of size 1 at the beginning."""
    shape = next(iter(reading.shapes.values()))[0]
    dim = reading.arguments.get("dim")
    named = range(len(shape)) if dim is None else (dim,) if isinstance(dim, int) else cast("Sequence[int]", dim)
    return {"gone": tuple(sorted(axis % len(shape) for axis in named if shape[axis] == 1)) if shape else ()}


@operator("squeeze", note="axes of size 1 go", prepare=_gone)
def _squeeze(op: Op) -> Tensor:
    return squeezed(op.scope, op.x, cast("tuple[int, ...]", op.extra("gone")))


@operator("unsqueeze", note="a new axis of size 1")
def _unsqueeze(op: Op) -> Tensor:
    rank = len(op.shape)
    new = op.integer("dim") % rank
    return placed(op.scope, op.x, [None if axis == new else axis - (axis > new) for axis in range(rank)])


# -- repetition ----------------------------------------------------------------------------------------


def _widened(reading: Reading) -> Mapping[str, object]:
    """Which axes were of size 1, or not there, before they were expanded."""
    before, after = next(iter(reading.shapes.values()))[0], reading.shape
    lead = len(after) - len(before)
    wide = (axis for axis, size in enumerate(after) if axis < lead or (before[axis - lead] == 1 and size != 1))
    return {"widened": tuple(wide)}


@operator("expand", "broadcast_to", note="neurons stay; axes that are expanded follow what they meet", prepare=_widened)
def _expand(op: Op) -> Tensor:
    y = expanded(op.scope, op.x, op.shape, cast("tuple[int, ...]", op.extra("widened")))
    for axis in range(len(op.shape)):
        y = op.sized("size", axis, y, axis)
    return y


@operator("expand_as", note="as an expansion to the other tensor's shape", prepare=_widened)
def _expanded_as(op: Op) -> Tensor:
    return _as_large(op, expanded(op.scope, op.x, op.shape, cast("tuple[int, ...]", op.extra("widened"))))


@operator(
    *("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty", "scalar_tensor"),
    note="equal numbers follow what they meet; sizes follow where they are computed",
)
def _filled(op: Op) -> Tensor:
    for name in op.given:
        edge = op.edge(name)
        if edge is not None:
            op.scope.speak(edge)
        else:
            op.hold(name, "only its type is read")
    y = even(op.scope, Tensor(op.shape), op.shape, range(len(op.shape)))
    for axis in range(len(op.shape)):
        y = op.sized("size", axis, y, axis)
    return y


@operator(
    "zeros_like", "ones_like", "full_like", "empty_like", note="equal numbers with the neurons of the other tensor"
)
def _filled_like(op: Op) -> Tensor:
    op.scope.speak(op.x)
    return op.x


@operator("repeat", "tile", note="neurons are repeated")
def _tile(op: Op) -> Tensor:
    x, repeats = op.x, op.integers("repeats") or op.integers("dims") or ()
    lead = len(op.shape) - len(x.shape)
    y = placed(op.scope, x, [*[None] * lead, *range(len(x.shape))])
    for axis, times in zip(range(len(op.shape) - len(repeats), len(op.shape)), repeats, strict=True):
        if times == 1:
            continue
        if y.block_of(axis) is not None:
            y = tiled(op.scope, y, axis, times)
        else:
            y = Tensor((*y.shape[:axis], op.shape[axis], *y.shape[axis + 1 :]), y.blocks)
    op.scope.speak(y)
    return y


@operator("repeat_interleave", note="every neuron is repeated")
def _interleaved(op: Op) -> Tensor:
    dim = op.argument("dim")
    if dim is None or op.has("repeats"):
        raise op.unsupported("how often each is repeated")
    x, axis = op.x, op.integer("dim") % len(op.shape)
    if x.block_of(axis) is None:
        op.scope.speak(x)
        return Tensor(op.shape, x.blocks)
    return take(op.scope, x, axis, np.repeat(np.arange(x.shape[axis] or 0), op.integer("repeats", 1)))


# -- order ------------------------------------------------------------------------------------------------


@operator("flip", note="neurons in reverse")
def _flip(op: Op) -> Tensor:
    x = op.x
    for axis in op.integers("dims") or ():
        if x.block_of(axis % len(x.shape)) is not None:
            x = take(op.scope, x, axis, np.arange(x.shape[axis] or 0)[::-1])
    op.scope.speak(x)
    return x


@operator("roll", note="an axis along which neurons are shifted is pinned")
def _roll(op: Op) -> Tensor:
    x = op.x
    return whole(op.scope, x, op.integers("dims") or range(len(x.shape)), "positions of this axis are shifted")


@operator("rot90", note="the axes that are turned are pinned")
def _turned(op: Op) -> Tensor:
    x = whole(op.scope, op.x, op.integers("dims") or (0, 1), "positions of these axes are turned")
    return Tensor(op.shape, x.blocks)


def _groups(reading: Reading) -> Mapping[str, object]:
    return {"groups": int(cast("int", reading.arguments["groups"]))}


def _regrouped(vertex: Vertex, resized: Resized) -> Mapping[str, object]:
    block = resized.before[0].block_of(1)
    if block is None:
        return {}
    return {"groups": resized.rows(block.lines(1)[0], cast("int", vertex.attributes["groups"]))}


@operator(
    "channel_shuffle",
    "native_channel_shuffle",
    note="the channels of all groups in turn; each group keeps equally many",
    prepare=_groups,
    rewrite=_regrouped,
)
def _shuffle(op: Op) -> Tensor:
    x, groups = op.x, cast("int", op.extra("groups"))
    y = split_axis(op.scope, x, 1, (groups, (x.shape[1] or 0) // groups))
    block = y.block_of(1)
    if block is not None:
        op.counted("groups", 0, block.levels[block.axes.index(1)])
    order = list(range(len(y.shape)))
    order[1], order[2] = 2, 1
    return merge_axes(op.scope, transpose(op.scope, y, order), 1, 2)
