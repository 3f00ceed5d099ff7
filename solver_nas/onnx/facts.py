"""What is known about every value of an ONNX model without its weights: shapes, and the numbers they are made of.

Sizes that the model leaves open are tried out with two sets of numbers. What comes out alike in both does not depend
on them. Shapes are those that ONNX's own shape inference finds, operator by operator; numbers (of shapes, of
positions) are computed with ONNX's reference implementation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TypeProto, defs, helper, numpy_helper, shape_inference

from solver_nas.errors import StoreError
from solver_nas.onnx import tensors
from solver_nas.onnx.flatten import Program, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from solver_nas.labels import Shape

Array = NDArray[Any]
Trial = tuple[int, ...]

SMALL = 4096  # elements of what is computed here: shapes, positions, but no weights
TRIALS = 2


class Source(Enum):
    """What a value depends on."""

    CONSTANT = "constants"
    SHAPE = "constants and the shapes of what the model is given"
    DATA = "what the model is given"


class Seen(NamedTuple):
    """What a value is for one set of trial sizes.

    Args:
        shape: `None` for an unknown rank; `None` in it for a size that depends on data.
        number: the value itself if it is small and does not depend on data.
    """

    shape: Shape | None
    number: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """What is known about a value.

    Args:
        dtype: ONNX's number of its type; 0 if it is not known.
        source: what it depends on.
        seen: one entry for each set of trial sizes.
    """

    dtype: int
    source: Source
    seen: tuple[Seen, ...]

    @property
    def shape(self) -> Shape | None:
        """The sizes that do not depend on what the model is given."""
        first, *others = (seen.shape for seen in self.seen)
        if first is None or any(other is None or len(other) != len(first) for other in others):
            return None
        return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(first, *others, strict=True))

    @property
    def numbers(self) -> tuple[object, ...] | None:
        """The elements of a small value, `None` for those that depend on open sizes; `None` if nothing is known."""
        first, *others = (seen.number for seen in self.seen)
        if first is None or any(other is None or other.shape != first.shape for other in others):
            return None
        rows = [seen.number.reshape(-1).tolist() for seen in self.seen if seen.number is not None]
        return tuple(row[0] if all(_same(row[0], other) for other in row) else None for row in zip(*rows, strict=True))

    @property
    def constant(self) -> Array | None:
        """The value, if it is small and the same whatever the model is given."""
        first, *others = (seen.number for seen in self.seen)
        if first is None or any(
            other is None or not np.array_equal(first, other, equal_nan=_real(first)) for other in others
        ):
            return None
        return first


def _same(one: object, other: object) -> bool:
    return one == other or (one != one and other != other)


def _real(array: Array) -> bool:
    return array.dtype.kind in "fc"


class Context(NamedTuple):
    """What the inference of a single node needs to know about its model.

    Args:
        opsets: version by domain.
        ir_version: of the model.
        declared: shapes that the model declares, by local name, for operators that nobody knows.
    """

    opsets: Mapping[str, int]
    ir_version: int
    declared: Mapping[str, TypeProto]


def context_of(model: ModelProto) -> Context:
    """What holds for all nodes of a model."""
    opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    declared = {value.name: value.type for value in model.graph.value_info}
    return Context(opsets, model.ir_version, declared)


def open_sizes(
    model: ModelProto, program: Program, given: Mapping[str, Sequence[int | None]]
) -> dict[str, list[int | str]]:
    """Every input's shape, with names for sizes that are open.

    Args:
        model: for the declared shapes.
        program: for the inputs.
        given: shapes that the caller wants; `None` in them for sizes that stay open.

    Raises:
        StoreError: an input without a shape, or a shape that contradicts the model's.
    """
    declared = {value.name: value.type for value in model.graph.input}
    if unknown := set(given) - set(program.inputs):
        raise StoreError(f"there is no input {min(unknown)!r}; the inputs are {sorted(program.inputs)}")
    found: dict[str, list[int | str]] = {}
    for name in program.inputs:
        kind = declared[name]
        if not kind.HasField("tensor_type"):
            raise StoreError(
                f"input {name!r} is no tensor but a sequence, map or optional value; these are not supported"
            )
        wanted = given.get(name)
        if not kind.tensor_type.HasField("shape"):
            if wanted is None:
                raise StoreError(f"input {name!r} has no declared shape; give one: input_shapes={{{name!r}: (...)}}")
            found[name] = [f"{name}.{axis}" if size is None else int(size) for axis, size in enumerate(wanted)]
            continue
        sizes: list[int | str] = [
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else dim.dim_param or f"{name}.{axis}"
            for axis, dim in enumerate(kind.tensor_type.shape.dim)
        ]
        if wanted is not None:
            if len(wanted) != len(sizes):
                raise StoreError(f"input {name!r} has the shape {sizes}, got {tuple(wanted)}")
            for axis, size in enumerate(wanted):
                declared_size = sizes[axis]
                if size is not None and isinstance(declared_size, int) and declared_size != size:
                    raise StoreError(f"input {name!r} has the shape {sizes}, got {tuple(wanted)}")
                sizes[axis] = declared_size if size is None else int(size)
        found[name] = sizes
    return found


#: Trial sizes of first axes, which no layer is likely to have.
_FIRST = ((7, 11), (13, 17), (19, 23))
BATCHES = frozenset(pair[0] for pair in _FIRST)


def trial_sizes(shapes: Mapping[str, Sequence[int | str]]) -> Iterator[tuple[dict[str, int], ...]]:
    """Sets of numbers for open sizes, to be tried in turn until a model takes them."""
    first = list(dict.fromkeys(size for shape in shapes.values() for size in shape[:1] if isinstance(size, str)))
    rest = [size for shape in shapes.values() for size in shape[1:] if isinstance(size, str) and size not in first]
    rest = list(dict.fromkeys(rest))
    batches = [
        {name: _FIRST[place % len(_FIRST)][trial] + 100 * (place // len(_FIRST)) for place, name in enumerate(first)}
        for trial in range(TRIALS)
    ]
    ones = [dict.fromkeys(first, 1) for _ in range(TRIALS)]
    choices: list[Callable[[int, int], int]] = [
        # Multiples of 32 fit networks that halve and double; distinct ones cannot be mistaken for each other.
        lambda place, trial: 32 * (5 + 2 * place + 6 * trial + 2 * trial * place),
        lambda _, trial: 32 * (7, 12)[trial],
        lambda place, trial: 16 * (20 + 3 * place + 7 * trial),
        lambda _, trial: (1, 2)[trial],
        lambda _, trial: 16000 * (1, 2)[trial],
    ]
    for chosen in choices:
        sizes = [{name: chosen(place, trial) for place, name in enumerate(rest)} for trial in range(TRIALS)]
        for batch in (batches, ones) if first else (batches,):
            yield tuple({**batch[trial], **sizes[trial]} for trial in range(TRIALS))
        if not rest:
            return


class Facts:
    """The facts about all values, found step by step."""

    def __init__(
        self,
        context: Context,
        constants: Mapping[str, Fact],
        inputs: Mapping[str, Fact],
    ) -> None:
        """Start with what is given."""
        self.context = context
        self.known: dict[str, Fact] = {**constants, **inputs}

    def __getitem__(self, name: str) -> Fact:
        """What is known about a value."""
        return self.known[name]

    def learn(self, step: Step) -> None:
        """Find out about the outputs of one more step.

        Raises:
            StoreError: the operation cannot take what it gets.
        """
        if step.node is None or step.bodies:
            self._learn_flow(step)
            return
        given = [self.known[name] if name else None for name in step.inputs]
        source = _source(step, given)
        types: list[dict[str, tuple[int, Shape | None]]] = []
        numbers: list[Mapping[str, Array] | None] = []
        for trial in range(TRIALS):
            types.append(_infer(self.context, step, given, trial))
            numbers.append(None)
            if source is not Source.DATA:
                numbers[trial] = _compute(self.context, step, given, types[trial], trial)
        for name, local in zip(step.outputs, step.node.output, strict=True):
            if not name:
                continue
            found = [(numbers[trial] or {}).get(local) for trial in range(TRIALS)]
            seen = tuple(
                Seen(types[trial].get(local, (0, None))[1] if number is None else number.shape, number)
                for trial, number in enumerate(found)
            )
            dtype = types[0].get(local, (0, None))[0]
            if not dtype and found[0] is not None:
                dtype = helper.np_dtype_to_tensor_dtype(found[0].dtype)
            self.known[name] = Fact(dtype, source, seen)

    def _learn_flow(self, step: Step) -> None:
        """What enters a body, and what a node with bodies returns."""
        facts = [self.known[name] if name else None for name in step.inputs]
        match step.operator:
            case "carried":
                assert facts[0] is not None, "a loop's state is given"
                made = [_blind(facts[0])]
            case "element":
                assert facts[0] is not None, "a sequence is given"
                made = [_element(facts[0], int(str(step.attributes["axis"])))]
            case "round":
                made = [Fact(7, Source.DATA, (Seen((), None),) * TRIALS)]
            case "If":
                made = [self._branched(step, place) for place in range(len(step.outputs))]
            case "Loop":
                made = self._looped(step, 1)
            case "Scan":
                made = self._looped(step, 0)
            case _:
                made = [Fact(0, Source.DATA, (Seen(None, None),) * TRIALS) for _ in step.outputs]
        self.known.update((name, fact) for name, fact in zip(step.outputs, made, strict=True) if name)

    def _branched(self, step: Step, place: int) -> Fact:
        """What a branch returns: the one that is taken, where that is known, or what both have in common."""
        facts = [self.known[body.outputs[place]] for body in step.bodies]
        chosen = taken_branch(step, self)
        if chosen is None:
            return _either(*facts)
        condition = self.known[step.inputs[0]].source
        fact = facts[chosen]
        return fact if fact.source is not Source.CONSTANT else Fact(fact.dtype, condition, fact.seen)

    def _looped(self, step: Step, skipped: int) -> list[Fact]:
        """States keep their shape if the body does; what is collected gets one more axis."""
        (body,) = step.bodies
        returned = [self.known[name] for name in body.outputs[skipped:]]
        entered = [self.known[name] for name in body.inputs[2 * skipped :]]
        if step.operator == "Scan":
            entered = entered[: len(entered) - int(str(step.attributes["num_scan_inputs"]))]
        states = len(entered)
        made = [_either(one, other) for one, other in zip(entered, returned[:states], strict=True)]
        axes = step.attributes.get("scan_output_axes")
        for place, fact in enumerate(returned[states:]):
            axis = axes[place] if isinstance(axes, tuple) else 0
            made.append(_collected(fact, axis))
        return made


def taken_branch(step: Step, facts: Facts) -> int | None:
    """Which body of an If is taken, if its condition does not depend on data or on open sizes."""
    condition = facts[step.inputs[0]].constant
    if condition is None or condition.size != 1:
        return None
    names = sorted(attribute.name for attribute in step.node.attribute) if step.node is not None else []
    return names.index("then_branch" if condition.reshape(-1)[0] else "else_branch")


def _blind(fact: Fact) -> Fact:
    """The same shape, with numbers that nobody knows."""
    return Fact(fact.dtype, Source.DATA, tuple(Seen(seen.shape, None) for seen in fact.seen))


def _element(fact: Fact, axis: int) -> Fact:
    def without(shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        place = axis % len(shape)
        return (*shape[:place], *shape[place + 1 :])

    return Fact(fact.dtype, Source.DATA, tuple(Seen(without(seen.shape), None) for seen in fact.seen))


def _collected(fact: Fact, axis: int) -> Fact:
    def longer(shape: Shape | None) -> Shape | None:
        if shape is None:
            return None
        place = axis % (len(shape) + 1)
        return (*shape[:place], None, *shape[place:])

    return Fact(fact.dtype, Source.DATA, tuple(Seen(longer(seen.shape), None) for seen in fact.seen))


def _either(*facts: Fact) -> Fact:
    """What is known of a value that is one of these."""
    seen = []
    for trial in range(TRIALS):
        shapes = [fact.seen[trial].shape for fact in facts]
        first = shapes[0]
        shape: Shape | None = None
        if first is not None and all(other is not None and len(other) == len(first) for other in shapes):
            columns = zip(*(other for other in shapes if other is not None), strict=True)
            shape = tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in columns)
        seen.append(Seen(shape, None))
    return Fact(facts[0].dtype, Source.DATA, tuple(seen))


#: Operators whose result follows from the shape of what they are given.
SHAPES = frozenset({"Shape", "Size"})
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def _source(step: Step, given: Sequence[Fact | None]) -> Source:
    if step.operator in _RANDOM:
        return Source.DATA
    sources = {fact.source for fact in given if fact is not None}
    if step.operator in SHAPES:
        known = all(fact.shape is not None for fact in given if fact is not None)
        return Source.SHAPE if known else Source.DATA
    if Source.DATA in sources or step.bodies:
        return Source.DATA
    return Source.SHAPE if Source.SHAPE in sources else Source.CONSTANT


def type_proto(dtype: int, shape: Shape | None) -> TypeProto:
    """A tensor's type in ONNX's own words."""
    if shape is None:
        made = TypeProto()
        made.tensor_type.elem_type = dtype
        return made
    return helper.make_tensor_type_proto(dtype, [None if size is None else int(size) for size in shape])


@lru_cache(maxsize=1024)
def schema_of(operator: str, opset: int) -> defs.OpSchema | None:
    """What ONNX knows about an operator."""
    domain, _, name = operator.rpartition("::")
    try:
        return defs.get_schema(name, opset, domain)
    except defs.SchemaError:
        return None


def opset_of(context: Context, operator: str) -> int:
    """The version of an operator's domain."""
    return context.opsets.get(operator.rpartition("::")[0], 1)


def _infer(
    context: Context, step: Step, given: Sequence[Fact | None], trial: int
) -> dict[str, tuple[int, Shape | None]]:
    node, schema = step.node, schema_of(step.operator, opset_of(context, step.operator))
    assert node is not None, "what enters a body is dealt with elsewhere"
    if schema is None:
        return {name: _read(context.declared[name]) for name in node.output if name in context.declared}
    types, data = {}, {}
    for name, fact in zip(node.input, given, strict=True):
        if fact is None:
            continue
        types[name] = type_proto(fact.dtype, fact.seen[trial].shape)
        number = fact.seen[trial].number
        if number is not None and number.size <= SMALL:
            data[name] = numpy_helper.from_array(number)
    opsets = [helper.make_opsetid(domain, version) for domain, version in context.opsets.items()]
    try:
        found = shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=opsets, ir_version=context.ir_version
        )
    except Exception as error:  # whatever the library finds wrong with the node
        shapes = [fact.seen[trial].shape if fact else None for fact in given]
        raise StoreError(
            f"node {step.name!r} ({step.operator}) cannot take inputs of shapes {shapes}: {error}"
        ) from error
    return {name: _read(kind) for name, kind in found.items()}


def _read(kind: TypeProto) -> tuple[int, Shape | None]:
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type"):
        return 0, None
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)


def _compute(
    context: Context,
    step: Step,
    given: Sequence[Fact | None],
    types: Mapping[str, tuple[int, Shape | None]],
    trial: int,
) -> Mapping[str, Array] | None:
    """The numbers of a small result."""
    node = step.node
    assert node is not None, "what enters a body is dealt with elsewhere"
    if step.operator == "Constant":
        tensor = tensors.of_constant(node)
        small = tensor is not None and prod(tensor.dims) <= SMALL and tensor.data_type != tensor.STRING
        return {node.output[0]: tensors.read(tensor, None, step.name)} if small and tensor is not None else None
    if step.operator in SHAPES and given[0] is not None:
        return _shape(step, node, given[0].seen[trial].shape)
    for name in node.output:
        shape = types.get(name, (0, None))[1]
        if shape is not None and (None in shape or prod(size or 0 for size in shape) > SMALL):
            return None
    numbers = {}
    for name, fact in zip(node.input, given, strict=True):
        if fact is None:
            continue
        number = fact.seen[trial].number
        if number is None or number.size > SMALL:
            return None
        numbers[name] = number
    return run(node, numbers, context)


def _shape(step: Step, node: NodeProto, shape: Shape | None) -> Mapping[str, Array] | None:
    if shape is None or None in shape:
        return None
    sizes = np.array([size for size in shape if size is not None], np.int64)
    if step.operator == "Size":
        return {node.output[0]: np.array(prod(sizes.tolist()), np.int64)}
    start, end = step.attributes.get("start", 0), step.attributes.get("end")
    return {node.output[0]: sizes[slice(start, end)]}


def run(
    node: NodeProto, numbers: Mapping[str, Array], context: Context, *, limit: int | None = SMALL
) -> Mapping[str, Array] | None:
    """The outputs of one node, computed by ONNX's reference implementation; `None` if it cannot.

    Args:
        node: without bodies that read anything else.
        numbers: its inputs by local name.
        context: of its model.
        limit: elements that an output may have.
    """
    from onnx.reference import ReferenceEvaluator

    plain = _PLAIN.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if plain is not None:
        return {node.output[0]: plain(*(numbers[name] for name in node.input))}
    single = NodeProto()
    single.CopyFrom(node)
    model = helper.make_model(
        helper.make_graph(
            [single],
            "one",
            [helper.make_value_info(name, TypeProto()) for name in dict.fromkeys(node.input) if name],
            [helper.make_value_info(name, TypeProto()) for name in node.output if name],
        ),
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in context.opsets.items()],
        ir_version=context.ir_version,
    )
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(model).run(None, dict(numbers))
    except Exception:  # noqa: BLE001 - what cannot be computed here stays unknown, and pins what depends on it
        return None
    results = {
        name: np.asarray(value) for name, value in zip((name for name in node.output if name), found, strict=True)
    }
    small = all(limit is None or value.size <= limit for value in results.values())
    return results if small else None


#: What the reference implementation needs a millisecond for, and NumPy none.
_PLAIN: dict[str, Callable[..., Array]] = {
    "Identity": lambda x: x,
    "Add": lambda x, y: np.asarray(x + y),
    "Sub": lambda x, y: np.asarray(x - y),
    "Mul": lambda x, y: np.asarray(x * y),
}
