"""Small complete ONNX models around one operator, and the law that a change of sizes has to keep.

The oracle shares nothing with the package but the list of which neurons stay: the original model runs with zeros in
the weights that read (or make) the neurons that go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from solver_nas import plan_change, relaxed
from solver_nas.change import Plan
from solver_nas.graph import Port
from solver_nas.labels import Labels, Reason
from solver_nas.onnx import OnnxModel, load

Array = NDArray[Any]
Shape = Sequence[int | str | None]

FLOAT = TensorProto.FLOAT
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL
OPSET = 21
#: The format of an opset's time, as far as it makes a difference.
IR = {opset: 3 if opset < 9 else 8 if opset < 19 else 10 for opset in range(1, 30)}
TOLERANCE = 2e-5
#: One neuron less, half of them, three more.
DELTAS = (-1, -6, 3)


class Builder:
    """A graph that is written down node by node."""

    def __init__(self, opset: int = OPSET, seed: int = 0, *, ir: int | None = None) -> None:
        self.opset, self.ir, self.rng = opset, IR[opset] if ir is None else ir, np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.domains: dict[str, int] = {}
        self._count = 0

    def fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, name: str, *shape: int | str | None, dtype: int = FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, shape: Shape | None = None, dtype: int = FLOAT) -> None:
        shape = self.shape(name) if shape is None else shape
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def constant(self, array: Array | np.generic | Sequence[Any] | float, name: str = "") -> str:
        """An initializer."""
        made = name or self.fresh("constant")
        array = np.asarray(array)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.initializers.append(numpy_helper.from_array(array, made))
        return made

    def weight(self, *shape: int, name: str = "") -> str:
        """Random numbers of variance one over the number of those that are summed up."""
        return self.constant(self.rng.normal(size=shape).astype(np.float32) * 0.5, name or self.fresh("weight"))

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64), self.fresh("numbers"))

    def node(self, operator: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        return self.many(operator, *inputs, count=1, name=name, domain=domain, **attributes)[0]

    def many(
        self, operator: str, *inputs: str, count: int, name: str = "", domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node with several outputs."""
        name = name or self.fresh(operator)
        outputs = [f"{name}.{place}" if place else name for place in range(count)]
        if domain:
            self.domains.setdefault(domain, 1)
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=name, domain=domain, **attributes))
        return outputs

    def graph(self, name: str = "graph") -> GraphProto:
        inputs = list(self.inputs)
        if self.ir < 4:  # until then, initializers are inputs as well
            inputs += [
                helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)) for one in self.initializers
            ]
        return helper.make_graph(self.nodes, name, inputs, self.outputs, self.initializers)

    def model(self) -> ModelProto:
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(*one) for one in self.domains.items())]
        return helper.make_model(self.graph(), opset_imports=opsets, ir_version=self.ir)

    def shape(self, value: str) -> list[int | None]:
        """What shape inference finds."""
        known = onnx.shape_inference.infer_shapes(self.model(), data_prop=True).graph
        for one in [*known.value_info, *known.input, *known.output]:
            if one.name == value:
                return [dim.dim_value if dim.HasField("dim_value") else None for dim in one.type.tensor_type.shape.dim]
        raise KeyError(value)

    # -- what stands around the operator ---------------------------------------------------------------

    def dense(self, x: str, width: int, filters: int, name: str) -> str:
        return self.node("Gemm", x, self.weight(width, filters, name=f"{name}.W"), self.bias(filters, name), name=name)

    def linear(self, x: str, width: int, filters: int, name: str) -> str:
        made = self.node("MatMul", x, self.weight(width, filters, name=f"{name}.W"), name=name)
        return self.node("Add", made, self.bias(filters, name), name=f"{name}.plus")

    def conv(self, x: str, width: int, filters: int, name: str, rank: int = 2, kernel: int = 1) -> str:
        weight = self.weight(filters, width, *[kernel] * rank, name=f"{name}.W")
        return self.node("Conv", x, weight, self.bias(filters, name), name=name)

    def bias(self, size: int, name: str) -> str:
        return self.weight(size, name=f"{name}.b")


Middle = Callable[[Builder, str], str]

CHANNELS = 12
BATCH, TOKENS = "N", 5
IMAGE, SIGNAL, VOLUME = 6, 7, 4


def vector(middle: Middle, *, opset: int = OPSET, channels: int = CHANNELS, width: int | None = None) -> ModelProto:
    """(batch, features): Gemm, the operator, Gemm."""
    made = Builder(opset)
    x = made.dense(made.input("x", BATCH, 6), 6, channels, "first")
    y = middle(made, x)
    made.output(made.dense(y, width or _size(made, y, 1), 3, "head"))
    return made.model()


def tokens(middle: Middle, *, opset: int = OPSET, channels: int = CHANNELS, width: int | None = None) -> ModelProto:
    """(batch, tokens, features): MatMul and Add, the operator, MatMul and Add."""
    made = Builder(opset)
    x = made.linear(made.input("x", BATCH, TOKENS, 6), 6, channels, "first")
    y = middle(made, x)
    made.output(made.linear(y, width or _size(made, y, -1), 3, "head"))
    return made.model()


def image(
    middle: Middle, *, opset: int = OPSET, channels: int = CHANNELS, width: int | None = None, rank: int = 2
) -> ModelProto:
    """(batch, channels, height, width): convolution, the operator, convolution; also in one and three dimensions."""
    made = Builder(opset)
    size = {1: SIGNAL, 2: IMAGE, 3: VOLUME}[rank]
    x = made.conv(made.input("x", BATCH, 2, *[size] * rank), 2, channels, "first", rank)
    y = middle(made, x)
    y = made.conv(y, width or _size(made, y, 1), 3, "head", rank)
    made.output(y, [BATCH, 3, *[None] * rank])
    return made.model()


def _size(made: Builder, value: str, axis: int) -> int:
    size = made.shape(value)[axis]
    assert size, f"shape inference does not know the width of {value}: say it"
    return size


# -- the law -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Changed:
    """A model before and after a change.

    Args:
        before: as it was.
        after: as it is.
        plan: the change.
        model: after it.
        labels: of the model before it.
    """

    before: ModelProto
    after: ModelProto
    plan: Plan
    model: OnnxModel
    labels: Labels

    def gone(self, vertex: str, axis: int) -> list[int]:
        """Which positions of an axis go."""
        tensor = self.labels.tensors[Port(vertex)]
        axis %= len(tensor.shape)
        block = tensor.block_of(axis)
        if block is None:
            return []
        assert block.axes[0] == axis, "columns of a rectangle want an oracle of their own"
        index = self.plan.blueprint.moves.flat(block.levels[0])[1]
        return sorted(set(range(block.levels[0].size)) - set(index.tolist()))


def change(
    proto: ModelProto,
    delta: int,
    vertex: str = "first",
    *,
    pinned: bool = False,
    lighter: bool = True,
    given: dict[str, Array] | None = None,
    unverified: bool = False,
) -> Changed:
    """Resize a vertex; the change is applied, which includes the package's own verification.

    Args:
        proto: the model.
        delta: how many neurons more; the nearest possible size is taken, but another one than before.
        vertex: whose.
        pinned: whether something may be pinned for want of a better rule.
        lighter: whether the file has to show it.
        given: inputs to verify it with; by default, the package makes them up.
        unverified: for what onnxruntime cannot run.
    """
    model = load(proto, inputs=given)
    if unverified:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(OnnxModel, "approve", lambda *_: None)
            return _changed(proto, model, delta, vertex, pinned=pinned, lighter=lighter)
    return _changed(proto, model, delta, vertex, pinned=pinned, lighter=lighter)


def held(model: OnnxModel) -> list[Reason]:
    """What is pinned for want of a better rule; that outputs stay as they are is another matter."""
    return [reason for reason in model.labels.pinned if model.graph.vertex(reason.vertex).kind != "onnx.output"]


def _changed(proto: ModelProto, model: OnnxModel, delta: int, vertex: str, *, pinned: bool, lighter: bool) -> Changed:
    assert pinned or not held(model), held(model)
    labels = model.labels
    plan = plan_change({model[vertex]: relaxed(delta, must_change=True)})
    before, after = plan.sizes[vertex]
    assert (after < before) == (delta < 0), (before, after)
    plan.apply()
    made = model.proto
    if lighter:
        assert (numbers_in(made) < numbers_in(proto)) == (delta < 0), "nothing has become smaller or larger in the file"
    return Changed(proto, made, plan, model, labels)


def law(
    proto: ModelProto,
    delta: int,
    *,
    vertex: str = "first",
    readers: Sequence[str] = ("head",),
    makers: Sequence[str] = (),
    grows: bool = True,
    pinned: bool = False,
    lighter: bool = True,
    given: dict[str, Array] | None = None,
    tolerance: float = TOLERANCE,
) -> Changed:
    """A smaller model equals the original without the neurons that go, a larger one equals the original.

    Args:
        proto: the model.
        delta: how many neurons of the vertex more.
        vertex: which one is resized.
        readers: dense layers and convolutions whose weights get zeros where they read neurons that go.
        makers: those whose weights and biases get zeros where they make such neurons. With neither, the oracle is
            another test's affair.
        grows: whether new neurons make no difference.
        pinned: whether something may be pinned for want of a better rule.
        lighter: whether the file has to hold fewer numbers, or more.
        given: inputs; by default, random ones.
        tolerance: relative to the largest number.
    """
    done = change(proto, delta, vertex, pinned=pinned, lighter=lighter, given=given)
    given = inputs(proto) if given is None else given
    if delta > 0 and grows:
        close(run(done.after, given), run(proto, given), tolerance)
    elif delta < 0 and (readers or makers):
        close(run(done.after, given), run(silenced(done, readers, makers), given), tolerance)
    return done


def numbers_in(proto: ModelProto) -> int:
    """How many numbers a file holds."""
    constants = [one.t for node in proto.graph.node if node.op_type == "Constant" for one in node.attribute]
    return sum(int(np.prod(one.dims)) for one in [*proto.graph.initializer, *constants])


def silenced(done: Changed, readers: Sequence[str], makers: Sequence[str]) -> ModelProto:
    """The original, with zeros in the weights of dense layers and convolutions where neurons go."""
    made = ModelProto()
    made.CopyFrom(done.before)
    silent = 0
    for place, name in enumerate([*readers, *makers]):
        node, reads = node_of(made, name), place < len(readers)
        vertex = done.plan.blueprint.before.vertex(name).inputs[0].vertex if reads else name
        gone = done.gone(vertex, -1 if node.op_type == "MatMul" else 1)
        silent += len(gone)
        zero(made, node.input[1], 1 if reads == (node.op_type == "Conv") else 0, gone)
        if not reads and f"{name}.b" in {one.name for one in made.graph.initializer}:
            zero(made, f"{name}.b", 0, gone)
    assert silent, "nothing goes that anyone here could notice"
    return made


def by_hand(done: Changed, given: dict[str, Array], function: Callable[[Array], Array]) -> Array:
    """What a smaller model has to compute, where the operator looks at all neurons together.

    The neurons of `"first"` that stay go through a function of NumPy and through the rows of the head that stay.
    """
    probe = ModelProto()
    probe.CopyFrom(done.before)
    head = node_of(probe, "head")
    source = node_of(probe, "first").output[0]
    if head.op_type == "MatMul":
        source = node_of(probe, "first.plus").output[0]
    probe.graph.output.append(helper.make_tensor_value_info(source, FLOAT, None))
    axis = -1 if head.op_type == "MatMul" else 1
    x = np.delete(run(probe, given)[-1], done.gone("first", axis), axis)
    y = np.moveaxis(function(x), axis, -1)
    feeding = done.plan.blueprint.before.vertex("head").inputs[0].vertex
    kernel = weight(probe, "head.W")
    kernel = kernel.reshape(kernel.shape[:2]).T if head.op_type == "Conv" else kernel
    y = y @ np.delete(kernel, done.gone(feeding, axis), 0) + weight(probe, "head.b")
    return np.moveaxis(y, -1, axis)


def zero(proto: ModelProto, name: str, axis: int, places: Sequence[int]) -> None:
    """Put zeros into some rows of an initializer, or of the one that it is a dequantised view of."""
    made = {output: node for node in proto.graph.node for output in node.output}
    while name in made and made[name].op_type in ("DequantizeLinear", "Cast", "Identity"):
        name = made[name].input[0]
    tensor = next(one for one in proto.graph.initializer if one.name == name)
    array = numpy_helper.to_array(tensor).copy()
    np.moveaxis(array, axis, 0)[list(places)] = 0
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def kept(done: Changed, vertex: str = "first") -> Array:
    """Which neurons of a vertex stay."""
    return np.asarray(done.plan.indices[vertex])


def weight(proto: ModelProto, name: str) -> Array:
    """The numbers of an initializer."""
    return numpy_helper.to_array(next(one for one in proto.graph.initializer if one.name == name))


def node_of(proto: ModelProto, name: str) -> NodeProto:
    return next(node for node in proto.graph.node if node.name == name)


def setting(proto: ModelProto, node: str, name: str) -> Any:
    """An attribute of a node."""
    found = next(one for one in node_of(proto, node).attribute if one.name == name)
    value = helper.get_attribute_value(found)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, bytes) else value


def literal(proto: ModelProto, node: str, slot: int) -> list[int]:
    """What a node reads as numbers from an initializer."""
    found = weight(proto, node_of(proto, node).input[slot])
    return [int(one) for one in found.reshape(-1)]


def inputs(proto: ModelProto, batch: int = 2, seed: int = 3) -> dict[str, Array]:
    """Random inputs; open sizes are the batch's."""
    rng = np.random.default_rng(seed)
    given = {}
    own = {one.name for one in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in own:
            continue
        kind = value.type.tensor_type
        shape = [dim.dim_value if dim.HasField("dim_value") else batch for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype.kind == "f":
            given[value.name] = rng.normal(size=shape).astype(dtype)
        else:
            given[value.name] = rng.integers(0, 2, shape).astype(dtype)
    return given


def run(proto: ModelProto, given: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(None, given)]


def reference(proto: ModelProto, given: dict[str, Array]) -> list[Array]:
    """What ONNX's own implementation computes."""
    return [np.asarray(one) for one in ReferenceEvaluator(proto).run(None, given)]


def close(found: Sequence[Array], expected: Sequence[Array], tolerance: float = TOLERANCE) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert np.isfinite(other).all()
        assert np.abs(other).max() > 1e-3, "an oracle of zeros agrees with everything"
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * float(np.abs(other).max()))
