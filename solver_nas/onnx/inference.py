"""What ONNX itself says of a single node: types and shapes of its outputs, and small results.

Shapes come from ONNX's shape inference, numbers from its reference implementation.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TypeProto, defs, helper, numpy_helper, shape_inference

from solver_nas.errors import StoreError
from solver_nas.onnx import tensors
from solver_nas.onnx.operator import operators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from solver_nas.labels import Shape
    from solver_nas.onnx.facts import Fact
    from solver_nas.onnx.flatten import Step

Array = NDArray[Any]

SMALL = 4096  # elements of what is computed here: shapes, positions, but no weights
#: Operators whose result follows from the shape of what they are given.
SHAPES = frozenset({"Shape", "Size"})


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
    declared = {value.name: value.type for value in [*model.graph.value_info, *model.graph.output]}
    return Context(opsets, model.ir_version, declared)


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


#: Operators without shape inference of their own in some versions: whose it is, and how many inputs that one has.
_INFERRED_AS = {
    "GroupNormalization": ("Identity", 1),
    "MeanVarianceNormalization": ("Identity", 1),
    "GreaterOrEqual": ("Greater", 2),
    "LessOrEqual": ("Less", 2),
}


def infer(
    context: Context, step: Step, given: Sequence[Fact | None], trial: int
) -> dict[str, tuple[int, Shape | None]]:
    """Type and shape of every output, by local name.

    Args:
        context: of the model.
        step: a node without bodies.
        given: what is known about its inputs.
        trial: which set of sizes for what the model leaves open.

    Raises:
        StoreError: the operation cannot take what it gets.
    """
    node, schema = step.node, schema_of(step.operator, opset_of(context, step.operator))
    assert node is not None, "what enters a body is dealt with elsewhere"
    if schema is None:
        return _unknown(context, step, given, trial)
    if step.operator in _INFERRED_AS:
        operator, inputs = _INFERRED_AS[step.operator]
        node = helper.make_node(operator, node.input[:inputs], node.output)
        schema, given = defs.get_schema(operator, opset_of(context, operator)), given[:inputs]
    types, data = {}, {}
    for name, fact in zip(node.input, given, strict=True):
        if fact is None:
            continue
        types[name] = type_proto(fact.dtype, fact.at(trial).shape)
        number = fact.at(trial).number
        if number is not None and number.size <= SMALL:
            data[name] = numpy_helper.from_array(number)
    opsets = [helper.make_opsetid(domain, version) for domain, version in context.opsets.items()]
    try:
        found = shape_inference.infer_node_outputs(
            schema, node, types, data, opset_imports=opsets, ir_version=context.ir_version
        )
    except Exception as error:  # whatever the library finds wrong with the node
        if any(fact is not None and not fact.dtype for fact in given):
            # It reads what an operator has made that nobody knows.
            return {}
        shapes = [fact.at(trial).shape if fact else None for fact in given]
        raise StoreError(
            f"node {step.name!r} ({step.operator}) cannot take inputs of shapes {shapes}: {error}"
        ) from error
    described = {name: _read(kind) for name, kind in found.items()}
    if step.operator == "Reshape" and given[0] is not None:
        _check_elements(step, given[0].at(trial).shape, next(iter(described.values()))[1])
    if step.operator in _WINDOWS:
        # A window that is larger than what it slides over: these sizes say nothing about others.
        described = {
            name: (dtype, shape and tuple(size or None for size in shape)) for name, (dtype, shape) in described.items()
        }
    return described


def _check_elements(step: Step, before: Shape | None, after: Shape | None) -> None:
    """A whole shape that is written down goes through shape inference, whatever it is given."""
    if before is None or after is None or None in before or None in after:
        return
    if prod(size or 0 for size in before) != prod(size or 0 for size in after):
        raise StoreError(f"node {step.name!r} ({step.operator}) cannot turn the shape {before} into {after}")


_WINDOWS = frozenset({"Conv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool"})


def _unknown(
    context: Context, step: Step, given: Sequence[Fact | None], trial: int
) -> dict[str, tuple[int, Shape | None]]:
    """What the outputs of an operator are that ONNX does not know: what its rule says, or what the model declares."""
    assert step.node is not None, "what enters a body is dealt with elsewhere"
    known = operators().get(step.operator)
    if known is None or known.shape is None or not given or given[0] is None:
        return {name: _read(context.declared[name]) for name in step.node.output if name in context.declared}
    shapes = [None if fact is None else fact.at(trial).shape for fact in given]
    if any(fact is not None and shape is None for fact, shape in zip(given, shapes, strict=True)):
        return {}
    return {step.node.output[0]: (given[0].dtype, tuple(known.shape(*shapes)))}


def _read(kind: TypeProto) -> tuple[int, Shape | None]:
    tensor = kind.tensor_type
    if not kind.HasField("tensor_type"):
        return 0, None
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)


def compute(
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
        return {node.output[0]: tensors.read(tensor, step.name)} if small and tensor is not None else None
    if step.operator in SHAPES and given[0] is not None:
        return _shape(step, node, given[0].at(trial).shape)
    for name in node.output:
        shape = types.get(name, (0, None))[1]
        if shape is not None and (None in shape or prod(size or 0 for size in shape) > SMALL):
            return None
    numbers = {}
    for name, fact in zip(node.input, given, strict=True):
        if fact is None:
            continue
        number = fact.at(trial).number
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
