"""Dense layers and convolutions as matrices: the product is what the layer computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from solver_nas import Network, nn, onnx
from solver_nas.editable import Editable
from solver_nas.linear import Linear, Shift, along, transposed
from solver_nas.torch import trace


def product(model: Editable, name: str, x: Any) -> tuple[Any, Any]:
    """What a vertex computes, and what its matrix makes of what it reads; both as rows."""
    (batch,) = model.batches([x], len(x))
    linear = model.fittable(model.graph.vertex(name))
    assert isinstance(linear, Linear)
    passage = model.course().start(batch)
    read = np.array(passage.value(model.graph.vertex(name).inputs[linear.slot].vertex))
    weight = np.asarray(model.arrays[linear.weight])
    rows = linear.rows(read, weight, 10**6, 0)
    made = rows @ linear.matrix(weight, len(rows))
    found = np.moveaxis(made, 0, 1).reshape(made.shape[1], -1)
    if linear.bias is not None:
        found = found + np.asarray(model.arrays[linear.bias]).reshape(-1)
    value = np.array(passage.value(name))
    axis = 1 if linear.window else -1
    return np.moveaxis(value, axis, -1).reshape(-1, value.shape[axis]), found


@given(
    rank=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.sampled_from(["same", "valid", 1, 2]),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
)
def test_convolutions_of_numpy(**how: Any) -> None:
    rank = how.pop("rank")
    net = Network(seed=1)
    image = net.input("x", (4, *(7, 6, 8)[:rank]))
    conv = nn.conv(image, 8, how.pop("kernel"), name="conv", **how)
    net.output(conv)
    x = np.random.default_rng(0).normal(size=(3, *image.shape[1:]))  # type: ignore[arg-type] # all sizes are known
    assert np.allclose(*product(net, "conv", x))


@given(
    rank=st.integers(1, 3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 1),
    extra=st.integers(0, 1),
    bias=st.booleans(),
)
def test_transposed_convolutions_of_numpy(**how: Any) -> None:
    rank, extra = how.pop("rank"), how.pop("extra")
    net = Network(seed=1)
    image = net.input("x", (4, *(5, 3, 4)[:rank]))
    extra = extra if extra < max(how["stride"], how["dilation"]) else 0
    net.output(nn.conv_transpose(image, 6, how.pop("kernel"), output_padding=extra, name="conv", **how))
    found = net.fittable(net.graph.vertex("conv"))
    if found is None:
        # More is cut off than the window reaches over.
        assert how["padding"] > how["dilation"] * (net["conv"].parameters["weight"].shape[2] - 1)
        return
    x = np.random.default_rng(0).normal(size=(3, *image.shape[1:]))  # type: ignore[arg-type] # all sizes are known
    assert np.allclose(*product(net, "conv", x))


def test_a_transposed_weight_comes_back_from_its_matrix() -> None:
    window = transposed((3, 2), (2, 2), (1, 1), ((0, 0), (1, 0)), (0, 0))
    assert window is not None
    linear = Linear("v", 0, "w", (1, 0, 2, 3), None, window)
    weight = RNG.normal(size=(4, 6, 3, 2))
    assert np.array_equal(linear.weight_of(linear.matrix(weight, 1), weight), weight)


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 4), (2, 3, 2, 4)])
def test_dense_layers_of_numpy(shape: tuple[int, ...]) -> None:
    net = Network(seed=1)
    net.output(nn.dense(net.input("x", shape[1:], axis=-1), 6, name="dense"))
    assert np.allclose(*product(net, "dense", np.random.default_rng(0).normal(size=shape)))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv1d(4, 6, 3, padding=1),
        torch.nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2),
        torch.nn.Conv2d(4, 8, 3, padding="same", bias=False),
        torch.nn.Conv2d(4, 8, 4, padding="same"),
        torch.nn.Conv2d(4, 8, 3, padding="valid", groups=4),
        torch.nn.Conv3d(4, 6, 2, padding=1, stride=2),
        torch.nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1),
        torch.nn.ConvTranspose2d(4, 5, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), dilation=(1, 2)),
        torch.nn.ConvTranspose3d(4, 3, 2, stride=2, bias=False),
        torch.nn.Linear(7, 5),
        torch.nn.Linear(7, 5, bias=False),
    ],
    ids=str,
)
def test_layers_of_torch(layer: Any) -> None:
    rank = 1 if isinstance(layer, torch.nn.Linear) else len(layer.kernel_size)
    x = torch.randn(2, *((7,) if isinstance(layer, torch.nn.Linear) else (4, *(7, 6, 5)[:rank])))
    found = product(trace(torch.nn.Sequential(layer), x), "0", x)
    assert np.allclose(*found, atol=1e-5)


def _one(node: Any, shape: list[int], **arrays: Any) -> Editable:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    return onnx.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


RNG = np.random.default_rng(0)
NODES = {
    "Gemm": (helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="one"), [5, 4], (4, 6), (6,)),
    "Gemm, turned": (helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="one", transB=1), [5, 4], (6, 4), (6,)),
    "MatMul": (helper.make_node("MatMul", ["x", "w"], ["y"], name="one"), [2, 5, 4], (4, 6), None),
    "Conv": (
        helper.make_node("Conv", ["x", "w", "b"], ["y"], name="one", pads=[1, 0, 2, 1], strides=[2, 1]),
        [2, 4, 7, 6],
        (6, 4, 3, 3),
        (6,),
    ),
    "Conv, depthwise": (
        helper.make_node("Conv", ["x", "w"], ["y"], name="one", group=4, auto_pad="SAME_LOWER"),
        [2, 4, 7, 6],
        (4, 1, 2, 4),
        None,
    ),
    "ConvTranspose": (
        helper.make_node(
            "ConvTranspose",
            ["x", "w", "b"],
            ["y"],
            name="one",
            strides=[2, 3],
            pads=[1, 0, 0, 1],
            output_padding=[1, 0],
        ),
        [2, 4, 5, 6],
        (4, 3, 3, 2),
        (3,),
    ),
    "Conv, upper": (
        helper.make_node("Conv", ["x", "w"], ["y"], name="one", auto_pad="SAME_UPPER", strides=[2, 2]),
        [2, 4, 7, 6],
        (5, 4, 2, 4),
        None,
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_of_onnx(name: str) -> None:
    node, shape, weight, bias = NODES[name]
    arrays = {"w": RNG.normal(size=weight)} | ({} if bias is None else {"b": RNG.normal(size=bias)})
    model = _one(node, shape, **arrays)
    assert np.allclose(*product(model, "one", RNG.normal(size=shape).astype(np.float32)), atol=1e-5)


@pytest.mark.parametrize("scale", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}])
def test_other_products_are_left_alone(scale: dict[str, Any]) -> None:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="one", **scale)
    model = _one(node, [4, 4], w=RNG.normal(size=(4, 6)), b=RNG.normal(size=6))
    assert model.fittable(model.graph.vertex("one")) is None


def test_a_weight_comes_back_from_its_matrix() -> None:
    linear = Linear("v", 0, "w", (2, 0, 1), None)
    weight = RNG.normal(size=(3, 4, 6))
    assert np.array_equal(linear.weight_of(linear.matrix(weight, 1), weight), weight)
    assert np.array_equal(linear.weight_of(linear.matrix(weight, 2), weight), weight)


def test_rows_are_drawn_alike_for_alike_positions() -> None:
    net = Network(seed=1)
    net.output(nn.conv(net.input("x", (2, 9, 9)), 3, 3, name="conv"))
    linear = net.fittable(net.graph.vertex("conv"))
    assert isinstance(linear, Linear)
    x = RNG.normal(size=(4, 2, 9, 9))
    weight = np.asarray(net.arrays["conv.weight"])
    rows = linear.rows(x, weight, 20, 3)
    assert rows.shape == (1, 20, 18)
    # One channel alone has the same positions.
    assert np.array_equal(linear.rows(x[:, :1], weight[:, :1], 20, 3), rows[:, :, :9])
    assert not np.array_equal(linear.rows(x, weight, 20, 4), rows)


def test_biases_of_their_own_are_sums() -> None:
    node = helper.make_node("Add", ["x", "b"], ["y"], name="one")
    model = _one(node, [2, 4, 5], b=np.ones((4, 1)))
    found = model.fittable(model.graph.vertex("one"))
    assert isinstance(found, Shift)
    assert found.axis == -2
    assert np.allclose(along(np.arange(40.0).reshape(2, 4, 5), -2).mean(axis=0), [12, 17, 22, 27])
    table = _one(node, [2, 4, 5], b=np.ones((4, 5)))
    assert table.fittable(table.graph.vertex("one")) is None
